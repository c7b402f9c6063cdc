"""Added tokens that are pieces of text: where they stand, a text is cut before anything else is done to it."""

import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.dedup.shingles import text_buffers
from tokenmill.filters.eight_bytes import count_letters, find_byte
from tokenmill.kernels import helper, kernel

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]


class Unknown(ValueError):
    """What of a tokenizer a fast path does not know."""


class Added(NamedTuple):
    """Added tokens that are pieces of text, in the order of their bytes; none begins with an ASCII letter.

    Attributes:
        begins: int64[257], where those of each first byte begin.
        bounds: int64[n+1], where each lies in `data`.
        data: uint8.
        ids: uint32[n].
    """

    begins: I64
    bounds: I64
    data: U8
    ids: U32


def plain_added(tokens: Sequence[Mapping[str, Any]]) -> dict[bytes, int]:
    """Ids of added tokens that are found as they stand. Raises Unknown where one is found in another way."""
    for token in tokens:
        if token.get("lstrip") or token.get("rstrip") or token.get("single_word"):
            raise Unknown(f"its added token {token['content']!r} is not plain")
        if token["content"][0] in string.ascii_letters:  # where a text has words, none then begins
            raise Unknown(f"its added token {token['content']!r} begins with a letter")
    return {token["content"].encode(): token["id"] for token in tokens}


def added_pieces(added: Mapping[bytes, int]) -> Added:
    """The table of some pieces and their ids."""
    ordered = sorted(added)
    begins = np.searchsorted([piece[0] for piece in ordered], np.arange(257)).astype(np.int64)
    bounds = np.zeros(len(ordered) + 1, np.int64)
    np.cumsum([len(piece) for piece in ordered], out=bounds[1:])
    ids = np.array([added[piece] for piece in ordered], np.uint32)
    return Added(begins, bounds, np.frombuffer(b"".join(ordered), np.uint8), ids)


def with_blank(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Texts with a blank in front; an empty one and a null stay as they are."""
    nothing, blank = (pa.scalar(text, texts.type) for text in ("", " "))
    return pc.if_else(pc.equal(texts, nothing), texts, pc.binary_join_element_wise(nothing, texts, blank))


def count_pieces(texts: pa.LargeStringArray, pieces: Added) -> int:
    """How often the texts hold one of the pieces, from the left and the longest first; nulls hold none.

    One that begins with an ASCII letter counts where a run of letters begins, not within.
    """
    data, bounds = text_buffers(texts)
    return int(_count(data, bounds, texts.is_valid().to_numpy(zero_copy_only=False), *pieces[:3]))


@kernel
def _count(data: U8, bounds: I64, present: BOOL, begins: I64, piece_bounds: I64, pieces: U8) -> int:
    count = 0
    for i in range(present.shape[0]):
        at, end = bounds[i], bounds[i + 1] if present[i] else bounds[i]
        while at < end:
            at, which = find_added(data, at, end, begins, piece_bounds, pieces)
            if which >= 0:
                at += piece_bounds[which + 1] - piece_bounds[which]
                count += 1
    return count


@helper
def find_added(data: U8, at: int, end: int, begins: I64, bounds: I64, pieces: U8) -> tuple[int, int]:
    """Place of the first added piece from `at` on, the longest there, and which it is; (end, -1): none."""
    if bounds.shape[0] == 1:
        return end, -1
    alike = begins[np.int64(pieces[0]) + 1] == bounds.shape[0] - 1  # all begin with one byte, mostly <
    while at < end:
        if alike:
            at = find_byte(data, at, end, pieces[0])
            if at == end:
                break
        if begins[data[at]] < begins[data[at] + 1]:
            which = _longest_added(data, at, end, begins, bounds, pieces)
            if which >= 0:
                return at, which
        at += max(1, count_letters(data, at, end))
    return end, -1


@helper
def _longest_added(data: U8, at: int, end: int, begins: I64, bounds: I64, pieces: U8) -> int:
    """The longest added piece at a place, or -1: those that share ever more bytes with the text lie together."""
    low, high, depth, longest = begins[data[at]], begins[data[at] + 1], 1, -1
    while low < high:
        if bounds[low + 1] - bounds[low] == depth:  # the shortest comes first
            longest = low
            low += 1
        if low == high or at + depth == end:
            return longest
        byte = data[at + depth]
        if pieces[bounds[high - 1] + depth] < byte:
            return longest
        while low < high and pieces[bounds[low] + depth] < byte:
            low += 1
        while low < high and pieces[bounds[high - 1] + depth] > byte:
            high -= 1
        depth += 1
    return longest
