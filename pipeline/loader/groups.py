"""Rows by what they share."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt


def groups(values: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Each distinct value, ascending, and the indices that have it, ascending."""
    if values.size == 0:
        return
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    borders = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for members in np.split(order, borders):
        yield int(values[members[0]]), members
