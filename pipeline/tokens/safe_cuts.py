"""Where a text may be cut so that byte-pair merges of the parts, put together, are those of the whole.

A merge joins two neighbouring characters for good: the last of what stands on its left and the first of what stands on
its right. Where no merge of the vocabulary joins a character to the one behind it, none ever crosses the place between
them; the merges on one side then see nothing of the other. SentencePiece's vocabularies join nothing to a blank behind
it, so a text falls into words, and these into parts; a script without blanks falls apart at pairs of characters that
no piece holds.

Blanks count as ▁, which SentencePiece writes for them.
"""

import string
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.filters.eight_bytes import count_letters
from tokenmill.kernels import helper, kernel
from tokenmill.pipeline.tokens.scanner import char_bytes, point_at

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

#: ▁, and the blank that stands for it in UTF-8.
MARK, BLANK = 0x2581, 0x20
_ASCII = 0x80
_APART, _JOINED, _LETTERS = range(3)
_POINT_BITS = 21
_ODD = np.uint64(0x9E3779B97F4A7C15)
_ONE, _SIX, _LOW6 = np.uint64(1), np.uint64(6), np.uint64(63)


class Joined(NamedTuple):
    """Which characters some merge joins to the one behind them.

    Attributes:
        ascii: uint8[2^14], not 0 at `left << 7 | right`, a blank for ▁; 2 of all letters, so that words stay whole.
        bits: uint64[2^k], a bit a hash of any pair. Where two pairs share one, a cut may be missed; none is wrong.
    """

    ascii: U8
    bits: U64


def joined_pairs(pairs: Iterable[tuple[str, str]]) -> Joined:
    """The tables of some pairs of characters."""
    keys = np.array([ord(left) << _POINT_BITS | ord(right) for left, right in set(pairs)], np.uint64)
    bits = np.zeros(1 << max(4, (len(keys) // 4).bit_length()), np.uint64)  # 16 to 32 bits a pair
    ascii_pairs = np.zeros((_ASCII, _ASCII), np.uint8)
    _fill(keys, ascii_pairs.ravel(), bits)
    letters = np.frombuffer(string.ascii_letters.encode(), np.uint8)
    ascii_pairs[np.ix_(letters, letters)] = _LETTERS
    return Joined(ascii_pairs.ravel(), bits)


@helper
def _bit(left: int, right: int, bits: U64) -> np.uint64:
    mixed = (np.uint64(left) << np.uint64(_POINT_BITS) | np.uint64(right)) * _ODD
    return (mixed ^ (mixed >> np.uint64(29))) * _ODD >> np.uint64(20) & np.uint64(64 * bits.shape[0] - 1)


@kernel
def _fill(keys: U64, ascii_pairs: U8, bits: U64) -> None:
    for i in range(keys.shape[0]):
        key = keys[i]
        left, right = np.int64(key >> np.uint64(_POINT_BITS)), np.int64(key) & ((1 << _POINT_BITS) - 1)
        bit = _bit(left, right, bits)
        bits[bit >> _SIX] |= _ONE << (bit & _LOW6)
        left, right = np.int64(BLANK) if left == MARK else left, np.int64(BLANK) if right == MARK else right
        if left < _ASCII and right < _ASCII:
            ascii_pairs[left * _ASCII + right] = _JOINED


@helper
def symbol_at(data: U8, at: int) -> int:
    """Code point of the character at a place, ▁ of a blank."""
    point = point_at(data, at)
    return MARK if point == BLANK else point


@helper
def safe_end(data: U8, at: int, end: int, ascii_pairs: U8, bits: U64) -> int:
    """Place of the first safe cut behind the character at a place, or the end; see `Joined`."""
    while True:
        if data[at] < _ASCII:
            at += 1
            while at < end and data[at] < _ASCII:
                found = ascii_pairs[int(data[at - 1]) * _ASCII + data[at]]
                if found == _APART:
                    return at
                at += max(1, count_letters(data, at, end)) if found == _LETTERS else 1
            lead = int(data[at - 1])
        else:
            lead = point_at(data, at)
            at += char_bytes(data[at])
        if at >= end:
            return at
        bit = _bit(MARK if lead == BLANK else lead, symbol_at(data, at), bits)
        if not bits[bit >> _SIX] >> (bit & _LOW6) & _ONE:
            return at
