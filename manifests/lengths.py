"""Rows of several lengths: conversations with a row each lie in the shortest that holds them, and the stratum says it.

With `sequences: {length: 4096, buckets: [512, 1024]}` stratum train/en becomes train/en/length=512, …/length=1024 and
…/length=4096, each with rows of its length.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

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


def by_length(
    stratum: str, lengths: Sequence[int], tokens: npt.NDArray[np.int64]
) -> Iterator[tuple[str, int, npt.NDArray[np.bool_]]]:
    """Whose rows are of each length: stratum, length and which documents, bool [n]; of one length alone all.

    Args:
        stratum: of the documents.
        lengths: of rows, rising.
        tokens: int64 [n], of each document; with several lengths not above the longest.
    """
    if len(lengths) == 1:
        yield stratum, lengths[0], np.ones(len(tokens), np.bool_)
        return
    shortest = np.searchsorted(lengths, tokens)
    for index, length in enumerate(lengths):
        yield with_length(stratum, length), length, shortest == index


def in_words(lengths: Iterable[int]) -> str:
    """Lengths as people read them: "512, 1,024 and 4,096"."""
    *before, last = (f"{length:,}" for length in lengths)
    return f"{', '.join(before)} and {last}" if before else last
