"""Loops: stretches of an answer that repeat themselves at least three times in a row.

A stretch of n bytes has period p if each of its bytes, but for the first p, is the byte p before it; it repeats n / p
times. Every stretch with three repeats and p up to MAX_PERIOD is found, in time n · ln MAX_PERIOD:

    for each period p, at every p-th byte c:     (a stretch with three repeats holds such a c, and p bytes from there)
        are some bytes from c on those p bytes before?
        then it goes from there, both ways, as far as byte i equals byte i - p; go on behind it

What has a shorter period that divides p is that one's. Two periods p and q over p + q bytes make their greatest common
divisor one (Fine and Wilf 1965, theorem 1), so a place well inside a stretch of a shorter period is passed over.
Without that a megabyte of one letter would take MAX_PERIOD times as long as another.

People repeat themselves too: "love, love, love", `None, None, None`, rules, tables, zeros. So a stretch is a loop only
if enough words are said again in it, `words` of them: one word nine times, two five times, four or more three times
(with 8). In plain text `plain_words` will do: one word five times, two or more three times (with 4).

A word stands between white space and is letters for the most part; of Han, kana, Thai and Lao each character is one.
Beside a word, numbers and the like count as words; marks that stand alone never do. Plain text is in one line, words
for two thirds, not all of them followed by a comma, none of them a character, in periods of four bytes or more. What
has no words is a loop from RULE_BYTES on. tests/bench/loops.py measures what that finds of planted loops, and in what
people wrote.
"""

import numpy as np
from numba import njit

from tokenmill.filters.eight_bytes import load8
from tokenmill.filters.scan import I32, I64, U8
from tokenmill.kernels import helper

#: Longest period, in bytes: over 500 tokens of English.
MAX_PERIOD = 4096
#: Words that are said again in a loop, and in one of plain text.
WORDS, PLAIN_WORDS = 8, 4
#: Bytes of a loop without words, such as a line of dashes or a table of zeros.
RULE_BYTES = 512


