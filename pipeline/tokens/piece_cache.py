"""Pieces seen before and their ids: two tables of fixed size, so memory is bounded whatever the text.

Bytes are compared, never hashes alone. What a table has forgotten is merged again: the ids are the same either way.

- `short`, uint64[2^k, 4]: pieces of at most 15 bytes with at most 5 ids below 2^24, two in a cache line. A row is the
  bytes (the 16th is their number), then the ids, three bytes each (the 16th is their number). A piece may stand in one
  row of two; a new one takes the first, what stood there the second.
- `long`, uint64[2^k, 2], and `kept`, uint32: pieces of 16 to LONGEST bytes. A row is a hash and the place in `kept` of:
  number of bytes, number of ids, the bytes in words of four, the ids. When `kept` is full, all are forgotten.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core.cgutils import create_struct_proxy, get_or_insert_function
from numba.extending import intrinsic

from tokenmill.filters.eight_bytes import load8
from tokenmill.kernels import helper

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


def _prefetch(typingctx, array, index):  # type: ignore[no-untyped-def]
    """Ask for the line of memory that holds a word, and go on."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        view = create_struct_proxy(signature.args[0])(context, builder, arguments[0])  # type: ignore[no-untyped-call]
        address = builder.bitcast(builder.gep(view.data, [arguments[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        function = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
        prefetch = get_or_insert_function(builder.module, function, "llvm.prefetch.p0i8")  # type: ignore[no-untyped-call]
        builder.call(prefetch, [address, flag(0), flag(3), flag(1)])  # to read, to stay, data
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


prefetch: Any = intrinsic(_prefetch)

CACHE_BYTES = 32 << 20
#: Pieces of more bytes are merged each time, and short ones of more ids.
LONGEST = 512
#: What a row of `short` holds, and how many ids `short_ids` may write, of which fewer count.
SHORT_BYTES, SHORT_IDS = 15, 5
_ONE, _SIXTEEN, _LOW, _TOP = np.uint64(1), np.uint64(16), np.uint64(32), np.uint64(56)
_EIGHT, _ID_BITS, _TWO_IDS = np.uint64(8), np.uint64(24), np.uint64(48)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ID = np.uint64((1 << 24) - 1)
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
    kept = max(1 << 10, (cache_bytes - rows * 32 - long_rows * 16 - 64) // 4)
    words = np.zeros(4 * rows + 7, np.uint64)
    first = -words.ctypes.data // 8 % 8  # so that two rows are one line of a core's cache
    short, long = words[first : first + 4 * rows].reshape(rows, 4), np.zeros((long_rows, 2), np.uint64)
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
def _short_key(data: U8, at: int, number: int) -> tuple[np.uint64, np.uint64]:
    """The bytes of a piece of 1 to 15 bytes and their number; no branch hangs on that."""
    if at + 16 <= data.shape[0]:
        low = load8(data, at) & (_ALL >> np.uint64(64 - 8 * min(number, 8)))
        high = load8(data, at + 8) & ((_ONE << np.uint64(8 * max(number - 8, 0))) - _ONE)
    else:
        low = first_bytes(data, at, number)
        high = first_bytes(data, at + 8, number - 8) if number > 8 else np.uint64(0)
    return low, high | np.uint64(number) << _TOP


@helper
def short_row(data: U8, at: int, number: int, short: U64) -> int:
    """First of the two rows where a piece of 1 to 15 bytes may stand; they are fetched from memory meanwhile."""
    low, high = _short_key(data, at, number)
    row = _row_of(low, high, short.shape[0])
    prefetch(short, 4 * row)
    return row


@helper
def find_short(data: U8, at: int, number: int, row: int, short: U64) -> int:
    """The row where the piece stands, `row` or the one beside it, or -1; no branch hangs on what memory holds."""
    low, high = _short_key(data, at, number)
    here = (short[row, 0] == low) & (short[row, 1] == high)
    there = (short[row ^ 1, 0] == low) & (short[row ^ 1, 1] == high)
    return (row ^ there) | -(not (here | there))


@helper
def short_ids(short: U64, row: int, out: U32, to: int) -> int:
    """Write the ids of the piece in a row of `short`: where they end. Up to SHORT_IDS places of `out` are written."""
    first, rest = short[row, 2], short[row, 3]
    out[to] = np.uint32(first & _ID)
    out[to + 1] = np.uint32((first >> _ID_BITS) & _ID)
    count = int(np.int64(rest >> _TOP))
    if count > 2:
        out[to + 2] = np.uint32((first >> _TWO_IDS) | (rest << _SIXTEEN & _ID))
        out[to + 3] = np.uint32((rest >> _EIGHT) & _ID)
        out[to + 4] = np.uint32((rest >> _LOW) & _ID)
    return to + count


@helper
def is_short(number: int, out: U32, to: int, count: int) -> bool:
    """Whether a row of `short` holds so many bytes and these ids."""
    if number > SHORT_BYTES or count > SHORT_IDS:
        return False
    any_bits = np.uint32(0)
    for k in range(count):
        any_bits |= out[to + k]
    return bool(np.uint64(any_bits) <= _ID)


@helper
def keep_short(data: U8, at: int, number: int, row: int, short: U64, out: U32, to: int, count: int) -> None:
    """Remember a piece that `is_short` in its `short_row`."""
    low, high = _short_key(data, at, number)
    for k in range(4):
        short[row ^ 1, k] = short[row, k]
    short[row, 0], short[row, 1] = low, high
    first, rest = np.uint64(out[to]), np.uint64(count) << _TOP
    if count > 1:
        first |= np.uint64(out[to + 1]) << _ID_BITS
    if count > 2:
        first |= np.uint64(out[to + 2]) << _TWO_IDS
        rest |= np.uint64(out[to + 2]) >> _SIXTEEN
    if count > 3:
        rest |= np.uint64(out[to + 3]) << _EIGHT
    if count > 4:
        rest |= np.uint64(out[to + 4]) << _LOW
    short[row, 2], short[row, 3] = first, rest


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
