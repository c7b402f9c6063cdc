"""The kernels of `filters.c4` that write edits, and what they leave of a text."""

from typing import NamedTuple

import numpy as np
from numba import njit

from tokenmill.filters.c4_lines import (
    BRACKET,
    CITATIONS,
    KEPT,
    LOREM_IPSUM,
    STRIP,
    Phrases,
    Rules,
    citation_end,
    hint_blocks,
    hints_of,
    judge,
)
from tokenmill.filters.eight_bytes import copy_bytes
from tokenmill.filters.scan import I32, I64, U8, skip_space, space_at, trim_space
from tokenmill.kernels import helper


class Edits(NamedTuple):
    """Edits being written; all arrays are as long.

    Attributes:
        row: int32, text.
        start: int64, byte in the text.
        end: int64, byte behind.
        newline: uint8, 1 where a newline takes the span's place, 0 where nothing does.
        rule: uint8, index into RULES.
    """

    row: I32
    start: I64
    end: I64
    newline: U8
    rule: U8


def empty_edits(size: int) -> Edits:
    """Room for so many edits; memory is only used once they are written."""
    return Edits(
        np.empty(size, np.int32),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.uint8),
        np.empty(size, np.uint8),
    )


def first_edits(edits: Edits, num_edits: int) -> Edits:
    """Those that are written."""
    row, start, end, newline, rule = (column[:num_edits] for column in edits)
    return Edits(row, start, end, newline, rule)  # type: ignore[arg-type]


@njit(nogil=True, cache=True)
def edit_texts(
    data: U8, bounds: I64, ends: I64, documents: I64, rules: Rules, phrases: Phrases,
    raw: Edits, edits: Edits, left: U8, left_bounds: I64, counts: I32,
) -> int:  # fmt: skip
    """Apply the line rules to every text.

    Args:
        data: uint8, all texts.
        bounds: int64[d + 1], where each text lies in it.
        ends: int64[n], byte behind each line without its end (`str.splitlines`).
        documents: int64[d + 1], first line of each text, then n.
        rules: which are on.
        phrases: from `phrase_automaton`.
        raw: scratch for the edits of one text.
        edits: filled.
        left: uint8, filled: the edited texts, one after another.
        left_bounds: int64[d + 1], filled: where each lies.
        counts: int32[d, 2], filled: lines that count as lorem ipsum, lines that count for a curly bracket.

    Returns:
        How many edits there are.
    """
    num_edits = size = 0
    left_bounds[0] = 0
    clean = np.empty(_longest(bounds), np.uint8)
    hints = hint_blocks(data, bounds[0], bounds[-1])
    for row in range(len(bounds) - 1):
        num_raw = lorem = curly = 0
        end = bounds[row]
        for k in range(documents[row], documents[row + 1]):
            start, end = end, _next_line(data, max(end, ends[k]), bounds[row + 1])
            begin = skip_space(data, start, end)
            stop = trim_space(data, begin, end)
            hint = hints_of(hints, begin - bounds[0], stop - bounds[0])
            rule, mentions, bracket = judge(data, begin, stop, hint, rules, phrases, clean)
            lorem += (mentions & LOREM_IPSUM) != 0
            curly += bracket
            if rule == KEPT:
                cited = rules.remove_citations and hint & BRACKET != 0
                num_raw = _edit_kept_line(data, start, begin, stop, end, cited, phrases.digits, raw, num_raw)
            else:
                num_raw = _put(raw, num_raw, 0, start, end, 0, rule)
        counts[row, 0], counts[row, 1] = lorem, curly
        if documents[row] < documents[row + 1]:  # a null text has no lines, and an empty one nothing to edit
            span = bounds[row], bounds[row + 1], row
            num_edits, size = _strip_text(data, span, raw, num_raw, edits, num_edits, left, size)
        left_bounds[row + 1] = size
    return num_edits


