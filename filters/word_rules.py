"""How one run of characters splits into words: marks at its ends, exceptions, URLs, marks inside (see `word_scanner`).

`run` is as `word_runs` describes, `entries` and `sieve` are the lexicon's (see `word_lookup`).
"""

# ruff: noqa: SIM109 - a kernel that looks into a tuple takes longer to compile

import numpy as np

from tokenmill.filters.unicode_classes import (
    ACTIVE,
    BACK,
    BEFORE_POINT,
    DIGIT,
    FRONT,
    HYPHEN,
    LETTER,
    LOWER,
    QUOTE,
    SYMBOL,
    UPPER,
)
from tokenmill.filters.word_lookup import EXCEPTION, MERGED, UNIT, find
from tokenmill.filters.word_runs import BITS, CODE, CUT, OFFSET, WORD
from tokenmill.filters.word_urls import is_url
from tokenmill.kernels import helper

# Code points: `ord` in a kernel would take Python's strings into it, and seconds to compile.
_POINT, _COMMA, _COLON, _LESS, _MORE, _EQUAL, _SLASH, _PLUS = map(ord, ".,:<>=/+")
_HYPHEN, _STAR, _CARET, _DOLLAR, _DASH, _QUOTE, _APOSTROPHE, _ELLIPSIS, _DEGREE = map(ord, "-*^$—'’…°")
_0, _9, _A, _C, _F, _K, _S, _U, _SMALL_S = map(ord, "09ACFKSUs")

_WORDS_MERGED = 5  # at most: emoticons of as many words


@helper
def split_run(data, count, entries, sieve, run):  # type: ignore[no-untyped-def]
    """Set `cut` where words of the run begin (but the first)."""
    first, last, num_affixes = _strip(data, count, entries, sieve, run)
    num_infixes = 0
    if first < last:
        slot = find(data, run[first, OFFSET], run[last, OFFSET], entries, sieve, EXCEPTION)
        if slot >= 0:
            _cut_exception(slot, first, entries, run)
        else:
            num_infixes = _cut_infixes(first, last, run)
    if num_affixes + 2 * num_infixes > 1:
        _merge(data, count, entries, sieve, run)


@helper
def _cut_exception(slot, first, entries, run):  # type: ignore[no-untyped-def]
    """Cut where the second and third word of the exception at code point `first` begin."""
    for shift in (8, 16):
        cut = (np.int64(entries[slot, 2]) >> shift) & 0xFF
        if cut:
            run[first + cut, CUT] = 1


@helper
def _strip(data, count, entries, sieve, run):  # type: ignore[no-untyped-def]
    """Split marks off at both ends: what is left, as code points first … last, and how many words are off."""
    first, last, num_affixes = 0, count, 0
    while first < last:
        if find(data, run[first, OFFSET], run[last, OFFSET], entries, sieve, EXCEPTION) >= 0:
            break
        front = _front(run, first, last)
        if front:
            num_affixes += 1
            if first + front < last:
                run[first + front, CUT] = 1
                if find(data, run[first + front, OFFSET], run[last, OFFSET], entries, sieve, EXCEPTION) >= 0:
                    first += front
                    break
        back = _back(data, entries, sieve, run, first + front, last)
        if back:
            num_affixes += 1
            run[last - back, CUT] = 1
            if (
                last - back > first
                and find(data, run[first, OFFSET], run[last - back, OFFSET], entries, sieve, EXCEPTION) >= 0
            ):
                if front:
                    num_affixes -= 1
                    run[first + front, CUT] = first + front == last - back
                last -= back
                break
        if front == 0 and back == 0:
            break
        first += front
        last -= back
    return first, last, num_affixes


@helper
def _front(run, first, last):  # type: ignore[no-untyped-def]
    """Code points of the word to split off in front; 0 for none."""
    code = run[first, CODE]
    if run[first, BITS] & FRONT:
        return 1
    following = run[first + 1, CODE] if first + 1 < last else 0
    if code == _POINT:
        end = first
        while end < last and run[end, CODE] == _POINT:
            end += 1
        return end - first if end - first > 1 else 0
    if code == _PLUS:
        return 0 if _0 <= following <= _9 else 1
    if code == _U:
        return 3 if following == _S and first + 2 < last and run[first + 2, CODE] == _DOLLAR else 0
    return 2 if (code == _A or code == _C) and following == _DOLLAR else 0


