r"""What the filters' kernels share: steps over UTF-8 bytes (white space, hashes, counts), and their way back to Arrow.

White space is `str.isspace`, which is also what `str.strip`, `str.split` and the `\s` of `re` mean. The bytes are
well-formed UTF-8, as in any Arrow string array.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.filters.edits import text_buffers
from tokenmill.filters.eight_bytes import load8
from tokenmill.kernels import helper, kernel

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

_MULTIPLIER, _GOLDEN = np.uint64(0x9FB21C651E98DF25), np.uint64(0x9E3779B97F4A7C15)
_ONE, _BYTE, _S29, _S32 = np.uint64(1), np.uint64(8), np.uint64(29), np.uint64(32)


@helper
def space_at(data: U8, at: int, end: int) -> int:
    """Bytes of the white-space character that begins at `at` < `end`; 0 if it is another character."""
    byte = data[at]
    if byte < 0x80:
        return 1 if byte == 0x20 or 0x09 <= byte <= 0x0D or 0x1C <= byte <= 0x1F else 0
    if byte == 0xC2:
        return 2 if at + 1 < end and (data[at + 1] == 0x85 or data[at + 1] == 0xA0) else 0
    if at + 2 >= end or byte < 0xE1 or byte > 0xE3:
        return 0
    second, third = data[at + 1], data[at + 2]
    if byte == 0xE1:  # U+1680
        return 3 if second == 0x9A and third == 0x80 else 0
    if byte == 0xE3:  # U+3000
        return 3 if second == 0x80 and third == 0x80 else 0
    if second == 0x80:  # U+2000 … U+200A, U+2028, U+2029, U+202F
        return 3 if third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF else 0
    return 3 if second == 0x81 and third == 0x9F else 0  # U+205F


@helper
def skip_space(data: U8, at: int, end: int) -> int:
    """First byte from `at` on that begins no white space, or `end`: `str.lstrip`."""
    while at < end:
        size = space_at(data, at, end)
        if size == 0:
            break
        at += size
    return at


@helper
def trim_space(data: U8, begin: int, end: int) -> int:
    """`end`, moved before the white space that precedes it, at most to `begin`: `str.rstrip`."""
    while end > begin:
        at = end - 1
        while at > begin and data[at] & 0xC0 == 0x80:
            at -= 1
        if space_at(data, at, end) == 0:
            break
        end = at
    return end


@helper
def character_at(data: U8, at: int) -> tuple[int, int]:
    """Code point of the character that begins at `at`, and its bytes."""
    code = int(data[at])
    if code < 0x80:
        return code, 1
    size = 2 if code < 0xE0 else (3 if code < 0xF0 else 4)
    code &= 0x7F >> size
    for k in range(at + 1, at + size):
        code = (code << 6) | (int(data[k]) & 0x3F)
    return code, size


@helper
def count_characters(data: U8, at: int, end: int) -> int:
    """Code points of the bytes."""
    count = 0
    for byte in data[at:end]:
        count += (byte & 0xC0) != 0x80
    return count


@kernel
def count_byte(data: U8, at: int, end: int, byte: int) -> int:
    """How often a byte occurs in at … end."""
    count = 0
    for other in data[at:end]:
        count += int(other == byte)
    return count


@kernel
def hash_bytes(data: U8, at: int, end: int) -> np.uint64:
    """64-bit hash of some bytes, eight at a time: about 2 GB/s; not meant to withstand an adversary."""
    total = np.uint64(end - at) * _GOLDEN
    while at + 8 <= end:
        total = (total ^ load8(data, at)) * _MULTIPLIER
        total ^= total >> _S32
        at += 8
    block = np.uint64(0)
    if at + 8 <= len(data):  # nearly always: no loop over the bytes left, whose number is hard to predict
        block = load8(data, at) & ((_ONE << (_BYTE * np.uint64(end - at))) - _ONE)
    else:
        for k in range(end - at):
            block |= np.uint64(data[at + k]) << (_BYTE * np.uint64(k))
    total = (total ^ block) * _MULTIPLIER
    total = (total ^ (total >> _S29)) * _GOLDEN
    return total ^ (total >> _S32)


@njit(nogil=True, cache=True)
def hash_spans(data: U8, starts: I64, ends: I64) -> U64:
    """Hash of each span of bytes: uint64[n]."""
    hashes = np.empty(len(starts), np.uint64)
    for k in range(len(starts)):
        hashes[k] = hash_bytes(data, starts[k], ends[k])
    return hashes


@njit(nogil=True, cache=True)
def character_counts(data: U8, bounds: I64) -> I64:
    """Code points of each text: int64[n] of texts at `bounds` int64[n + 1] in `data`."""
    counts = np.empty(len(bounds) - 1, np.int64)
    for row in range(len(counts)):
        counts[row] = count_characters(data, bounds[row], bounds[row + 1])
    return counts


def text_bytes(texts: pa.LargeStringArray) -> tuple[U8, I64]:
    """Bytes of a batch of d texts and where each lies: uint8 and int64[d + 1], read-only views of Arrow's buffers."""
    bounds, data = text_buffers(texts)
    return data, bounds


def fractions(part: I64, whole: I64) -> npt.NDArray[np.float64]:
    """`part / whole`, 0 where `whole` is 0; of integers below 2^53, as Python divides them."""
    result = np.zeros(len(whole), np.float64)
    np.divide(part, whole, out=result, where=whole != 0)
    return result


def signal_batch(
    columns: Sequence[npt.NDArray[np.number[Any]]], texts: pa.LargeStringArray, schema: pa.Schema
) -> pa.RecordBatch:
    """Record batch of one row a text, all null where the text is.

    Args:
        columns: values of each column of `schema`; those of a null text are not looked at.
        texts: n texts.
        schema: nullable columns. Raises pa.ArrowInvalid where a count does not fit its column.
    """
    missing = texts.is_null().to_numpy(zero_copy_only=False)
    arrays = [
        pa.array(np.where(missing, 0, column), field.type, mask=missing)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
