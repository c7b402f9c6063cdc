"""The form in which texts are compared: Unicode NFC, runs of white space one space, none at either end.

Nearly all texts are in NFC as they stand, and a kernel sees that; the others go through Python's `unicodedata`.
"""

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from tokenmill.filters.eight_bytes import copy_single_blanks, find_from_cc
from tokenmill.filters.scan import I64, U8, character_at, skip_space, space_at, text_bytes
from tokenmill.kernels import helper, kernel


def normalised_texts(texts: pa.LargeStringArray) -> tuple[U8, I64, I64]:
    """Texts in the form in which they are compared, one after another.

    Args:
        texts: n; a null is taken for an empty text.

    Returns:
        UTF-8, uint8; and int64[n] each, where the text begins and ends in it.
    """
    data, bounds = text_bytes(pc.fill_null(texts, ""))
    marked = np.flatnonzero(have_marked(data, bounds[:-1], bounds[1:], composing()))
    composed: list[str] = [unicodedata.normalize("NFC", texts[row].as_py()) for row in marked.tolist()]
    more, more_bounds = text_bytes(pa.array(composed, pa.large_string()))
    starts, ends = bounds[:-1].copy(), bounds[1:].copy()
    starts[marked], ends[marked] = more_bounds[:-1] + len(data), more_bounds[1:] + len(data)
    data = np.concatenate([data, more]) if len(marked) else data
    out, found_starts, found_ends = np.empty(len(data), np.uint8), np.empty_like(starts), np.empty_like(ends)
    _squeeze_each(data, starts, ends, out, found_starts, found_ends)
    return out, found_starts, found_ends


@cache
def composing() -> U8:
    """For each code point 1 where NFC may change a text that holds it: uint8[0x110000].

    A text of others is in NFC: none of them is composed or decomposed, moves, or joins the one before it.
    """
    marked = np.zeros(0x110000, np.uint8)
    marked[0x1161:0x1176] = marked[0x11A8:0x11C3] = 1  # what Hangul syllables end with
    for code in (*range(0xC0, 0xD800), *range(0xF900, 0x34000), *range(0xE0000, 0xE01F0)):  # all that are assigned
        character = chr(code)
        parts = unicodedata.decomposition(character)
        if unicodedata.combining(character) or (parts and not unicodedata.is_normalized("NFC", character)):
            marked[code] = 1
        if parts and parts[0] != "<":
            marked[[int(part, 16) for part in parts.split()[1:]]] = 1
    marked.flags.writeable = False
    return marked


@njit(nogil=True, cache=True)
def have_marked(data: U8, starts: I64, ends: I64, marked: U8) -> npt.NDArray[np.bool_]:
    """Whether spans of bytes hold a marked code point, from U+0300 on: bool[n]."""
    found = np.zeros(len(starts), np.bool_)
    for k in range(len(starts)):
        at, end = find_from_cc(data, starts[k], ends[k]), ends[k]
        while at < end:
            code, size = character_at(data, at)
            if marked[code]:
                found[k] = True
                break
            at += size
            if at < end and data[at] < 0xCC:
                at = find_from_cc(data, at, end)
    return found


@kernel
def _squeeze_each(data: U8, starts: I64, ends: I64, out: U8, out_starts: I64, out_ends: I64) -> None:
    """Write spans of bytes with runs of white space as one space, stripped, one after another."""
    size = 0
    for k in range(len(starts)):
        out_starts[k] = size
        size += squeeze(data, starts[k], ends[k], out[size:])
        out_ends[k] = size


@helper
def squeeze(data: U8, at: int, end: int, line: U8) -> int:
    """Write bytes at … end to `line`, runs of white space one space, stripped; how many are written."""
    size = 0
    while at < end:
        copied = copy_single_blanks(data, at, end, line, size)
        at += copied
        size += copied
        if at == end:
            break
        space = space_at(data, at, end)
        if space == 0:  # a byte like the first of white space; the others of its character are copied as they stand
            line[size] = data[at]
            size += 1
            at += 1
            continue
        if size and line[size - 1] != 0x20:
            line[size] = 0x20
            size += 1
        at = skip_space(data, at + space, end)
    return size - 1 if size and line[size - 1] == 0x20 else size
