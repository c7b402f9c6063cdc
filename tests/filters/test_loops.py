"""Loops: against every stretch of every period found the slow way, and what is one and what is none."""

import random
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenmill.filters.loops import MAX_PERIOD, PLAIN_WORDS, RULE_BYTES, WORDS, find_loops


def loops(texts: list[str], words: int = WORDS, plain_words: int = PLAIN_WORDS) -> list[tuple[int, int]]:
    """Most repeats and bytes in loops of each text."""
    raw = [text.encode() for text in texts]
    sizes = np.array([len(each) for each in raw], np.int64)
    ends = np.cumsum(sizes)
    data = np.frombuffer(b"?" + b"".join(raw), np.uint8)[1:]
    out = np.zeros((len(raw), 2), np.int64)
    find_loops(data, ends - sizes, ends, words, plain_words, out)
    return [tuple(row) for row in out.tolist()]


def stretches(data: bytes) -> list[tuple[int, int, int]]:
    """First byte, end and period of every stretch with three repeats whose shortest period that is."""
    found = []
    for period in range(1, min(MAX_PERIOD, (len(data) + 2) // 3) + 1):
        slack = (period >= 4) + (period >= 16)
        same = "".join("=" if data[at] == data[at - period] else "." for at in range(period, len(data)))
        for match in re.finditer("=+", same):
            start, end = match.start(), match.end() + period
            stretch = data[start:end]
            if len(stretch) >= 3 * period - slack and not any(
                period % shorter == 0 and stretch[shorter:] == stretch[:-shorter] for shorter in range(1, period)
            ):
                found.append((start, end, period))
    return found


def is_character(byte: int, following: int) -> bool:
    return 0xE4 <= byte <= 0xE9 or (byte == 0xE3 and following > 0x80) or (byte == 0xE0 and 0xB8 <= following <= 0xBB)


def words_of(data: bytes, start: int, end: int, period: int) -> tuple[int, bool]:
    """Words of the second repeat, and whether they are plain."""
    count, others, commas, plain = 0, 0, 0, b"\n" not in data[start + period : start + 2 * period]
    for at in range(start + period, start + 2 * period):
        if at + 1 < end and is_character(data[at], data[at + 1]):
            count, plain = count + 1, False
        elif data[at] > 32 and data[at - 1] <= 32:
            chunk = re.match(rb"[^\x00-\x20]+", data[at:end]).group()
            if re.fullmatch(rb"[.,:;!?]", chunk):
                continue
            letters = [b for b in chunk if (chr(b).isascii() and chr(b).isalpha()) or (0xC3 <= b < 0xEE and b != 0xE2)]
            signs = [
                b for b in chunk if (b < 0x80 and not chr(b).isalpha()) or b in (0xC0, 0xC1, 0xC2, 0xE2) or b >= 0xEE
            ]
            whole = any(is_character(*pair) for pair in pairwise(chunk))
            word = not whole and len(letters) >= max(1, len(signs))
            count, commas, plain = count + word, commas + (chunk[-1:] == b"," and not whole), plain and not whole
            others += not word
    return count + others * (count > 0), plain and commas < count and count >= 2 * others


def slow_loops(text: str, words: int, plain_words: int) -> tuple[int, int]:
    data, most, looped = text.encode(), 0, set()
    for start, end, period in stretches(data):
        repeats = (end - start + (period >= 4) + (period >= 16)) // period
        count, plain = words_of(data, start, end, period)
        again = (repeats - 1) * count
        if (
            again >= words
            or (plain and period >= 4 and again >= plain_words)
            or (not count and end - start >= RULE_BYTES)
        ):
            most = max(most, repeats)
            looped |= set(range(start, end))
    return most, len(looped)


UNITS = st.text("ab ,.\n漢é—1:", min_size=1, max_size=12)


@st.composite
def looping(draw: st.DrawFn) -> str:
    """Text of few letters with units said again and again, in one another too."""
    pieces = []
    for _ in range(draw(st.integers(1, 4))):
        unit = draw(UNITS) * draw(st.integers(1, 4)) + draw(st.text("ab ", max_size=3))
        pieces.append(draw(st.text("abc \n", max_size=8)) + unit * draw(st.integers(1, 6)))
    return "".join(pieces)


@settings(max_examples=300, deadline=None)
@given(st.lists(looping(), min_size=1, max_size=3), st.integers(1, 9), st.integers(1, 5))
@example(["a a a a a a a a "], 8, 4)
@example(["ab" * 9 + "abaab" * 4], 1, 1)
def test_loops_are_those_of_the_oracle(texts: list[str], words: int, plain_words: int):
    assert loops(texts, words, plain_words) == [slow_loops(text, words, plain_words) for text in texts]


def test_long_stretches_are_those_of_the_oracle():
    """Longer than what is compared at once, and one in another."""
    rng = random.Random(4)
    texts = ["-" * (RULE_BYTES + 9), "-=" * 300, ("x" * 30 + " y ") * 40, ("a" * 50 + "b") * 30 + "a" * 300]
    for period in (9, 10, 11, 15, 16, 17, 33, 100):
        unit = "".join(rng.choices("abcdefgh  ", k=period))
        texts.append(" ".join(rng.choices(["tree", "house"], k=9)) + unit * 3 + "end " + (unit[:7] * 3 + unit) * 3)
        texts.append(f"so {unit * 3}"[:-2])
    assert loops(texts) == [slow_loops(text, WORDS, PLAIN_WORDS) for text in texts]


def test_stretches_right_behind_a_shorter_period_are_found():
    """What is passed over ends where the other begins, wherever that is."""
    texts = [
        "=" * before + unit * 3 + "!"
        for unit in ("we go on", "and so it goes", "to be, or not to be")
        for before in range(2 * len(unit), 4 * len(unit))
    ]
    found = loops(texts)
    assert found == [slow_loops(text, WORDS, PLAIN_WORDS) for text in texts]
    assert {repeats for repeats, _ in found} == {3}


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("It is so. " * 3, 3),
        ("and then it is so\n\nAnd then\n" * 3, 3),
        ("It is so It is so It is so", 3),  # the last lacks its end
        ("It is so. It is so.", 0),
        ("He went on and on and said no, no, no.", 0),
        ("I love it, love it, love it.", 3),
        ("yes yes yes yes yes no", 5),
        ("yes yes yes yes no", 0),
        ("a b a b a b a b", 4),
        ("a a a a a a a a", 0),
        ("No, no, no, no, no, no.", 0),
        ("[None, None, None, None]", 0),
        ("None, " * 9, 9),
        ("-" * 120, 0),
        ("|---|---|---|---|\n| a | b | c | d |\n", 0),
        ("0, 0, 0, 0, 0, 0, 0, 0, 0, 0,\n" * 4, 0),
        ("0, " * RULE_BYTES, RULE_BYTES),
        ("- [ ] \n" * 20, 0),
        ("    }\n" * 9, 0),
        ("哈哈哈哈哈哈", 0),
        ("然后我们" * 3, 3),
        ("", 0),
    ],
)
def test_what_is_a_loop(text: str, repeats: int):
    assert loops([text])[0][0] == repeats


def test_periods_up_to_the_longest_are_found():
    rng = random.Random(1)
    unit = " ".join("".join(rng.choices("abcdefghij", k=7)) for _ in range(MAX_PERIOD // 8)) + " "
    assert len(unit) == MAX_PERIOD
    assert loops([f"Well:{unit * 3} done", unit * 2]) == [(3, 3 * MAX_PERIOD), (0, 0)]
