r"""FineWeb's own quality rules (Penedo et al. 2024, arXiv 2406.17557, section 3.6), as datatrove 0.10 has them.

A line is what `\n` separates, if it is not all white space. It is not stripped: with a blank behind its last mark it
ends in no terminal mark. Unlike in datatrove 0 is a real bound, and a text without lines, at which it stops with a
reason of its own, has signals of 0 and fails `min_lines`. Lines are compared by 64-bit hashes: `filters.repeats` states
the chance of a collision.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.filters.repeats import count_duplicates
from tokenmill.filters.scan import I32, I64, U8, character_at, fractions, signal_batch, skip_space, text_bytes
from tokenmill.filters.splitter import Spans, SplitTexts
from tokenmill.filters.unicode_classes import TERMINAL, classes
from tokenmill.kernels import kernel

VERSION = 1

#: A line of so many code points or fewer is short.
SHORT_LINE_CHARACTERS = 30

FINEWEB_QUALITY_SCHEMA = pa.schema(
    [
        pa.field("lines", pa.int32()),
        pa.field("line_punctuation_fraction", pa.float64()),  # of lines: end in one of unicode_classes.TERMINAL_MARKS
        pa.field("short_line_fraction", pa.float64()),  # of lines: at most SHORT_LINE_CHARACTERS long
        # of the text's code points but `\n`: those of second and later occurrences of a line
        pa.field("duplicate_line_character_fraction", pa.float64()),
        pa.field("newlines_per_word", pa.float64()),  # `\n` a word of the splitter
    ]
)


@dataclass(frozen=True)
class FineWebQualityBounds:
    """Bounds over FINEWEB_QUALITY_SCHEMA, in the order in which they are tried; None is off."""

    min_lines: float | None = 1
    min_line_punctuation_fraction: float | None = 0.12
    max_short_line_fraction: float | None = 0.67
    max_duplicate_line_character_fraction: float | None = 0.01
    max_newlines_per_word: float | None = 0.3


def fineweb_quality_signals(split: SplitTexts) -> pa.RecordBatch:
    """Signals of FINEWEB_QUALITY_SCHEMA: one row a text, in order, all null where the text is."""
    lines, texts = _with_content(split.blocks), split.texts
    again, ended, sizes = (np.zeros((len(texts), 2), np.int64) for _ in range(3))
    count_duplicates(lines.data, lines.starts, lines.ends, lines.characters, lines.documents, again)
    _count_lines(lines.data, lines.ends, lines.characters, lines.documents, classes(), ended)
    _count_newlines(*text_bytes(texts), sizes)
    num_lines, (characters, newlines) = np.diff(lines.documents), sizes.T
    columns = [
        num_lines,
        fractions(ended[:, 0], num_lines),
        fractions(ended[:, 1], num_lines),
        fractions(again[:, 1], characters),
        np.where(num_lines > 0, fractions(newlines, np.diff(split.words.documents)), 0.0),
    ]
    return signal_batch(columns, texts, FINEWEB_QUALITY_SCHEMA)


def _with_content(pieces: Spans) -> Spans:
    """Those of the pieces that are not all white space."""
    keep = _has_content(pieces.data, pieces.starts, pieces.ends)
    before = np.zeros(len(keep) + 1, np.int64)
    np.cumsum(keep, out=before[1:])
    return Spans(
        pieces.data,
        pieces.starts[keep],
        pieces.ends[keep],
        pieces.characters[keep],
        before[pieces.documents],
    )


@njit(nogil=True, cache=True)
def _has_content(data: U8, starts: I64, ends: I64) -> npt.NDArray[np.bool_]:
    """Of each piece, whether it holds more than white space."""
    found = np.empty(len(starts), np.bool_)
    for k in range(len(starts)):
        found[k] = skip_space(data, starts[k], ends[k]) < ends[k]
    return found


@kernel
def _count_lines(data: U8, ends: I64, characters: I32, documents: I64, table: I32, out: I64) -> None:
    """Fill `out` int64[d, 2]: lines (none empty) that end in a terminal mark, and short lines, of each document."""
    for row in range(len(documents) - 1):
        ended = short = 0
        for k in range(documents[row], documents[row + 1]):
            last = ends[k] - 1
            while data[last] & 0xC0 == 0x80:
                last -= 1
            code, _ = character_at(data, last)
            ended += int(table[code] & TERMINAL != 0)
            short += int(characters[k] <= SHORT_LINE_CHARACTERS)
        out[row, 0], out[row, 1] = ended, short


@kernel
def _count_newlines(data: U8, bounds: I64, out: I64) -> None:
    r"""Fill `out` int64[d, 2]: code points that are no `\n`, and `\n`, of each text at `bounds` int64[d + 1]."""
    for row in range(len(bounds) - 1):
        characters = newlines = 0
        for k in range(bounds[row], bounds[row + 1]):
            characters += (data[k] & 0xC0) != 0x80
            newlines += data[k] == 0x0A
        out[row, 0], out[row, 1] = characters - newlines, newlines
