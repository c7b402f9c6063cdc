"""The word kernel: a table-driven scanner that splits as spaCy's English tokenizer does, over UTF-8.

A *run* is what stands between white space and characters of scripts without spaces; each of the latter is a word, with
the combining marks behind it. A run longer than MAX_RUN code points is cut there. Within a run, as in spaCy 3.8:

1. Marks at the front and at the end are split off, one after the other, until what is left is an exception
   (`english.exceptions`) or has none: quotes, brackets, stops, symbols, `..` and more points, currency before a number,
   `'s` and units behind one. A point goes from behind a digit, a small letter, a mark or two capitals (`U.S.` stays).
2. What is left is one word if it is an exception or looks like a URL or an e-mail address;
3. else it is split at, and around: points in a row, symbols, `+-*^` between digits, a point between a small letter and
   a capital, a comma, hyphen or `:<>=/` between letters (for all but the comma the first may be a digit).
4. Neighbouring words that together spell an exception which steps 1 to 3 take apart become that exception.

Where it differs from spaCy: letters are Unicode's, not spaCy's lists of Latin, Greek, Cyrillic and others; every mark
of `TERMINAL_MARKS` is split off; a host that is an IP address is no URL; in step 4 the leftmost exception is taken, not
the longest.
"""

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.filters.eight_bytes import count_letters
from tokenmill.filters.english import UNITS, exceptions
from tokenmill.filters.unicode_classes import (
    ACTIVE,
    BACK,
    BEFORE_POINT,
    COMBINING,
    DIGIT,
    LETTER,
    MARK,
    NOT_PUNCTUATION,
    SPACE,
    TERMINAL,
    WITHOUT_SPACES,
    classes,
)
from tokenmill.filters.word_lookup import EXCEPTION, MERGED, SLOTS, UNIT, find, key, slot_of
from tokenmill.filters.word_rules import split_run
from tokenmill.filters.word_runs import BITS, CUT, OFFSET, decode, lay_out
from tokenmill.kernels import allocating_helper, helper

#: Code points of the longest run, and so of the longest word.
MAX_RUN = 4096
#: Bits of a word's flags: some character is outside `PUNCTUATION`; some is a letter; the word is one of the marks that
#: end a sentence; all characters are of category P.
HAS_NON_PUNCTUATION, HAS_LETTER, ENDS_SENTENCE, ONLY_MARKS = 1, 2, 4, 8

_LETTERS = HAS_NON_PUNCTUATION | HAS_LETTER
_POINT = ord(".")
_STOP = ACTIVE | SPACE | WITHOUT_SPACES


class Lexicon(NamedTuple):
    """Exceptions and units, as `word_lookup` describes."""

    entries: npt.NDArray[np.uint64]
    sieve: npt.NDArray[np.uint16]


@functools.cache
def lexicon() -> Lexicon:
    """The table, built once a process."""
    plain = Lexicon(np.zeros((SLOTS, 3), np.uint64), np.zeros(65536, np.uint16))
    filled = Lexicon(np.zeros((SLOTS, 3), np.uint64), np.zeros(65536, np.uint16))
    for unit in UNITS:
        _add(plain, unit, UNIT, ())
        _add(filled, unit, UNIT, ())
    for word, pieces in exceptions().items():
        data = np.frombuffer(word.encode(), np.uint8)
        bounds, valid = np.array([0, len(data)]), np.ones(1, np.bool_)
        bounds.flags.writeable = valid.flags.writeable = False  # the types `split_words` passes: one compilation
        apart = len(scan(data, bounds, valid, classes(), *plain)[0]) > 1
        _add(filled, word, EXCEPTION | (MERGED if apart else 0), pieces)
    return filled


