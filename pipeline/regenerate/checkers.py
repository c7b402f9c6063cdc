r"""Checkers: whether an answer is the one that is expected. Pure functions of two texts.

    exact    what the answer's last \boxed{…} holds, else all of it; after NFC, white space collapsed
    number   the last number in that \boxed{…}, else in all of it, by value: 1,000 = 1000, 1/2 = 0.5 = \frac{1}{2}
    choice   a letter: in that \boxed{…}, else behind the last "answer is" or "answer:", else at the head ("B", "(B)",
             "B."), else the last "(B)"

The expected text is read in the same way, so GSM8K's "… #### 72" is 72. Reasoning between `<think>` and `</think>` is
no part of an answer. A number is exact: 0.333 is not 1/3.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Literal

Checker = Literal["exact", "number", "choice"]
#: Raised when an answer that was right becomes wrong, or the other way round.
VERSION = 1
_BOXED = "\\boxed{"
_FRACTION = re.compile(r"\\[dt]?frac\{([-+]?[0-9.]{1,50})\}\{([0-9.]{1,50})\}")
# Groups of three are bounded, as each of many that end in other digits would be tried again.
_NUMBER = re.compile(
    r"(?:(?<![\w)\]}])[-+])?(?:[0-9]{1,3}(?:,[0-9]{3}){1,30}(?![0-9])|[0-9]+|(?=\.[0-9]))(?:\.[0-9]+)?"
    r"(?:[eE][-+]?[0-9]{1,3}(?![0-9]))?(?:\s?/\s?[0-9]+(?:\.[0-9]+)?)?"
)
_MAX_NUMBER_CHARACTERS = 400  # longer is no number anybody asks for, and would cost its square to compare
# So are runs of white space: two in a row would be tried in every split.
_TOLD_CHOICE = re.compile(
    r"\b(?i:answer(?:\s{1,4}is)?\s{0,4}:?\s{0,4}(?:option\s{1,4})?)[*_\s]{0,4}\(?([A-Z])\)?(?![\w'’])"
)
_HEAD_CHOICE = re.compile(r"\s*[*_]*\(?([A-Z])(?:[).:][*_]*(?=\s|$)|[*_]*\s*$)")
_BRACKETED_CHOICE = re.compile(r"\(([A-Z])\)")


def without_reasoning(text: str) -> str:
    """What stands behind the last `</think>`; "" where reasoning was begun and not ended."""
    _, closed, after = text.rpartition("</think>")
    rest = after if closed else text
    return "" if rest.lstrip().startswith("<think>") else rest


def number_of(text: str) -> Fraction | None:
    """The number that a text ends up with; None where it has none."""
    boxed = boxed_of(text)
    found = None if boxed is None else _last_number(boxed)
    return _last_number(text) if found is None else found


def _last_number(text: str) -> Fraction | None:
    plain = text.replace("−", "-").replace("{,}", ",").replace("\\!", "")
    plain = _FRACTION.sub(r"\1/\2", plain)
    numbers = _NUMBER.findall(plain)
    if not numbers or len(numbers[-1]) > _MAX_NUMBER_CHARACTERS:
        return None
    above, _, below = re.sub(r"[\s,]", "", numbers[-1]).partition("/")
    divisor = Fraction(below or 1)
    return Fraction(above) / divisor if divisor else None


def choice_of(text: str) -> str | None:
    """The letter that a text chooses; None where it has none."""
    boxed = boxed_of(text)
    for part in (boxed, text):
        if part is None:
            continue
        told = _TOLD_CHOICE.findall(part)
        head = _HEAD_CHOICE.match(part)
        bracketed = _BRACKETED_CHOICE.findall(part)
        if told:
            return str(told[-1])
        if head is not None:
            return head[1]
        if bracketed:
            return str(bracketed[-1])
    return None


def words_of(text: str) -> str | None:
    """What is compared of a text as it stands; None where there is nothing."""
    boxed = boxed_of(text)
    return " ".join(unicodedata.normalize("NFC", text if boxed is None else boxed).split()) or None


def boxed_of(text: str) -> str | None:
    r"""What the last \boxed{…} of a text holds; None where there is none that is closed."""
    start = text.rfind(_BOXED)
    if start < 0:
        return None
    depth = 0
    for place in range(start + len(_BOXED) - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + len(_BOXED) : place]
    return None


#: What each checker compares of a text.
CHECKERS: Mapping[str, Callable[[str], Fraction | str | None]] = {
    "exact": words_of,
    "number": number_of,
    "choice": choice_of,
}


def is_readable(checker: str, expected: str) -> bool:
    """Whether anything can be compared with what is expected."""
    return CHECKERS[checker](expected) is not None


def is_right(checker: str, expected: str, answer: str) -> bool:
    """Whether an answer is the expected one; reasoning in it does not count."""
    wanted = CHECKERS[checker](expected)
    return wanted is not None and CHECKERS[checker](without_reasoning(answer)) == wanted
