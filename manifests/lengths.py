"""Rows of several lengths: conversations with a row each lie in the shortest that holds them, and the stratum says it.

With `sequences: {length: 4096, buckets: [512, 1024]}` stratum train/en becomes train/en/length=512, …/length=1024 and
…/length=4096, each with rows of its length.
"""

from collections.abc import Iterable

MARK = "/length="


def with_length(stratum: str, length: int) -> str:
    """A stratum's name with the tokens of its rows."""
    return f"{stratum}{MARK}{length}"


def without_length(name: str) -> str:
    """A stratum's or component's name, of rows of whatever length."""
    return name.partition(MARK)[0]


def length_of(name: str) -> int | None:
    """Tokens of a row, as a stratum's or component's name says them; None: its rows have one length, not named."""
    digits = name.partition(MARK)[2]
    return int(digits) if digits.isdecimal() else None


def in_words(lengths: Iterable[int]) -> str:
    """Lengths as people read them: "512, 1,024 and 4,096"."""
    *before, last = (f"{length:,}" for length in lengths)
    return f"{', '.join(before)} and {last}" if before else last
