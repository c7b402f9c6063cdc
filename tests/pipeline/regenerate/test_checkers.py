"""Checkers: what is right, by values that people write, and by any that hypothesis finds."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.pipeline.regenerate.checkers import is_readable, is_right, number_of, without_reasoning


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000", 1000),
        ("It is 12,345,678.5 in all.", Fraction("12345678.5")),
        ("1/2", Fraction(1, 2)),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("so \\boxed{\\frac{1}{2}}, not 7", Fraction(1, 2)),
        ("\\boxed{3} or rather \\boxed{4} of 5", 4),
        ("\\boxed{none} of 5", 5),
        ("\\boxed{\\dfrac{-3}{4}}", Fraction(-3, 4)),
        ("1{,}000", 1000),
        ("a = -3", -3),
        ("a = −3", -3),
        ("5-3", 3),
        ("f(2)-3", 3),
        ("6 × 7 = 42.", 42),
        ("$1,234.50", Fraction("1234.5")),
        ("50 %", 50),
        ("2.5e-3", Fraction("0.0025")),
        ("Step 1: 3 + 4 = 7\n#### 72", 72),
        ("1, 2, 3", 3),
        ("1,2345", 2345),
        ("3/0", None),
        ("none", None),
        ("", None),
        ("\\boxed{1", 1),
        ("7" * 5000, None),
    ],
)
def test_numbers(text: str, value: int | Fraction | None):
    assert number_of(text) == value


@pytest.mark.parametrize(
    ("checker", "expected", "answer", "right"),
    [
        ("number", "1000", "That makes 1,000 apples.", True),
        ("number", "1/2", "0.50", True),
        ("number", "0.333", "1/3", False),
        ("number", "#### 72", "72", True),
        ("number", "4", "<think>\n4\n</think>\n\n5", False),
        ("number", "4", "<think>\n5\n</think>\n\nIt is 4.", True),
        ("number", "4", "<think>\nis it 4", False),
        ("exact", "Paris", "Paris", True),
        ("exact", "New York", " New\n York ", True),
        ("exact", "Paris", "paris", False),
        ("exact", "Paris", "It is Paris", False),
        ("exact", "x^{2}+1", "So \\boxed{x^{2}+1}.", True),
        ("exact", "é", "é", True),
        ("exact", "Paris", "", False),
        ("choice", "B", "B", True),
        ("choice", "(B)", "**B.** because", True),
        ("choice", "B", "A is wrong, so the answer is (B).", True),
        ("choice", "B", "The answer is A. No: the answer is B", True),
        ("choice", "B", "ANSWER: option B", True),
        ("choice", "B", "Both (A) and (C) fail, which leaves (B)", True),
        ("choice", "B", "\\boxed{B}, not (A)", True),
        ("choice", "B", "A bird", False),
        ("choice", "A", "The answer is a bird", False),
        ("choice", "B", "Banana", False),
        ("choice", "B", "The answer is Berlin", False),
    ],
)
def test_right_and_wrong(checker: str, expected: str, answer: str, right: bool):
    assert is_right(checker, expected, answer) is right


def test_an_expected_answer_that_cannot_be_read():
    assert not is_readable("number", "many")
    assert not is_readable("choice", "the second")
    assert not is_readable("exact", " ")
    assert not is_right("number", "many", "many")
    assert is_readable("exact", "many")


@given(st.integers(-(10**12), 10**12), st.integers(0, 6), st.text(alphabet="abc ;:\n", max_size=20))
def test_a_number_is_found_however_it_is_written(value: int, digits: int, before: str):
    wanted = Fraction(value, 10**digits)
    sign, size = "-" if value < 0 else "", abs(value)
    whole, rest = divmod(size, 10**digits)
    decimals = f".{rest:0{digits}d}" if digits else ""
    for told in (f"{sign}{whole:,}{decimals}", f"{sign}{whole}{decimals}", f"{sign}{size}/{10**digits}"):
        assert number_of(f"{before} 17 then: {told}.") == wanted
        assert number_of(f"\\boxed{{{told}}} and 3 more") == wanted


@given(st.text(), st.text())
def test_reasoning_is_left_out(thought: str, answer: str):
    answer = answer.replace("<think>", "").replace("</think>", "")
    assert without_reasoning(f"<think>{thought}</think>{answer}") == answer
    assert without_reasoning(answer) == answer


@pytest.mark.parametrize(
    "text",
    [
        *("{" * 200_000, "\\boxed{" * 50_000, "answer is " * 50_000, "(" * 200_000, "1e" * 99_999),
        *("1" + ",111" * 50_000 + "x", "1" * 200_000 + " a", "answer" + " " * 200_000),
    ],
)
@pytest.mark.parametrize("checker", ["exact", "number", "choice"])
def test_what_loops_is_checked_at_once(checker: str, text: str):
    assert not is_right(checker, "7" if checker != "choice" else "B", text)