def _add(table: Lexicon, word: str, kind: int, pieces: tuple[str, ...]) -> None:
    """Enter a word, or one more kind of it."""
    raw = np.frombuffer(word.encode(), np.uint8)
    low, high = (np.uint64(half) for half in key(raw, 0, len(raw)))
    slot = slot_of(low, high)
    while table.entries[slot, 1] != 0 and tuple(table.entries[slot, :2]) != (low, high):
        slot = (slot + 1) % SLOTS
    starts = np.cumsum([len(piece) for piece in pieces[:-1]], dtype=np.int64).tolist()
    info = kind | sum(start << 8 * k for k, start in enumerate(starts, 1))
    table.entries[slot] = low, high, table.entries[slot, 2] | np.uint64(info)
    table.sieve[int(raw[0]) << 8 | int(raw[-1])] |= 1 << len(raw)


@njit(nogil=True, cache=True)
def scan(data, bounds, valid, table, entries, sieve):  # type: ignore[no-untyped-def]
    """Words of all texts.

    Args:
        data: uint8, UTF-8 of all texts.
        bounds: int64[d + 1], where they begin and end.
        valid: bool[d], False where the text is null.
        table: `classes()`.
        entries: see Lexicon.
        sieve: see Lexicon.

    Returns:
        starts, ends: int64[n], bytes; characters: int32[n]; flags: uint8[n]; documents: int64[d + 1].
    """
    longest = 0
    for row in range(len(valid)):
        longest = max(longest, bounds[row + 1] - bounds[row])
    # A word has a byte at least. Pages that are never written to take no memory.
    capacity = (bounds[-1] - bounds[0]) // 4 + longest + 1
    starts, ends = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    characters, flags = np.empty(capacity, np.int32), np.empty(capacity, np.uint8)
    run = np.zeros((MAX_RUN + 1, 5), np.int64)
    documents = np.zeros(len(bounds), np.int64)
    filled = 0
    for row in range(len(valid)):
        if valid[row]:
            if filled + bounds[row + 1] - bounds[row] > len(starts):
                capacity = len(starts) + len(starts) // 2 + longest
                starts, ends = grown(starts, filled, capacity), grown(ends, filled, capacity)
                characters, flags = grown(characters, filled, capacity), grown(flags, filled, capacity)
            out = starts, ends, characters, flags
            filled = scan_text(data, bounds[row], bounds[row + 1], table, entries, sieve, run, out, filled)
        documents[row + 1] = filled
    return starts[:filled], ends[:filled], characters[:filled], flags[:filled], documents


@allocating_helper
def grown(array, filled, capacity):  # type: ignore[no-untyped-def]
    """The first `filled` items in a longer array."""
    longer = np.empty(capacity, array.dtype)
    for k in range(filled):  # an assignment of slices takes seconds to compile
        longer[k] = array[k]
    return longer


@helper
def scan_text(data, at, end, table, entries, sieve, run, out, filled):  # type: ignore[no-untyped-def]
    """Append the words of the text in bytes at … end to `out`."""
    while at < end:
        start, limit = at, min(end, at + MAX_RUN)
        at += count_letters(data, at, limit)
        if at > start and _is_border(data, at, end, table):  # three runs of four
            if find(data, start, at, entries, sieve, EXCEPTION) < 0:
                filled = _put_letters(out, filled, start, at)
                at += 1
                continue
            at = start
        some, every, bits = np.int64(0), np.int64(-1), np.int64(0)
        if at > start:
            some, every, bits = np.int64(table[data[start]]), np.int64(0), np.int64(table[data[at - 1]])
        before = bits
        while at < limit:
            before = bits
            bits = np.int64(table[data[at]])
            if data[at] >= 0x80 or bits & _STOP:
                break
            some |= bits
            every &= bits
            at += 1
        if at > start and _is_border(data, at, end, table):
            if find(data, start, at, entries, sieve, EXCEPTION) < 0:
                filled = _put(out, filled, start, at, at - start, some, every)
                continue
        elif at > start and at < limit and data[at] < 0x80 and _is_border(data, at + 1, end, table):
            mark = bits & BACK or (data[at] == _POINT and before & BEFORE_POINT)
            if mark and _is_free(data, start, at, entries, sieve):  # a word with a mark behind it: most of the rest
                filled = _put(out, filled, start, at, at - start, some, every)
                filled = _put(out, filled, at, at + 1, 1, bits, bits)
                at += 1
                continue
        elif at < limit and data[at] < 0x80 and bits & SPACE:
            at += 1
            continue
        at, filled = _scan_run(data, start, end, table, entries, sieve, run, out, filled)
    return filled


