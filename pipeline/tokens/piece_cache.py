"""Pieces seen before and their ids: two tables of fixed size, so memory is bounded whatever the text.

Bytes are compared, never hashes alone. What a table has forgotten is merged again: the ids are the same either way.

- `short`, uint64[2^k, 4]: pieces of at most 15 bytes with at most 3 ids, two in a cache line. A row is the bytes (the
  16th is their number), then id 0 | id 1 << 32 and id 2 | number of ids << 32. A piece may stand in one row of two; a
  new one takes the first, what stood there the second.
- `long`, uint64[2^k, 2], and `kept`, uint32: all other pieces. A row is a hash and the place in `kept` of: number of
  bytes, number of ids, the bytes in words of four, the ids. When `kept` is full, all are forgotten.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.filters.eight_bytes import load8
from tokenmill.kernels import helper

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

CACHE_BYTES = 32 << 20
#: Pieces of more bytes are merged each time.
LONGEST = 512
_SHORT_BYTES, _SHORT_IDS = 15, 3
_ONE, _THREE, _EIGHT, _SIXTEEN, _LOW = np.uint64(1), np.uint64(3), np.uint64(8), np.uint64(16), np.uint64(32)
_MASK = np.uint64(0xFFFFFFFF)
_LENGTH = np.uint64(56)
_SIXTY_FOUR = np.uint64(64)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_M1, _M2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


class PieceCache(NamedTuple):
    """See the module. `used`, int64[1]: how much of `kept` is used; place 0 stands for nothing."""

    short: U64
    long: U64
    kept: U32
    used: I64


def piece_cache(cache_bytes: int) -> PieceCache:
    """An empty cache of at most so many bytes, at least 4 KiB: half of it for short pieces."""
    rows = 1 << max(6, (cache_bytes // 2 // 32).bit_length() - 1)
    long_rows = max(64, rows // 2)
    kept = max(1 << 10, (cache_bytes - rows * 32 - long_rows * 16 - 8) // 4)
    short, long = np.zeros((rows, 4), np.uint64), np.zeros((long_rows, 2), np.uint64)
    return PieceCache(short, long, np.zeros(kept, np.uint32), np.ones(1, np.int64))


@helper
def first_bytes(data: U8, at: int, number: int) -> np.uint64:
    """At most eight bytes as one little-endian integer."""
    if at + 8 <= data.shape[0]:
        if number >= 8:
            return load8(data, at)
        return load8(data, at) & ((_ONE << np.uint64(8 * number)) - _ONE)
    word = np.uint64(0)
    for i in range(min(number, 8)):
        word |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return word


@helper
def _row_of(low: np.uint64, high: np.uint64, rows: int) -> int:
    mixed = (low ^ (high * _M1)) * _M2
    mixed = (mixed ^ (mixed >> _LOW)) * _M1
    return int(np.int64((mixed >> _LOW) & np.uint64(rows - 1)))


@helper
def short_row(data: U8, at: int, number: int, short: U64) -> int:
    """Row of a piece of at most 15 bytes, or -1 where the table has it not; no branch hangs on what memory holds."""
    low = first_bytes(data, at, number)
    high = np.uint64(number) << _LENGTH
    if number > 8:
        high |= first_bytes(data, at + 8, number - 8)
    row = _row_of(low, high, short.shape[0])
    here = (short[row, 0] == low) & (short[row, 1] == high)
    there = (short[row ^ 1, 0] == low) & (short[row ^ 1, 1] == high)
    return (row ^ there) | -(not (here | there))


@helper
def short_ids(short: U64, row: int, out: U32, to: int) -> int:
    """Write the ids of the piece in a row of `short`: where they end."""
    first, rest = short[row, 2], short[row, 3]
    out[to] = np.uint32(first & _MASK)
    count = int(np.int64(rest >> _LOW))
    if count > 1:
        out[to + 1] = np.uint32(first >> _LOW)
        if count > 2:
            out[to + 2] = np.uint32(rest & _MASK)
    return to + count


@helper
def keep_short(data: U8, at: int, number: int, short: U64, out: U32, to: int, count: int) -> None:
    """Remember a piece of at most 15 bytes with its 1 to 3 ids."""
    low = first_bytes(data, at, number)
    high = np.uint64(number) << _LENGTH
    if number > 8:
        high |= first_bytes(data, at + 8, number - 8)
    row = _row_of(low, high, short.shape[0])
    for k in range(4):
        short[row ^ 1, k] = short[row, k]
    short[row, 0], short[row, 1] = low, high
    short[row, 2] = np.uint64(out[to])
    short[row, 3] = np.uint64(count) << _LOW
    if count > 1:
        short[row, 2] |= np.uint64(out[to + 1]) << _LOW
    if count > 2:
        short[row, 3] |= np.uint64(out[to + 2])


@helper
def keep_scanned(data: U8, at: int, count: int, ends: I64, rows: I64, starts: I64, short: U64, out: U32) -> None:
    """Remember those of the scanned pieces that were new; only now, since a new row moves others."""
    for i in range(count):
        number, ids = ends[i] - at, starts[i + 1] - starts[i]
        if rows[i] == -1 and number <= 15 and ids <= 3:
            keep_short(data, at, number, short, out, starts[i], ids)
        at = ends[i]


@helper
def hash_bytes(data: U8, at: int, number: int) -> np.uint64:
    """A hash of some bytes, never 0."""
    mixed = np.uint64(number) * _M1
    for i in range(0, number, 8):
        mixed = (mixed ^ first_bytes(data, at + i, number - i)) * _M2
        mixed ^= mixed >> _LOW
    mixed *= _M1
    return mixed ^ (mixed >> _LOW) | _ONE


@helper
def find_long(data: U8, at: int, number: int, mixed: np.uint64, long: U64, kept: U32, out: U32, to: int) -> int:
    """Write the ids of any other piece: where they end, or -1 where the table has it not."""
    row = np.int64((mixed >> _SIXTEEN) & np.uint64(long.shape[0] - 1))
    if long[row, 0] != mixed:
        row ^= 1
        if long[row, 0] != mixed:
            return -1
    place = np.int64(long[row, 1])
    if np.int64(kept[place]) != number:
        return -1
    count = int(kept[place + 1])
    place += 2
    for i in range(0, number, 4):
        if kept[place] != np.uint32(first_bytes(data, at + i, min(4, number - i))):
            return -1
        place += 1
    for i in range(count):
        out[to + i] = kept[place + i]
    return to + count


@helper
def keep_long(
    data: U8, at: int, number: int, mixed: np.uint64, long: U64, kept: U32, used: I64, out: U32, to: int, count: int
) -> None:
    """Remember any other piece; not one that would take a quarter of the room."""
    need = 2 + (number + 3) // 4 + count
    if 4 * need > kept.shape[0]:
        return
    if used[0] + need > kept.shape[0]:
        for i in range(long.shape[0]):
            long[i, 0] = long[i, 1] = np.uint64(0)
        used[0] = 1
    row = np.int64((mixed >> _SIXTEEN) & np.uint64(long.shape[0] - 1))
    long[row ^ 1, 0], long[row ^ 1, 1] = long[row, 0], long[row, 1]
    place = used[0]
    long[row, 0], long[row, 1] = mixed, np.uint64(place)
    kept[place], kept[place + 1] = np.uint32(number), np.uint32(count)
    place += 2
    for i in range(0, number, 4):
        kept[place] = np.uint32(first_bytes(data, at + i, min(4, number - i)))
        place += 1
    for i in range(count):
        kept[place + i] = out[to + i]
    used[0] += need
