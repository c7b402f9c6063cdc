"""Where a pre-tokenizer cuts a text: the patterns in use, each as one pass over UTF-8.

A pattern is a regex of alternatives, the first that matches wins; `gpt2_end` and the like give the end of the
match at a place. What they do is what the pattern in their docstring says, alternative by alternative.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.filters.eight_bytes import count_letters, count_small
from tokenmill.kernels import helper
from tokenmill.pipeline.tokens.letter_classes import LETTER, LOWER, NEWLINE, NUMBER, SPACE, UPPER

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]

#: Kinds of patterns: none (a segment is a piece), GPT-2's, cl100k's and o200k's.
WHOLE, GPT2, CL100K, O200K = range(4)

_APOSTROPHE, _SLASH, _BLANK = 0x27, 0x2F, 0x20
_LONG_S = 0x17F  # folds to s, and is the only letter beyond ASCII that folds to one of a contraction's
_WORD = LETTER | NUMBER | SPACE
#: What may not stand before a word, in its piece.
_NOT_BEFORE = LETTER | NUMBER | NEWLINE


class Pattern(NamedTuple):
    r"""How a text is cut.

    Attributes:
        kind: WHOLE, GPT2, CL100K or O200K.
        digits: of the kind's `\p{N}{1,digits}`; GPT-2's has no bound.
        contractions: whether o200k's words take a contraction along.
        slashes: whether a `/` goes with what newlines follow.
        group_digits: numbers are cut out before, so many digits a piece, -1 for all that follow; 0: they are not.
        numbers: the class that these numbers have, NUMBER or NUMERIC.
    """

    kind: int
    digits: int = 0
    contractions: bool = True
    slashes: bool = False
    group_digits: int = 0
    numbers: int = NUMBER


@helper
def char_bytes(lead: int) -> int:
    """Bytes of a character that begins with `lead`."""
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


@helper
def point_at(data: U8, at: int) -> int:
    """Code point of the character at a place of UTF-8."""
    lead = int(data[at])
    if lead < 0x80:
        return lead
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | (int(data[at + 1]) & 0x3F)
    point = (lead & 0xF) << 12 | (int(data[at + 1]) & 0x3F) << 6 | (int(data[at + 2]) & 0x3F)
    if lead < 0xF0:
        return point
    return (point & 0x7FFF) << 6 | (int(data[at + 3]) & 0x3F)


@helper
def class_at(data: U8, at: int, block: U16, of_block: U8) -> int:
    """Classes of the character at a place; see `letter_classes`."""
    if data[at] < 0x80:
        return int(of_block[data[at]])
    point = point_at(data, at)
    return int(of_block[np.int64(block[point >> 8]) << 8 | point & 0xFF])


@helper
def run_of(data: U8, at: int, end: int, mask: int, block: U16, of_block: U8) -> int:
    """End of the run of characters from `at` on that are of some class in `mask`."""
    while at < end and class_at(data, at, block, of_block) & mask:
        at += char_bytes(data[at])
    return at


@helper
def run_without(data: U8, at: int, end: int, mask: int, block: U16, of_block: U8) -> int:
    """End of the run of characters from `at` on that are of no class in `mask`."""
    while at < end and not class_at(data, at, block, of_block) & mask:
        at += char_bytes(data[at])
    return at


@helper
def letters_end(data: U8, at: int, end: int, block: U16, of_block: U8) -> int:
    """End of the run of letters from `at` on."""
    at += count_letters(data, at, end)
    return run_of(data, at, end, LETTER, block, of_block)


@helper
def digits_end(data: U8, at: int, end: int, most: int, mask: int, block: U16, of_block: U8) -> int:
    """End of the run of at most so many digits from `at` on, characters of a class in `mask`; -1: of all."""
    while most != 0 and at < end and class_at(data, at, block, of_block) & mask:
        at += char_bytes(data[at])
        most -= 1
    return at


@helper
def contraction_end(data: U8, at: int, end: int, fold: bool) -> int:
    """End of `'s|'t|'re|'ve|'m|'ll|'d` at a place, or the place; `fold`: in either case."""
    if at + 1 >= end or data[at] != _APOSTROPHE:
        return at
    case = 0x20 if fold else 0
    one = data[at + 1] | case
    if one == 0x73 or one == 0x74 or one == 0x6D or one == 0x64:  # s t m d
        return at + 2
    if fold and at + 2 < end and data[at + 1] == 0xC5 and data[at + 2] == 0xBF:  # ſ
        return at + 3
    if at + 2 < end:
        two = data[at + 2] | case
        if ((one == 0x72 or one == 0x76) and two == 0x65) or (one == 0x6C and two == 0x6C):  # re ve ll
            return at + 3
    return at


@helper
def spaces_end(data: U8, at: int, end: int, block: U16, of_block: U8) -> int:
    r"""End of `\s+(?!\S)|\s+` at white space: the run, without its last character where another follows it."""
    last = begin = at
    while at < end and class_at(data, at, block, of_block) & SPACE:
        last = at
        at += char_bytes(data[at])
    return at if at == end or last == begin else last


@helper
def blank_end(data: U8, at: int, end: int, block: U16, of_block: U8) -> int:
    r"""End of `\s*[\r\n]+|\s+(?!\S)|\s+` at white space."""
    last, newline, begin = at, -1, at
    while at < end:
        found = class_at(data, at, block, of_block)
        if not found & SPACE:
            break
        last = at
        at += char_bytes(data[at])
        if found & NEWLINE:
            newline = at
    if newline >= 0:
        return newline
    return at if at == end or last == begin else last


@helper
def marks_end(data: U8, at: int, end: int, slashes: bool, block: U16, of_block: U8) -> int:
    r"""End of `[^\s\p{L}\p{N}]+[\r\n]*`, or of `[\r\n/]*` behind it."""
    at = run_without(data, at, end, _WORD, block, of_block)
    while at < end and (data[at] == 0x0A or data[at] == 0x0D or (slashes and data[at] == _SLASH)):
        at += 1
    return at


@helper
def ascii_word_end(data: U8, at: int, end: int, before: int) -> int:
    """End of `before` characters and ASCII letters, before another ASCII character or the end, or `at`.

    That is what is mostly met; where it is a word, no branch hangs on what it is.
    """
    first = at + before
    behind = first + count_letters(data, first, end)
    if behind == first or (behind < end and (data[behind] >= 0x80 or 0x61 <= data[behind] | 0x20 <= 0x7A)):
        return at
    return behind


@helper
def gpt2_end(data: U8, at: int, end: int, block: U16, of_block: U8) -> int:
    r"""`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`."""
    behind = ascii_word_end(data, at, end, int(data[at] == _BLANK))
    if behind > at:
        return behind
    behind = contraction_end(data, at, end, False)
    if behind > at:
        return behind
    first = at + 1 if data[at] == _BLANK and at + 1 < end else at
    found = class_at(data, first, block, of_block)
    if found & LETTER:
        return letters_end(data, first, end, block, of_block)
    if found & NUMBER:
        return run_of(data, first, end, NUMBER, block, of_block)
    if not found & SPACE:
        return run_without(data, first, end, _WORD, block, of_block)
    return spaces_end(data, at, end, block, of_block)


@helper
def cl100k_end(data: U8, at: int, end: int, digits: int, block: U16, of_block: U8) -> int:
    r"""cl100k's pattern, Llama 3's and Qwen's (`digits` 3 and 1).

    `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|` and then
    `\s*[\r\n]+|\s+(?!\S)|\s+`.
    """
    first_class = of_block[data[at]] if data[at] < 0x80 and data[at] != _APOSTROPHE else LETTER
    behind = ascii_word_end(data, at, end, int(first_class & _NOT_BEFORE == 0))
    if behind > at:
        return behind
    found = class_at(data, at, block, of_block)
    if found & LETTER:
        return letters_end(data, at, end, block, of_block)
    if found & NUMBER:
        return digits_end(data, at, end, digits, NUMBER, block, of_block)
    behind = contraction_end(data, at, end, True)
    if behind > at:
        return behind
    second = at + char_bytes(data[at])
    if second < end:
        follows = class_at(data, second, block, of_block)
        if not found & NEWLINE and follows & LETTER:
            return letters_end(data, second, end, block, of_block)
        if data[at] == _BLANK and not follows & _WORD:
            return marks_end(data, second, end, False, block, of_block)
    if not found & SPACE:
        return marks_end(data, at, end, False, block, of_block)
    return blank_end(data, at, end, block, of_block)


@helper
def cased_end(data: U8, at: int, end: int, block: U16, of_block: U8) -> int:
    r"""End of `[UPPER]*[LOWER]+` at a place, or the place where it does not match; the classes overlap."""
    shared = -1  # behind the last upper character that is lower too
    while at < end:
        found = class_at(data, at, block, of_block)
        if not found & UPPER:
            break
        at += char_bytes(data[at])
        if found & LOWER:
            shared = at
    behind = run_of(data, at, end, LOWER, block, of_block)
    return behind if behind > at else shared


@helper
def plain_word_end(data: U8, at: int, end: int, of_block: U8) -> int:
    r"""End of `[^\r\n\p{L}\p{N}]?[A-Z]?[a-z]+` before ASCII or the end, or `at`: what o200k mostly meets."""
    first = at + (data[at] < 0x80 and of_block[data[at]] & _NOT_BEFORE == 0)
    first += first < end and 0x41 <= data[first] <= 0x5A
    behind = first + count_small(data, first, end)
    if behind == first or (behind < end and (data[behind] >= 0x80 or 0x61 <= data[behind] <= 0x7A)):
        return at
    return behind


@helper
def o200k_word_end(data: U8, at: int, end: int, found: int, block: U16, of_block: U8) -> int:
    r"""End of o200k's two alternatives of words without contraction, or `at`.

    `[^\r\n\p{L}\p{N}]?[UPPER]*[LOWER]+|[^\r\n\p{L}\p{N}]?[UPPER]+[LOWER]*`: with the character before, then without it.
    """
    second = at + char_bytes(data[at])
    before = not found & (LETTER | NUMBER | NEWLINE) and second < end
    before = before and class_at(data, second, block, of_block) & (UPPER | LOWER) != 0
    if before:
        behind = cased_end(data, second, end, block, of_block)
        if behind > second:
            return behind
    if found & (UPPER | LOWER):
        behind = cased_end(data, at, end, block, of_block)
        if behind > at:
            return behind
    if before:
        behind = run_of(data, second, end, UPPER, block, of_block)
        if behind > second:
            return run_of(data, behind, end, LOWER, block, of_block)
    if not found & UPPER:
        return at
    return run_of(data, run_of(data, at, end, UPPER, block, of_block), end, LOWER, block, of_block)


@helper
def o200k_end(
    data: U8, at: int, end: int, digits: int, contractions: bool, slashes: bool, block: U16, of_block: U8
) -> int:
    r"""o200k's pattern: its words (see `o200k_word_end`), each with `(?i:'s|'t|'re|'ve|'m|'ll|'d)?`, then as cl100k's.

    `\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    """
    behind = plain_word_end(data, at, end, of_block)
    found = class_at(data, at, block, of_block)
    if behind == at:
        behind = o200k_word_end(data, at, end, found, block, of_block)
    if behind > at:
        return contraction_end(data, behind, end, True) if contractions else behind
    if found & NUMBER:
        return digits_end(data, at, end, digits, NUMBER, block, of_block)
    first = at + 1 if data[at] == _BLANK and at + 1 < end else at
    if not class_at(data, first, block, of_block) & _WORD:
        return marks_end(data, first, end, slashes, block, of_block)
    return blank_end(data, at, end, block, of_block)


@helper
def piece_end(
    data: U8,
    at: int,
    end: int,
    kind: int,
    digits: int,
    contractions: bool,
    slashes: bool,
    block: U16,
    of_block: U8,
) -> int:
    """End of the piece at a place of a segment; see `Pattern`."""
    if kind == GPT2:
        return gpt2_end(data, at, end, block, of_block)
    if kind == CL100K:
        return cl100k_end(data, at, end, digits, block, of_block)
    if kind == O200K:
        return o200k_end(data, at, end, digits, contractions, slashes, block, of_block)
    return end


@helper
def segment_end(data: U8, at: int, end: int, group_digits: int, numbers: int, block: U16, of_block: U8) -> int:
    """End of the segment at a place: numbers are segments of their own where `group_digits` says so."""
    if group_digits == 0 or at == end:
        return end
    behind = digits_end(data, at, end, group_digits, numbers, block, of_block)
    return behind if behind > at else run_without(data, at, end, numbers, block, of_block)
