"""Byte-pair merges of one piece (Sennrich et al. 2016): the pair of lowest rank first, of equals the leftmost.

Pairs of token ids are looked up in a table with open addressing: row `(key · odd) >> shift`, then the next; a row is
(left id << 32 | right id, rank << 32 | id of what they make), both uint64.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.kernels import helper

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_NO_RANK = np.uint64(0xFFFFFFFF)
_LOW = np.uint64(32)
_MASK = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
#: From so many tokens on, a heap finds the next pair; below, looking at all of them is faster.
HEAP_FROM = 128
#: Room a piece of n bytes needs, in uint64: see `merge_ids`.
ROOM_PER_BYTE = 4


def pair_table(merges: Sequence[tuple[int, int, int]]) -> U64:
    """Table of (left, right, made) in order of rank; of equal pairs the last counts: uint64[2^k, 2]."""
    bits = max(4, (2 * len(merges)).bit_length())
    table = np.full((1 << bits, 2), _EMPTY, np.uint64)
    left, right, made = np.array(merges, np.uint64).reshape(-1, 3).T
    values = np.arange(len(merges), dtype=np.uint64) << _LOW | made
    _insert(left << _LOW | right, values, table, table_shift(table))
    return table


def table_shift(table: U64) -> np.uint64:
    """By how much a mixed key is shifted to be a row of the table."""
    return np.uint64(65 - len(table).bit_length())


@njit(nogil=True, cache=True)
def _insert(keys: U64, values: U64, table: U64, shift: np.uint64) -> None:
    for i in range(keys.shape[0]):
        row = (keys[i] * _ODD) >> shift
        while table[row, 0] != _EMPTY and table[row, 0] != keys[i]:
            row = (row + _ONE) & np.uint64(table.shape[0] - 1)
        table[row, 0] = keys[i]
        table[row, 1] = values[i]


@helper
def made_of(left: np.uint64, right: np.uint64, pairs: U64, shift: np.uint64) -> np.uint64:
    """Rank << 32 | id of what two tokens make, or all ones."""
    key = left << _LOW | right
    row = (key * _ODD) >> shift
    while pairs[row, 0] != key:
        if pairs[row, 0] == _EMPTY:
            return _EMPTY
        row = (row + _ONE) & np.uint64(pairs.shape[0] - 1)
    return pairs[row, 1]


@helper
def merge_piece(
    data: U8, at: int, end: int, first_ids: U32, pairs: U64, shift: np.uint64, room: U64, out: U32, to: int
) -> int:
    """Write the ids of the bytes at … end to `out` from `to` on: where they end.

    Args:
        data: UTF-8.
        at: first byte of the piece.
        end: behind its last.
        first_ids: uint32[256], the id of each byte.
        pairs: see `pair_table`.
        shift: its `table_shift`.
        room: uint64, ROOM_PER_BYTE a byte at least, to work in.
        out: uint32, with room for end - at ids.
        to: where the ids go.
    """
    for i in range(end - at):
        out[to + i] = first_ids[data[at + i]]
    return merge_ids(end - at, pairs, shift, room, out, to)


@helper
def merge_ids(n: int, pairs: U64, shift: np.uint64, room: U64, out: U32, to: int) -> int:
    """Merge the n ids, at least one, that stand in `out` from `to` on: where those that are left end."""
    if n == 1:
        return to + 1
    if n >= HEAP_FROM:
        return _merge_by_heap(n, pairs, shift, room, out, to)
    for i in range(n - 1):
        room[i] = made_of(np.uint64(out[to + i]), np.uint64(out[to + i + 1]), pairs, shift)
    while n > 1:
        least, best = _EMPTY, -1
        for i in range(n - 1):
            if room[i] >> _LOW < least >> _LOW:
                least, best = room[i], i
        if best < 0:
            break
        out[to + best] = np.uint32(least & _MASK)
        n -= 1
        for i in range(best + 1, n):
            out[to + i] = out[to + i + 1]
        for i in range(best + 1, n - 1):
            room[i] = room[i + 1]
        if best + 1 < n:
            room[best] = made_of(np.uint64(out[to + best]), np.uint64(out[to + best + 1]), pairs, shift)
        if best > 0:
            room[best - 1] = made_of(np.uint64(out[to + best - 1]), np.uint64(out[to + best]), pairs, shift)
    return to + n


@helper
def _merge_by_heap(n: int, pairs: U64, shift: np.uint64, room: U64, out: U32, to: int) -> int:
    """`merge_ids` in time n log n: a heap of rank << 32 | place, and links to the neighbours of each place.

    What two tokens made stands at the place of the left one; the right one's id becomes all ones. A pair in the heap
    counts only if what stands there still makes something of that rank.
    """
    gone = np.uint32(_MASK)
    size = 0
    for i in range(n):
        room[i] = np.uint64(i - 1) << _LOW | np.uint64(i + 1)  # links; the first's left neighbour is never asked for
    for i in range(n - 1):
        size = _push(i, i + 1, pairs, shift, room, n, size, out, to)
    while size:
        top = room[n]
        size -= 1
        _sink(room[n + size], room, n, size)
        place = np.int64(top & _MASK)
        if out[to + place] == gone:
            continue
        other = np.int64(room[place] & _MASK)
        if other >= n:
            continue
        made = made_of(np.uint64(out[to + place]), np.uint64(out[to + other]), pairs, shift)
        if made == _EMPTY or made >> _LOW != top >> _LOW:
            continue
        out[to + place] = np.uint32(made & _MASK)
        out[to + other] = gone
        behind = np.int64(room[other] & _MASK)
        room[place] = room[place] >> _LOW << _LOW | np.uint64(behind)
        if behind < n:
            room[behind] = (room[behind] & _MASK) | np.uint64(place) << _LOW
            size = _push(place, behind, pairs, shift, room, n, size, out, to)
        if place > 0:
            before = np.int64(room[place] >> _LOW)
            size = _push(before, place, pairs, shift, room, n, size, out, to)
    left = to
    for i in range(n):
        if out[to + i] != gone:
            out[left] = out[to + i]
            left += 1
    return left


@helper
def _push(left: int, right: int, pairs: U64, shift: np.uint64, room: U64, n: int, size: int, out: U32, to: int) -> int:
    """Add the pair at two places to the heap behind the links, if it makes something; the heap's size."""
    made = made_of(np.uint64(out[to + left]), np.uint64(out[to + right]), pairs, shift)
    if made == _EMPTY:
        return size
    one = made >> _LOW << _LOW | np.uint64(left)
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if room[n + parent] <= one:
            break
        room[n + child] = room[n + parent]
        child = parent
    room[n + child] = one
    return size + 1


@helper
def _sink(one: np.uint64, room: U64, n: int, size: int) -> None:
    """Put `one` in the place of the heap's least."""
    parent = 0
    while 2 * parent + 1 < size:
        child = 2 * parent + 1
        if child + 1 < size and room[n + child + 1] < room[n + child]:
            child += 1
        if one <= room[n + child]:
            break
        room[n + parent] = room[n + child]
        parent = child
    room[n + parent] = one
