"""Items that went two ways, put in order again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
Column = npt.NDArray[Any]


def woven(
    of_first: npt.NDArray[np.bool_], bounds: tuple[I64, I64], columns: Sequence[tuple[Column, Column]]
) -> tuple[I64, list[Column]]:
    """Items of two batches in one.

    Args:
        of_first: bool[n], whether each item is the first batch's next, or the second's.
        bounds: int64[items + 1] of each batch, where its items begin in its columns, and the last ends.
        columns: of each column the first batch's and the second's, of one dtype.

    Returns:
        int64[n + 1], where the n items begin, and the columns.
    """
    lengths = np.zeros(len(of_first), np.int64)
    lengths[of_first], lengths[~of_first] = map(np.diff, bounds)
    starts = np.zeros(len(of_first) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    inside = np.repeat(of_first, lengths)
    found = []
    for one, two in columns:
        column = np.empty(len(inside), one.dtype)
        column[inside], column[~inside] = one, two
        found.append(column)
    return starts, found
