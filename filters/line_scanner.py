"""Kernels that cut texts at line ends, and words into sentences."""

import numpy as np
from numba import njit

from tokenmill.filters.eight_bytes import find_byte, find_control
from tokenmill.filters.scan import count_characters, skip_space, trim_space
from tokenmill.filters.word_scanner import ENDS_SENTENCE, ONLY_MARKS
from tokenmill.kernels import helper

LINES, BLOCKS, PARAGRAPHS = range(3)
_LF, _CR = 0x0A, 0x0D


@njit(nogil=True, cache=True)
def scan_lines(data, bounds, valid, mode):  # type: ignore[no-untyped-def]
    """Lines of all texts (mode LINES, BLOCKS or PARAGRAPHS).

    Args:
        data: uint8, UTF-8 of all texts.
        bounds: int64[d + 1], where they begin and end.
        valid: bool[d], False where the text is null.
        mode: what to cut at, as `splitter` says.

    Returns:
        starts, ends: int64[n], bytes; characters: int32[n]; documents: int64[d + 1].
    """
    most = len(valid)
    for at in range(bounds[0], bounds[-1]):  # bytes that end a line, or end what does
        most += int(data[at] <= 0x1E) | int(data[at] == 0x85) | int(data[at] == 0xA8) | int(data[at] == 0xA9)
    spans = np.empty((2, most), np.int64)
    characters = np.empty(most, np.int32)
    documents = np.zeros(len(bounds), np.int64)
    filled = 0
    for row in range(len(valid)):
        if valid[row]:
            at, end = bounds[row], bounds[row + 1]
            if mode == PARAGRAPHS:
                at = skip_space(data, at, end)
                end = trim_space(data, at, end)
            filled = _cut(data, at, end, mode, spans, characters, filled)
        documents[row + 1] = filled
    return spans[0, :filled], spans[1, :filled], characters[:filled], documents


@helper
def _cut(data, at, end, mode, spans, characters, filled):  # type: ignore[no-untyped-def]
    """Append the lines of bytes at … end; as `str.splitlines`, mode LINES has none behind the last line's end."""
    start = at
    while at < end:
        at = find_control(data, at, end) if mode == LINES else find_byte(data, at, end, _LF)
        if at == end:
            break
        size = _line_end(data, at, end) if mode == LINES else _newlines(data, at, end)
        if size < 1 + (mode == PARAGRAPHS):
            at += max(size, 1)
            continue
        spans[0, filled], spans[1, filled], characters[filled] = start, at, count_characters(data, start, at)
        filled += 1
        at += size
        start = at
    if mode != LINES or start < end:
        spans[0, filled], spans[1, filled], characters[filled] = start, end, count_characters(data, start, end)
        filled += 1
    return filled


@helper
def _newlines(data, at, end):  # type: ignore[no-untyped-def]
    r"""How many `\n` stand at `at`."""
    stop = at
    while stop < end and data[stop] == _LF:
        stop += 1
    return stop - at


@helper
def _line_end(data, at, end):  # type: ignore[no-untyped-def]
    """Bytes of the line end at `at`, 0 where there is none: LF, VT, FF, CR, CR LF, FS, GS, RS, NEL, U+2028, U+2029."""
    byte = data[at]
    if byte > 0x1E and byte != 0xC2 and byte != 0xE2:
        return 0
    if byte == _CR:
        return 2 if at + 1 < end and data[at + 1] == _LF else 1
    if _LF <= byte < _CR or 0x1C <= byte <= 0x1E:
        return 1
    if byte == 0xC2:
        return 2 if at + 1 < end and data[at + 1] == 0x85 else 0
    separator = byte == 0xE2 and at + 2 < end and data[at + 1] == 0x80
    return 3 if separator and (data[at + 2] == 0xA8 or data[at + 2] == 0xA9) else 0


@njit(nogil=True, cache=True)
def scan_sentences(data, starts, ends, flags, documents, line_ends):  # type: ignore[no-untyped-def]
    r"""Sentences of all texts from their words, as spaCy's sentencizer finds them; with `line_ends` `\n` ends one too.

    Returns:
        The first word of each sentence: int64[n]; the first sentence of each text: int64[d + 1].
    """
    firsts = np.empty(len(starts), np.int64)
    sentences = np.zeros(len(documents), np.int64)
    filled = 0
    for row in range(len(documents) - 1):
        ended = False
        for word in range(documents[row], documents[row + 1]):
            begins = word == documents[row]
            if not begins and ended:
                gap = starts[word] - ends[word - 1]
                # To spaCy any white space but a single blank is a token of its own, which is no mark.
                begins = gap > 1 or (gap == 1 and data[ends[word - 1]] != 0x20)
                begins = begins or flags[word] & (ENDS_SENTENCE | ONLY_MARKS) == 0
            elif not begins and line_ends and starts[word] > ends[word - 1]:
                begins = find_byte(data, ends[word - 1], starts[word], _LF) < starts[word]
            if begins:
                firsts[filled] = word
                filled += 1
                ended = False
            ended = ended or flags[word] & ENDS_SENTENCE != 0
        sentences[row + 1] = filled
    return firsts[:filled].copy(), sentences


@njit(nogil=True, cache=True)
def count_span_characters(data, starts, ends):  # type: ignore[no-untyped-def]
    """Code points of each span: int32[n]."""
    counts = np.zeros(len(starts), np.int32)
    for k in range(len(starts)):
        counts[k] = count_characters(data, starts[k], ends[k])
    return counts
