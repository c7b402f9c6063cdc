"""Scores of labels from sums over features, in plain IEEE arithmetic of a fixed order: the same bits everywhere."""

import math

import numpy as np
from numba import njit

from tokenmill.kernels import helper

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 6.93147180369123816490e-01  # 21 trailing zero bits, so that k * _LN2_HIGH is exact
_LN2_LOW = 1.90821492927058770002e-10
_INVERSE_FACTORIALS = tuple(1.0 / math.factorial(n) for n in range(13, -1, -1))
#: 2^-k, for `exp`.
POWERS = np.array([2.0**-k for k in range(1024)])


@helper
def normalise(posterior, scale, first_column, powers):  # type: ignore[no-untyped-def]
    """Turn log posteriors into probabilities in place; each label's go to its first column."""
    highest = posterior[0]
    for column in range(1, len(posterior)):
        highest = max(highest, posterior[column])
    total = 0.0
    for column in range(len(posterior)):
        posterior[column] = exp((posterior[column] - highest) * scale, powers)
        total += posterior[column]
    for column in range(len(posterior)):
        share = posterior[column] / total
        posterior[column] = 0.0
        posterior[first_column[column]] += share


@njit(nogil=True, cache=True)
def exp(x, powers):  # type: ignore[no-untyped-def]
    """e^x for x ≤ 0, within 2 units in the last place: x = k ln 2 + r, Taylor's series for r, times 2^k."""
    if x < -700.0:
        return 0.0
    k = math.floor(x * _LOG2_E + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    series = 0.0
    for coefficient in _INVERSE_FACTORIALS:
        series = series * r + coefficient
    return series * powers[-int(k)]


@helper
def pick_three(posterior, first_column, columns, scores):  # type: ignore[no-untyped-def]
    """The three highest of the labels' first columns; of equal ones the one on the left."""
    columns[0] = columns[1] = columns[2] = -1
    for place in range(3):
        best = -1
        for column in range(len(posterior)):
            taken = first_column[column] != column or column == columns[0] or column == columns[1]
            if not taken and (best < 0 or posterior[column] > posterior[best]):
                best = column
        columns[place] = best
        scores[place] = posterior[best]


@helper
def pick_clear(posterior, scale, first_column, margin):  # type: ignore[no-untyped-def]
    """First column of the label whose probability is the highest beyond doubt, without an exponential; -1 if in doubt.

    `margin` is 1 + ln k for at most k columns a label. Where every column of another label lies that far below the
    highest, their label's probability is at most k · e^-margin = 1/e of the best one's.
    """
    highest = 0
    for column in range(1, len(posterior)):
        if posterior[column] > posterior[highest]:
            highest = column
    label = first_column[highest]
    limit = posterior[highest] - margin / scale
    for column in range(len(posterior)):
        if posterior[column] > limit and first_column[column] != label:
            return -1
    return label