@helper
def _back(data, entries, sieve, run, first, last):  # type: ignore[no-untyped-def]
    """Code points of the word to split off behind; 0 for none."""
    if first >= last:
        return 0
    code = run[last - 1, CODE]
    before = run[last - 2, CODE] if last - 2 >= first else 0
    best = 0
    if run[last - 1, BITS] & BACK:
        best = 2 if code == _ELLIPSIS and before == _ELLIPSIS else 1
    elif code == _POINT:
        best = _points_behind(run, first, last)
    elif (code == _SMALL_S or code == _S) and (before == _QUOTE or before == _APOSTROPHE):
        best = 2
    at = last - 1
    while at >= first and last - at <= 6 and run[at, BITS] & DIGIT == 0:
        at -= 1
    after_digit = at >= first and at < last - 1 and run[at, BITS] & DIGIT
    if after_digit and find(data, run[at + 1, OFFSET], run[last, OFFSET], entries, sieve, UNIT) >= 0:
        best = max(best, last - at - 1)
    return best


@helper
def _points_behind(run, first, last):  # type: ignore[no-untyped-def]
    """How many of the points at the end are a word of their own."""
    start = last - 1
    while start > first and run[start - 1, CODE] == _POINT:
        start -= 1
    if last - start > 1:
        return last - start
    if start == first:
        return 0
    if run[start - 1, BITS] & BEFORE_POINT:
        return 1
    if start - 1 == first or run[start - 1, BITS] & UPPER == 0:
        return 0
    degrees = run[start - 2, CODE] == _DEGREE and (
        run[start - 1, CODE] == _F or run[start - 1, CODE] == _C or run[start - 1, CODE] == _K
    )
    return 1 if run[start - 2, BITS] & UPPER or degrees else 0


@helper
def _cut_infixes(first, last, run):  # type: ignore[no-untyped-def]
    """Cut at the marks inside; how many."""
    found = 0
    at = first
    while at < last:
        if run[at, BITS] & ACTIVE == 0 or run[at, BITS] & DIGIT:
            at += 1
            continue
        size = _infix(run, first, at, last)
        if size == 0:
            at += 1
            continue
        if at > first:  # spaCy lets one at the very front be
            if found == 0 and is_url(run, first, last):
                return 0
            found += 1
            run[at, CUT] = 1
            if at + size < last:
                run[at + size, CUT] = 1
        at += size
    return found


@helper
def _infix(run, first, at, last):  # type: ignore[no-untyped-def]
    """Code points of the mark at `at` that splits what is around it; 0 for none."""
    code, kind = run[at, CODE], run[at, BITS]
    if kind & SYMBOL:
        return 1
    before = run[at - 1, BITS] if at > first else 0
    after = run[at + 1, BITS] if at + 1 < last else 0
    if code == _POINT:
        if at + 1 < last and run[at + 1, CODE] == _POINT:
            end = at
            while end < last and run[end, CODE] == _POINT:
                end += 1
            return end - at
        return 1 if before & (LOWER | QUOTE) and after & (UPPER | QUOTE) else 0
    number = after & DIGIT or (at + 1 < last and run[at + 1, CODE] == _HYPHEN)
    operator = code == _PLUS or code == _HYPHEN or code == _STAR or code == _CARET
    if before & DIGIT and number and operator:
        return 1
    if code == _COMMA:
        return 1 if before & LETTER and after & LETTER else 0
    if before & (LETTER | DIGIT) == 0:
        return 0
    if kind & HYPHEN:
        return _hyphens(run, at, last)
    if code == _COLON or code == _LESS or code == _MORE or code == _EQUAL or code == _SLASH:
        return 1 if after & LETTER else 0
    return 0


@helper
def _hyphens(run, at, last):  # type: ignore[no-untyped-def]
    """Hyphens from `at` to a letter: one, up to three `-`, or two `—`; else 0."""
    most = 3 if run[at, CODE] == _HYPHEN else (2 if run[at, CODE] == _DASH else 1)
    for size in range(1, most + 1):
        if at + size < last and run[at + size, BITS] & LETTER:
            return size
        if at + size >= last or run[at + size, CODE] != run[at, CODE]:
            return 0
    return 0


@helper
def _merge(data, count, entries, sieve, run):  # type: ignore[no-untyped-def]
    """Neighbouring words that together spell an exception become it."""
    n = 0
    for at in range(count):
        if at == 0 or run[at, CUT]:
            run[n, WORD] = at
            n += 1
    run[n, WORD] = count
    at = 0
    while at < n:
        taken = 1
        for size in range(min(_WORDS_MERGED, n - at), 1, -1):
            slot = find(data, run[run[at, WORD], OFFSET], run[run[at + size, WORD], OFFSET], entries, sieve, MERGED)
            if slot >= 0:
                for k in range(1, size):
                    run[run[at + k, WORD], CUT] = 0
                _cut_exception(slot, run[at, WORD], entries, run)
                taken = size
                break
        at += taken
