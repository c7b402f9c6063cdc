"""What the kernels of `filters.chat` see in answers: thinking, first words, words that the prompt has already."""

import numpy as np
from numba import njit

from tokenmill.filters.repeats import table_size
from tokenmill.filters.scan import I64, U8, U64, skip_space, trim_space
from tokenmill.kernels import helper, kernel

#: Columns of what `scan_thinks` finds.
UNFINISHED, NESTED, EMPTY, UNOPENED, THINK_BYTES, HEAD = range(6)
#: An answer of fewer words is no leak, wherever it stands.
LEAST_WORDS = 3

_OPEN, _CLOSE = np.frombuffer(b"<think>", np.uint8), np.frombuffer(b"</think>", np.uint8)
_KEY, _SLOT = np.uint64(0xD6E8FEB86659FD93), np.uint64(0x9E3779B97F4A7C15)
_64 = np.uint64(64)


@kernel
def scan_thinks(data: U8, starts: I64, ends: I64, out: I64) -> None:
    """Fill `out` int64[n, 6] for the answers at `starts` … `ends`: blocks <think> … </think> and what is around them.

    UNFINISHED blocks have no end, NESTED ones are inside another, EMPTY ones hold white space. UNOPENED ends have no
    beginning: what is before one is thinking, as where a template has opened it. THINK_BYTES are those of blocks, tags
    included. HEAD is the first byte outside of them that is no white space; the answer's end where there is none.
    """
    for k in range(len(starts)):
        end = ends[k]
        unfinished = nested = empty = unopened = think_bytes = depth = opened = 0
        at = since = starts[k]  # where what was said since the last block begins
        head = end
        while at < end:
            if data[at] != 0x3C:
                at += 1
            elif _stands(data, at, end, _OPEN):
                if depth == 0:
                    opened = at
                    head = min(head, _said(data, since, at, end))
                nested += int(depth > 0)
                depth += 1
                at += len(_OPEN)
            elif _stands(data, at, end, _CLOSE):
                if depth == 0:
                    unopened += 1
                    think_bytes = at + len(_CLOSE) - starts[k]
                    head = end
                elif depth == 1:
                    empty += int(skip_space(data, opened + len(_OPEN), at) == at)
                    think_bytes += at + len(_CLOSE) - opened
                depth = max(0, depth - 1)
                at += len(_CLOSE)
                since = at
            else:
                at += 1
        if depth > 0:
            unfinished = 1
            think_bytes += end - opened
        else:
            head = min(head, _said(data, since, end, end))
        out[k, 0], out[k, 1], out[k, 2], out[k, 3] = unfinished, nested, empty, unopened
        out[k, 4], out[k, 5] = think_bytes, head


@helper
def _said(data: U8, begin: int, stop: int, end: int) -> int:
    """First byte of begin … stop that is no white space; `end` where there is none."""
    at = skip_space(data, begin, stop)
    return end if at >= stop else at


@helper
def _stands(data: U8, at: int, end: int, tag: U8) -> bool:
    if at + len(tag) > end:
        return False
    for k in range(len(tag)):  # noqa: SIM110 - Numba compiles no generator expression
        if data[at + k] != tag[k]:
            return False
    return True


@kernel
def match_phrases(data: U8, heads: I64, ends: I64, phrases: U8, bounds: I64, out: U8) -> None:
    """Whether the text at heads … ends begins with a phrase (1), is one but for white space behind it (2), or not (0).

    Args:
        data: uint8, all texts.
        heads: int64[n].
        ends: int64[n].
        phrases: uint8, in lower case (ASCII); `'` stands for U+2019 as well.
        bounds: int64[p + 1], where each phrase lies.
        out: uint8[n], filled.
    """
    for k in range(len(heads)):
        end = trim_space(data, heads[k], ends[k])
        out[k] = 0
        for phrase in range(len(bounds) - 1):
            at = _behind(data, heads[k], end, phrases, bounds[phrase], bounds[phrase + 1])
            if at == end and at > heads[k]:
                out[k] = 2
            elif at > heads[k] and out[k] == 0:
                out[k] = 1


