"""Exact counts of a signal's values in bins that are the same for every part, so that parts are read once.

A fraction or a score has 100 bins of equal width from 0 to 1, and one for 1 and more. A whole number has a bin each up
to 20, then ten a decade; any other number has forty a decade, and one for what lies below 10^-4.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Shapes of bins: equal width over 0 … 1; whole numbers; any numbers.
SHARE, WHOLE, NUMBER = "share", "whole", "number"
_SHARE_BINS = 100


@dataclass
class Histogram:
    """Values of one signal in one source.

    Attributes:
        shape: SHARE, WHOLE or NUMBER; see `edges_of`.
        kept: int64[bins], documents that *select* kept.
        dropped: int64[bins], documents that it dropped, whatever the reason.
        missing: documents without a value: those that failed or were gated among them.
    """

    shape: str
    kept: I64
    dropped: I64
    missing: int = 0

    @classmethod
    def empty(cls, shape: str) -> "Histogram":
        """No documents."""
        bins = len(edges_of(shape)) - 1
        return cls(shape, np.zeros(bins, np.int64), np.zeros(bins, np.int64))

    def count(self, values: F64, kept: npt.NDArray[np.bool_]) -> None:
        """Add documents; a value of NaN is none.

        Args:
            values: float64[n].
            kept: bool[n].
        """
        there = ~np.isnan(values)
        self.missing += int(len(values) - np.count_nonzero(there))
        bins = bins_of(self.shape, values[there])
        for counts, chosen in ((self.kept, kept[there]), (self.dropped, ~kept[there])):
            counts += np.bincount(bins[chosen], minlength=len(counts))

    def __iadd__(self, other: "Histogram") -> "Histogram":
        self.kept += other.kept
        self.dropped += other.dropped
        self.missing += other.missing
        return self


def shape_of(signal: str, dtype: pa.DataType) -> str:
    """The shape of a signal's bins, by its name and type."""
    if pa.types.is_integer(dtype):
        return WHOLE
    return SHARE if signal.endswith(("_fraction", "score")) else NUMBER


@cache
def edges_of(shape: str) -> F64:
    """Edges of the bins, rising: bin i holds edges[i] ≤ x < edges[i+1]; the outer ones hold what lies beyond, too."""
    if shape == SHARE:
        return np.arange(_SHARE_BINS + 2) / _SHARE_BINS  # the last bin begins at 1
    # rounded to few digits, so that the last bit of a power, which machines may disagree on, is in no edge
    if shape == WHOLE:
        return np.array([*range(20), *(float(f"{10 ** (tenth / 10):.2g}") for tenth in range(13, 121))], np.float64)
    return np.array([0.0, *(float(f"{10 ** (fortieth / 40):.3g}") for fortieth in range(-160, 361))])


def bins_of(shape: str, values: F64) -> I64:
    """Bin of each value, which must be a number."""
    edges = edges_of(shape)
    if shape == SHARE:
        # a float32 of 0.3 lies a little off the double 0.3: round to what float32 tells apart before the bin is chosen
        values = np.round(values, 6)
    found: I64 = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return found


def place_of(shape: str, value: float) -> float:
    """Where a value lies among the bins, in bins from the first edge: 2.5 is the middle of the third."""
    edges = edges_of(shape)
    if value <= edges[0]:
        return 0.0
    at = min(int(np.searchsorted(edges, value, side="right")) - 1, len(edges) - 2)
    return float(min(at + (value - edges[at]) / (edges[at + 1] - edges[at]), len(edges) - 1.0))
