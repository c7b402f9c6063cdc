"""Gopher's quality rules (Rae et al. 2021, arXiv 2112.11446, section A1.1), measured and bounded as by datatrove 0.10.

Unlike there, 0 is a real bound, and a text without words or lines has fractions of 0 instead of dividing by zero.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.eight_bytes import find_point
from tokenmill.filters.scan import (
    I32,
    I64,
    U8,
    count_byte,
    fractions,
    signal_batch,
    skip_space,
    text_bytes,
    trim_space,
)
from tokenmill.filters.splitter import HAS_LETTER, HAS_NON_PUNCTUATION, SplitTexts
from tokenmill.filters.stop_words import StopWordLists, StopWords, count_stop_words, stop_word_lists
from tokenmill.kernels import helper, kernel

VERSION = 2

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))

#: A *word* below holds a character that is no punctuation; a *token* is any word of the splitter.
GOPHER_QUALITY_SCHEMA = pa.schema(
    [
        pa.field("words", pa.int32()),
        pa.field("mean_word_length", pa.float64()),  # code points
        pa.field("hash_fraction", pa.float64()),  # `#` a token
        pa.field("ellipsis_fraction", pa.float64()),  # `...` and `…` a token
        pa.field("bullet_line_fraction", pa.float64()),  # of lines, blank ones included: start with `•` or `-`
        pa.field("ellipsis_line_fraction", pa.float64()),  # end with `...` or `…`
        pa.field("alphabetic_word_fraction", pa.float64()),  # of tokens: hold a letter
        pa.field("stop_words", pa.int32()),  # distinct ones, in lower case; null where no list is known
    ]
)


@dataclass(frozen=True)
class GopherQualityBounds:
    """Bounds over GOPHER_QUALITY_SCHEMA, in the order in which they are tried; None is off."""

    min_words: float | None = 50
    max_words: float | None = 100_000
    min_mean_word_length: float | None = 3
    max_mean_word_length: float | None = 10
    max_hash_fraction: float | None = 0.1
    max_ellipsis_fraction: float | None = 0.1
    max_bullet_line_fraction: float | None = 0.9
    max_ellipsis_line_fraction: float | None = 0.3
    min_alphabetic_word_fraction: float | None = 0.8
    min_stop_words: float | None = 2


@cache
def _english() -> StopWordLists:
    """STOP_WORDS as a table: made when first asked for, as it takes a kernel, and Numba half a second to begin."""
    return stop_word_lists({"en": STOP_WORDS})


def gopher_quality_signals(split: SplitTexts, stop_words: StopWords | None = None) -> pa.RecordBatch:
    """Signals of GOPHER_QUALITY_SCHEMA: one row a text, in order, all null where the text is.

    Args:
        split: n texts.
        stop_words: those of each text's language, STOP_WORDS for all if not given; the signal `stop_words` is null
            where a language has none.
    """
    looked_for = _english().of_one(len(split.texts)) if stop_words is None else stop_words
    words, lines = split.words, split.lines
    of_words, of_lines, of_bytes = (np.zeros((len(split.texts), width), np.int64) for width in (3, 2, 2))
    _count_words(words.characters, words.flags, words.documents, of_words)
    distinct = count_stop_words(words.documents, split.word_hashes, looked_for)
    _count_lines(lines.data, lines.starts, lines.ends, lines.documents, of_lines)
    _count_symbols(*text_bytes(split.texts), of_bytes)
    num_words, characters, alphabetic = of_words.T
    num_tokens, num_lines = np.diff(words.documents), np.diff(lines.documents)
    columns = [
        num_words,
        fractions(characters, num_words),
        *(fractions(symbols, num_tokens) for symbols in of_bytes.T),
        *(fractions(some, num_lines) for some in of_lines.T),
        fractions(alphabetic, num_tokens),
        distinct,
    ]
    signals = signal_batch(columns, split.texts, GOPHER_QUALITY_SCHEMA)
    return signals if stop_words is None else _without_count(signals, ~looked_for.listed)


def _without_count(signals: pa.RecordBatch, unknown: npt.NDArray[np.bool_]) -> pa.RecordBatch:
    """The signals with a null for the stop words of some rows."""
    counted = pc.if_else(pa.array(unknown), pa.scalar(None, pa.int32()), signals.column("stop_words"))
    return pa.RecordBatch.from_arrays([*signals.columns[:-1], counted], schema=signals.schema)


@kernel
def _count_words(characters: I32, flags: U8, documents: I64, out: I64) -> None:
    """Fill `out` int64[d, 3]: words, their code points, tokens with a letter of each document."""
    for row in range(len(documents) - 1):
        words = length = alphabetic = 0
        for k in range(documents[row], documents[row + 1]):  # without branches, so that many are added at once
            is_word = flags[k] & HAS_NON_PUNCTUATION
            words += int(is_word)
            length += int(characters[k]) * int(is_word)
            alphabetic += int(flags[k] & HAS_LETTER)
        out[row, 0], out[row, 1], out[row, 2] = words, length, alphabetic // HAS_LETTER


@kernel
def _count_lines(data: U8, starts: I64, ends: I64, documents: I64, out: I64) -> None:
    """Fill `out` int64[d, 2]: lines that start with a bullet, lines that end with an ellipsis."""
    for row in range(len(documents) - 1):
        bullets = ellipses = 0
        for k in range(documents[row], documents[row + 1]):
            begin = skip_space(data, starts[k], ends[k])
            end = trim_space(data, begin, ends[k])
            if begin == end:
                continue
            bullets += data[begin] == 0x2D or (end - begin >= 3 and _is_mark(data, begin, 0xA2))
            if end - begin >= 3:
                points = data[end - 1] == 0x2E and data[end - 2] == 0x2E and data[end - 3] == 0x2E
                ellipses += points or _is_mark(data, end - 3, 0xA6)
        out[row, 0], out[row, 1] = bullets, ellipses


@kernel
def _count_symbols(data: U8, bounds: I64, out: I64) -> None:
    """Fill `out` int64[d, 2]: `#`, and `...` (none overlapping) with `…`, of each text at `bounds` int64[d + 1]."""
    for row in range(len(bounds) - 1):
        ellipses = 0
        at, end = bounds[row], bounds[row + 1]
        while at < end:
            at = find_point(data, at, end)
            if at + 3 > end:
                break
            found = (data[at] == 0x2E and data[at + 1] == 0x2E and data[at + 2] == 0x2E) or _is_mark(data, at, 0xA6)
            ellipses += int(found)
            at += 3 if found else 1
        out[row, 0], out[row, 1] = count_byte(data, bounds[row], end, 0x23), ellipses


@helper
def _is_mark(data: U8, at: int, last: int) -> bool:
    """Whether the three bytes at `at` are U+2022 (`last` 0xA2, the bullet) or U+2026 (0xA6, the ellipsis)."""
    return bool(data[at] == 0xE2 and data[at + 1] == 0x80 and data[at + 2] == last)