@helper
def _behind(data: U8, at: int, end: int, phrases: U8, first: int, last: int) -> int:
    """Byte behind the phrase first … last, if it stands at `at`; else -1."""
    for k in range(first, last):
        if at >= end:
            return -1
        byte, wanted = data[at], phrases[k]
        if wanted == 0x27 and byte == 0xE2 and at + 2 < end and data[at + 1] == 0x80 and data[at + 2] == 0x99:
            at += 3
            continue
        if 65 <= byte <= 90:
            byte = byte | 0x20
        if byte != wanted:
            return -1
        at += 1
    return at


@njit(nogil=True, cache=True)
def count_leaked(words: U64, documents: I64, conversations: I64, answers: U8, num: int, out: I64) -> None:
    """For each answer, how many of its words are in runs of `num` words that a turn before it, not an answer, has.

    Args:
        words: uint64[w], hash of each word.
        documents: int64[n + 1], first word of each turn, then w.
        conversations: int64[d + 1], first turn of each conversation, then n.
        answers: uint8[n], whether the turn is an answer.
        num: words of a run; an answer of fewer (LEAST_WORDS or more) is one itself.
        out: int64[n], filled.
    """
    most = 0
    for row in range(len(conversations) - 1):
        most = max(most, documents[conversations[row + 1]] - documents[conversations[row]])
    table, used = np.zeros(table_size(most), np.uint64), np.zeros(table_size(most), np.uint8)
    for row in range(len(conversations) - 1):
        first, last = conversations[row], conversations[row + 1]
        size = table_size(documents[last] - documents[first])
        used[:size] = 0
        for turn in range(first, last):
            begin, end = documents[turn], documents[turn + 1]
            out[turn] = 0
            if not answers[turn]:
                _put_runs(words, begin, end, num, table, used, size)
            elif end - begin >= num:
                out[turn] = _leaked(words, begin, end, num, table, used, size)
            elif end - begin >= LEAST_WORDS:
                for other in range(first, turn):
                    if not answers[other] and _holds(words, documents[other], documents[other + 1], begin, end):
                        out[turn] = end - begin


@helper
def _run_hash(words: U64, at: int, num: int) -> np.uint64:
    total = np.uint64(0)
    for k in range(at, at + num):
        total = total * _KEY + words[k]
    return total


@helper
def _slot(table: U64, used: U8, size: int, key: np.uint64) -> np.int64:
    """Where the key is, or may be put."""
    bits = 0
    while (1 << bits) < size:
        bits += 1
    slot = np.int64((key * _SLOT) >> (_64 - np.uint64(bits)))
    while used[slot] and table[slot] != key:
        slot = (slot + 1) & (size - 1)
    return slot


@helper
def _put_runs(words: U64, begin: int, end: int, num: int, table: U64, used: U8, size: int) -> None:
    for at in range(begin, end - num + 1):
        key = _run_hash(words, at, num)
        slot = _slot(table, used, size, key)
        table[slot], used[slot] = key, 1


@helper
def _leaked(words: U64, begin: int, end: int, num: int, table: U64, used: U8, size: int) -> int:
    """Words of begin … end that are in a run of the table."""
    total, reached = 0, begin
    for at in range(begin, end - num + 1):
        key = _run_hash(words, at, num)
        if used[_slot(table, used, size, key)]:
            total += at + num - max(at, reached)
            reached = at + num
    return total


@helper
def _holds(words: U64, begin: int, end: int, first: int, last: int) -> bool:
    """Whether the words first … last stand, in a row, in begin … end."""
    for at in range(begin, end - (last - first) + 1):
        k = first
        while k < last and words[k] == words[at + k - first]:
            k += 1
        if k == last:
            return True
    return False