@helper
def _next_line(data: U8, at: int, stop: int) -> int:
    """Where the line begins that follows the line end at `at`, which is 1 to 3 bytes long; `stop` if `at` is."""
    if at >= stop:
        return stop
    if data[at] == 0x0D and at + 1 < stop and data[at + 1] == 0x0A:
        return at + 2
    size: int = space_at(data, at, stop)
    return at + size


@helper
def _longest(bounds: I64) -> int:
    longest = 0
    for row in range(len(bounds) - 1):
        longest = max(longest, bounds[row + 1] - bounds[row])
    return longest


@helper
def _put(edits: Edits, at: int, row: int, start: int, end: int, newline: int, rule: int) -> int:
    """Write an edit at index `at`; the next index."""
    edits.row[at], edits.start[at], edits.end[at], edits.newline[at], edits.rule[at] = row, start, end, newline, rule
    return at + 1


@helper
def _edit_kept_line(
    data: U8, start: int, begin: int, stop: int, end: int, cited: bool, digits: I32, raw: Edits, at: int
) -> int:
    """Write a kept line's edits (stripped, without citations, ended by one newline) from index `at`; the next index."""
    if begin == stop:  # all white space, its end included
        begin = stop = start
    if begin > start:
        at = _put(raw, at, 0, start, begin, 0, STRIP)
    if cited:
        spot = begin
        while spot < stop:
            over = citation_end(data, spot, stop, digits) if data[spot] == 0x5B else spot
            if over > spot:
                at = _put(raw, at, 0, spot, over, 0, CITATIONS)
            spot = max(over, spot + 1)
    if stop < end and not (end - stop == 1 and data[stop] == 0x0A):
        at = _put(raw, at, 0, stop, end, 1, STRIP)
    return at


@helper
def _strip_text(
    data: U8, span: tuple[int, int, int], raw: Edits, num_raw: int, edits: Edits, at: int, left: U8, size: int
) -> tuple[int, int]:
    """Write the edits of text `span` (begin, end, row), more such that what they leave is stripped, and what that is.

    The gaps between the edits are what stays. Outside the first and the last gap that is not all white space nothing
    does, and as only white space ever replaces anything, no replacement either.

    Returns:
        The next index in `edits` and in `left`.
    """
    begin, end, row = span
    first, last = _solid_gaps(data, begin, end, raw, num_raw)
    for k in range(num_raw + 1):
        start = raw.end[k - 1] if k else begin
        until = raw.start[k] if k < num_raw else end
        from_byte, to_byte = start, until
        if k < first or k > last:
            from_byte = until
        elif k == first:
            from_byte = skip_space(data, start, until)
        if k == last:
            to_byte = trim_space(data, from_byte, until)
        if start < from_byte:
            at = _put(edits, at, row, start - begin, from_byte - begin, 0, STRIP)
        if from_byte < to_byte:
            size = copy_bytes(data, from_byte, to_byte, left, size)
        if to_byte < until:
            at = _put(edits, at, row, to_byte - begin, until - begin, 0, STRIP)
        if k < num_raw:
            newline = raw.newline[k] if first <= k < last else 0
            at = _put(edits, at, row, raw.start[k] - begin, raw.end[k] - begin, newline, raw.rule[k])
            if newline:
                left[size] = 0x0A
                size += 1
    return at, size


@helper
def _solid_gaps(data: U8, begin: int, end: int, raw: Edits, num_raw: int) -> tuple[int, int]:
    """The first and the last gap between edits that is not all white space; past the last gap if all are."""
    first = 0
    while first <= num_raw:
        start = raw.end[first - 1] if first else begin
        until = raw.start[first] if first < num_raw else end
        if skip_space(data, start, until) < until:
            break
        first += 1
    if first > num_raw:
        return first, first
    last = num_raw
    while last > first:
        start = raw.end[last - 1]
        until = raw.start[last] if last < num_raw else end
        if skip_space(data, start, until) < until:
            break
        last -= 1
    return first, last