@njit(nogil=True, cache=True)
def find_loops(data: U8, starts: I64, ends: I64, words: int, plain_words: int, out: I64) -> None:
    """For each answer, the most repeats of a loop in it, and how many of its bytes are in loops.

    Args:
        data: uint8, all texts.
        starts: int64[n], first byte of each answer.
        ends: int64[n], byte behind its last.
        words: that are said again in a loop.
        plain_words: that are said again in one of plain text.
        out: int64[n, 2], filled.
    """
    longest = 0
    for k in range(len(starts)):
        longest = max(longest, ends[k] - starts[k])
    lefts, rights = np.empty(longest, np.int32), np.empty(longest, np.int32)
    looped = np.empty(longest, np.uint8)
    for k in range(len(starts)):
        text = data[starts[k] : ends[k]]
        num = len(text)
        lefts[:num] = 0
        rights[:num] = 0
        looped[:num] = 0
        most = 0
        for period in range(1, min(MAX_PERIOD, (num + 2) // 3) + 1):
            most = max(most, _loops_of(text, period, words, plain_words, lefts, rights, looped))
        out[k, 0], out[k, 1] = most, looped[:num].sum()


@helper
def _slack(period: int) -> int:
    """Bytes that three repeats may lack: the space, or the line ends, behind the last of them."""
    return int(period >= 4) + int(period >= 16)


@helper
def _loops_of(text: U8, period: int, words: int, plain_words: int, lefts: I32, rights: I32, looped: U8) -> int:
    """Note every stretch of this period, and mark the loops among them; the most repeats of one."""
    num, slack, most = len(text), _slack(period), 0
    at = period
    while at + period - slack <= num:
        if not _matches(text, at, period):
            at += period
        elif lefts[at] <= at - period and rights[at] >= at + period:
            at += period * ((rights[at] - at) // period)
        else:
            left, right = at, at
            while left > period and text[left - 1] == text[left - 1 - period]:
                left -= 1
            while right < num and text[right] == text[right - period]:
                right += 1
            left -= period
            if right - left >= 3 * period - slack and _is_shortest(text, left, period):
                for k in range(left, right):
                    lefts[k], rights[k] = left, right
                repeats = (right - left + slack) // period
                found, plain = _words(text, left + period, left + 2 * period, right)
                again = (repeats - 1) * found
                if (
                    again >= words
                    or (plain and again >= plain_words and period >= 4)
                    or (found == 0 and right - left >= RULE_BYTES)
                ):
                    most = max(most, repeats)
                    looped[left:right] = 1
            at += period * max(1, (right - at + period - 1) // period)
    return most


@helper
def _is_shortest(text: U8, left: int, period: int) -> bool:
    """Whether a stretch at `left` has no period that divides this one; `period` bytes and those before tell."""
    for shorter in range(1, period // 2 + 1):
        if period % shorter == 0:
            k = left
            while k < left + period and text[k] == text[k + shorter]:
                k += 1
            if k == left + period:
                return False
    return True


@helper
def _matches(text: U8, at: int, period: int) -> bool:
    """Whether some bytes from `at` on are those a period before: of three repeats they are, up to its slack."""
    if period < 10:
        for k in range(at, at + period - _slack(period)):  # noqa: SIM110 - Numba compiles no generator expression
            if text[k] != text[k - period]:
                return False
        return True
    if load8(text, at) != load8(text, at - period):
        return False
    last = at + period - 10
    return bool(load8(text, last) == load8(text, last - period))


@helper
def _words(text: U8, begin: int, end: int, limit: int) -> tuple[int, bool]:
    """Words that begin in begin … end (the last may go on, up to `limit`), and whether they are plain text."""
    words = others = commas = 0
    plain = True
    for at in range(begin, end):
        if _is_character_word(text, at, limit):
            words += 1
            plain = False
        elif text[at] == 0x0A:
            plain = False
        elif text[at] > 0x20 and text[at - 1] <= 0x20 and not _is_mark(text, at, limit):
            is_word, comma = _is_word(text, at, limit)
            words += int(is_word)
            others += int(not is_word)
            commas += int(comma)
    plain = plain and commas < words and words >= 2 * others
    return words + others if words > 0 else 0, plain


@helper
def _is_mark(text: U8, at: int, limit: int) -> bool:
    """Whether one of .,:;!? stands alone."""
    byte = text[at]
    alone = at + 1 >= limit or text[at + 1] <= 0x20
    return bool(alone and (byte == 46 or byte == 44 or byte == 58 or byte == 59 or byte == 33 or byte == 63))


@helper
def _is_word(text: U8, at: int, limit: int) -> tuple[bool, bool]:
    """Whether what comes before white space is letters for the most part, and whether it ends with a comma.

    Signs beyond ASCII (those of lead bytes C2, E2, EE … F4: §, —, ═, emoji) are no letters.
    """
    letters = others = 0
    while at < limit and text[at] > 0x20:
        byte = text[at]
        if byte >= 0x80:
            if _is_character_word(text, at, limit):
                return False, False
            sign = byte == 0xC2 or byte == 0xE2 or byte >= 0xEE
            letters += int(byte >= 0xC0 and not sign)
            others += int(sign)
        else:
            letter = 97 <= (byte | 32) <= 122
            letters += int(letter)
            others += int(not letter)
        at += 1
    return letters > 0 and letters >= others, text[at - 1] == 0x2C


@helper
def _is_character_word(text: U8, at: int, limit: int) -> bool:
    """Whether the byte begins a character of a script without spaces: U+0E00 … U+0EFF, U+3040 … U+9FFF."""
    byte = text[at]
    if byte < 0xE0 or byte > 0xE9 or at + 1 >= limit:
        return False
    second = text[at + 1]
    if byte == 0xE0:
        return bool(0xB8 <= second <= 0xBB)
    return bool(byte >= 0xE4 or (byte == 0xE3 and second >= 0x81))
