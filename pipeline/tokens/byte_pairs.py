"""Byte-pair merges of one piece (Sennrich et al. 2016): the pair of lowest rank first, of equals the leftmost.

Ranks of pairs of ids are looked up in a table with open addressing: `(key · odd) >> 32`, cut to the table's size, then
the next row. A row is one word, left id << 42 | right id << 21 | rank: the less there is, the more of it is in a core's
cache.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.filters.eight_bytes import leading_zeros, trailing_zeros
from tokenmill.kernels import helper, kernel
from tokenmill.pipeline.tokens.added_pieces import Unknown

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_BITS = np.uint64(21)
_RANK = np.uint64((1 << 21) - 1)
#: What stands for the rank of two ids that make nothing.
NO_RANK = np.uint64(0xFFFFFFFF)
_LOW = np.uint64(32)
_MASK = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
_PLACE_BITS, _PLACE = np.uint64(6), np.uint64(63)
_NO_PAIR = NO_RANK << _PLACE_BITS
#: From so many tokens on, a heap finds the next pair; below, looking at all of them is faster.
HEAP_FROM = 65
#: Room a piece of n bytes needs, in uint64: see `merge_ids`.
ROOM_PER_BYTE = 4


class Pairs(NamedTuple):
    """Merges.

    Attributes:
        rows: uint64[2^k], see the module; all ones where there is none.
        made: uint32[merges], the id that the merge of each rank makes.
    """

    rows: U64
    made: U32


def pair_table(merges: Sequence[tuple[int, int, int]]) -> Pairs:
    """The table of (left, right, made) in order of rank; of equal pairs the last counts.

    Raises Unknown for ids or ranks that pass 21 bits.
    """
    left, right, made = np.array(merges, np.uint64).reshape(-1, 3).T
    largest = max(len(merges), *(int(ids.max(initial=0)) for ids in (left, right)))
    if largest >= int(_RANK):
        raise Unknown(f"its merges or their ids pass {int(_RANK):,}")
    rows = np.full(1 << max(4, (2 * len(merges)).bit_length()), _EMPTY, np.uint64)
    _insert(left << _BITS | right, rows)
    return Pairs(rows, made.astype(np.uint32))


@kernel
def _insert(keys: U64, rows: U64) -> None:
    last = np.uint64(rows.shape[0] - 1)
    for i in range(keys.shape[0]):
        row = (keys[i] * _ODD >> _LOW) & last
        while rows[row] != _EMPTY and rows[row] >> _BITS != keys[i]:
            row = (row + _ONE) & last
        rows[row] = keys[i] << _BITS | np.uint64(i)


@helper
def rank_of(left: np.uint64, right: np.uint64, rows: U64) -> np.uint64:
    """Rank of the merge of two ids, or NO_RANK."""
    key, last = left << _BITS | right, np.uint64(rows.shape[0] - 1)
    row = (key * _ODD >> _LOW) & last
    while rows[row] >> _BITS != key:
        if rows[row] == _EMPTY:
            return NO_RANK
        row = (row + _ONE) & last
    return rows[row] & _RANK


def first_ranks(first_ids: U32, pairs: Pairs) -> U32:
    """`rank_of` any two bytes, at `left << 8 | right`: uint32[2^16]."""
    ranks = np.empty(1 << 16, np.uint32)
    _fill_first(first_ids, pairs.rows, ranks)
    return ranks


@kernel
def _fill_first(first_ids: U32, rows: U64, ranks: U32) -> None:
    for i in range(256):
        for k in range(256):
            ranks[i << 8 | k] = np.uint32(rank_of(np.uint64(first_ids[i]), np.uint64(first_ids[k]), rows))


@helper
def merge_piece(
    data: U8,
    at: int,
    end: int,
    first_ids: U32,
    first_ranks: U32,
    rows: U64,
    made: U32,
    room: U64,
    out: U32,
    to: int,
) -> int:
    """Write the ids of the bytes at … end to `out` from `to` on: where they end.

    Args:
        data: UTF-8.
        at: first byte of the piece.
        end: behind its last.
        first_ids: uint32[256], the id of each byte.
        first_ranks: see `first_ranks`.
        rows: see `Pairs`.
        made: see `Pairs`.
        room: uint64, ROOM_PER_BYTE a byte at least, to work in.
        out: uint32, with room for end - at ids.
        to: where the ids go.
    """
    n = end - at
    for i in range(n):
        out[to + i] = first_ids[data[at + i]]
    if n == 1:
        return to + 1
    if n >= HEAP_FROM:
        return _merge_by_heap(n, rows, made, room, out, to)
    for i in range(n - 1):
        room[i] = np.uint64(first_ranks[np.int64(data[at + i]) << 8 | data[at + i + 1]])
    return _merge_by_looking(n, rows, made, room, out, to)


@helper
def merge_ids(n: int, rows: U64, made: U32, room: U64, out: U32, to: int) -> int:
    """Merge the n ids, at least one, that stand in `out` from `to` on: where those that are left end."""
    if n == 1:
        return to + 1
    if n >= HEAP_FROM:
        return _merge_by_heap(n, rows, made, room, out, to)
    for i in range(n - 1):
        room[i] = rank_of(np.uint64(out[to + i]), np.uint64(out[to + i + 1]), rows)
    return _merge_by_looking(n, rows, made, room, out, to)


@helper
def _merge_by_looking(n: int, rows: U64, made: U32, room: U64, out: U32, to: int) -> int:
    """`merge_ids` of at most 64, looking at all pairs for the next one; `room` holds the rank of each.

    Nothing is moved meanwhile: a bit of `alive` tells which places hold an id, and what two tokens made stands at the
    place of the left one. A pair is one word, rank << 6 | place, so that the least is the next.
    """
    for i in range(n - 1):
        room[i] = room[i] << _PLACE_BITS | np.uint64(i)
    blocks = (n + 6) >> 3  # of eight pairs
    for i in range(n - 1, blocks << 3):
        room[i] = _EMPTY
    alive, start = _EMPTY >> np.uint64(64 - n), to
    while True:
        least = _least(room, blocks)
        if least >= _NO_PAIR:
            break
        place = least & _PLACE
        out[to + np.int64(place)] = made[least >> _PLACE_BITS]
        bit = _ONE << place
        behind = alive & ~(bit | (bit - _ONE))
        other = behind & (~behind + _ONE)  # the lowest bit
        alive ^= other
        behind ^= other
        room[trailing_zeros(other)] = _EMPTY
        room[place] = _pair(place, trailing_zeros(behind), rows, out, to) if behind else _EMPTY
        before = alive & (bit - _ONE)
        if before:
            left = np.uint64(63) - leading_zeros(before)
            room[left] = _pair(left, place, rows, out, to)
    while alive:
        out[to] = out[start + np.int64(trailing_zeros(alive))]
        alive &= alive - _ONE
        to += 1
    return to


@helper
def _least(room: U64, blocks: int) -> np.uint64:
    """The least of so many times eight words, four at a time: none waits for the one before it."""
    a, b, c, d = room[0], room[1], room[2], room[3]
    for i in range(4, blocks << 3, 4):
        a, b, c, d = min(a, room[i]), min(b, room[i + 1]), min(c, room[i + 2]), min(d, room[i + 3])
    return min(min(a, b), min(c, d))


@helper
def _pair(left: np.uint64, right: np.uint64, rows: U64, out: U32, to: int) -> np.uint64:
    """Rank of the ids at two places, and the left one."""
    first, second = out[to + np.int64(left)], out[to + np.int64(right)]
    return rank_of(np.uint64(first), np.uint64(second), rows) << _PLACE_BITS | left


@helper
def _merge_by_heap(n: int, rows: U64, made: U32, room: U64, out: U32, to: int) -> int:
    """`merge_ids` in time n log n: a heap of rank << 32 | place, and links to the neighbours of each place.

    What two tokens made stands at the place of the left one; the right one's id becomes all ones. A pair in the heap
    counts only if what stands there still makes something of that rank.
    """
    gone = np.uint32(_MASK)
    size = 0
    for i in range(n):
        room[i] = np.uint64(i - 1) << _LOW | np.uint64(i + 1)  # links; the first's left neighbour is never asked for
    for i in range(n - 1):
        size = _push(i, i + 1, rows, room, n, size, out, to)
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
        rank = rank_of(np.uint64(out[to + place]), np.uint64(out[to + other]), rows)
        if rank == NO_RANK or rank != top >> _LOW:
            continue
        out[to + place] = made[rank]
        out[to + other] = gone
        behind = np.int64(room[other] & _MASK)
        room[place] = room[place] >> _LOW << _LOW | np.uint64(behind)
        if behind < n:
            room[behind] = (room[behind] & _MASK) | np.uint64(place) << _LOW
            size = _push(place, behind, rows, room, n, size, out, to)
        if place > 0:
            before = np.int64(room[place] >> _LOW)
            size = _push(before, place, rows, room, n, size, out, to)
    left = to
    for i in range(n):
        if out[to + i] != gone:
            out[left] = out[to + i]
            left += 1
    return left


@helper
def _push(left: int, right: int, rows: U64, room: U64, n: int, size: int, out: U32, to: int) -> int:
    """Add the pair at two places to the heap behind the links, if it makes something; the heap's size."""
    rank = rank_of(np.uint64(out[to + left]), np.uint64(out[to + right]), rows)
    if rank == NO_RANK:
        return size
    one = rank << _LOW | np.uint64(left)
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