@helper
def _put_letters(out, filled, start, end):  # type: ignore[no-untyped-def]
    """Append a word of ASCII letters."""
    starts, ends, characters, flags = out
    starts[filled], ends[filled], characters[filled], flags[filled] = start, end, end - start, _LETTERS
    return filled + 1


@helper
def _is_border(data, at, end, table):  # type: ignore[no-untyped-def]
    """Whether the text ends at `at`, or ASCII white space stands there."""
    return at == end or (data[at] < 0x80 and table[data[at]] & SPACE != 0)


@helper
def _is_free(data, start, end, entries, sieve):  # type: ignore[no-untyped-def]
    """Whether bytes start … end are no exception, nor with the byte behind them."""
    whole = find(data, start, end + 1, entries, sieve, EXCEPTION)
    return whole < 0 and find(data, start, end, entries, sieve, EXCEPTION) < 0


@helper
def _scan_run(data, start, end, table, entries, sieve, run, out, filled):  # type: ignore[no-untyped-def]
    """Append the words of the run (or white space, or character without spaces) at `start`: its end, words in `out`."""
    at, count, size = start, 0, 0
    some, every = np.int64(0), np.int64(-1)
    bits = np.int64(0)
    while at < end and count < MAX_RUN:
        code, size = decode(data, at, end)
        bits = np.int64(table[code])
        if bits & (SPACE | WITHOUT_SPACES):
            break
        some |= bits
        every &= bits
        at += size
        count += 1
    if count == 0:
        return (at + size, filled) if bits & SPACE else _character(data, at, end, table, out, filled)
    if _is_plain(some) and find(data, start, at, entries, sieve, EXCEPTION) < 0:
        return at, _put(out, filled, start, at, count, some, every)
    lay_out(data, start, at, table, run)
    split_run(data, count, entries, sieve, run)
    return at, _emit(count, run, out, filled)


@helper
def _is_plain(bits):  # type: ignore[no-untyped-def]
    """Whether a run of such characters is one word, unless it is an exception: no marks, nor letters behind digits."""
    return bits & (ACTIVE ^ DIGIT) == 0 and (bits & DIGIT == 0 or bits & LETTER == 0)


@helper
def _put(out, filled, start, end, count, some, every):  # type: ignore[no-untyped-def]
    """Append one word; `some` and `every` are the or and the and of its characters' bits."""
    starts, ends, characters, flags = out
    flag = HAS_NON_PUNCTUATION if some & NOT_PUNCTUATION else 0
    flag |= HAS_LETTER if some & LETTER else 0
    flag |= ENDS_SENTENCE if count == 1 and some & TERMINAL else 0
    flag |= ONLY_MARKS if every & MARK else 0
    starts[filled], ends[filled], characters[filled], flags[filled] = start, end, count, flag
    return filled + 1


@helper
def _character(data, at, end, table, out, filled):  # type: ignore[no-untyped-def]
    """The word at `at` in a script without spaces: one character and the combining marks behind it."""
    start, count = at, 0
    some, every = np.int64(0), np.int64(-1)
    while at < end:
        code, size = decode(data, at, end)
        bits = np.int64(table[code])
        if count > 0 and bits & COMBINING == 0:
            break
        some |= bits
        every &= bits
        at += size
        count += 1
    return at, _put(out, filled, start, at, count, some, every)


@helper
def _emit(count, run, out, filled):  # type: ignore[no-untyped-def]
    """Append the words of the run."""
    first = 0
    while first < count:
        some = every = run[first, BITS]
        last = first + 1
        while last < count and run[last, CUT] == 0:
            some |= run[last, BITS]
            every &= run[last, BITS]
            last += 1
        filled = _put(out, filled, run[first, OFFSET], run[last, OFFSET], last - first, some, every)
        first = last
    return filled
