"""Sharing out a growing number in whole parts, by integer weights: rows among components, batches among lengths.

Weights are put in descending order and split recursively after the shortest prefix with half the weight; of t the left
side gets (2·t·W_left + W) // (2W), in Python integers, since t·W overflows 64 bits. The counts never go down as t grows
(those of a largest-remainder rule do) and stay near the quota t·w/W: a split rounds by at most half and hands on about
half of what it was given: 1.24 was the most in random weights, and less than 1.75 holds for any:

    weights 2, 1, 1    split {2 | 1, 1}, then {1 | 1}
    t               1        2        3        4
    counts      (1,0,0)  (1,1,0)  (2,1,0)  (2,1,1)
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.keyed import keyed_permutation

I64 = npt.NDArray[np.int64]


class Split:
    """How a number is shared out.

    Args:
        weights: at least one, above 0; of equal ones the first comes first.
    """

    def __init__(self, weights: Sequence[int]) -> None:
        self._order = sorted(range(len(weights)), key=lambda index: -weights[index])
        self._splits = tuple(_splits([weights[index] for index in self._order], 0, len(weights)))

    def counts(self, total: int) -> list[int]:
        """What each weight gets of `total` (exact; never less of more; the quota itself where all are whole)."""
        shared = [0] * len(self._order)
        shared[0] = total
        for first, middle, left_weight, weight in self._splits:
            whole = shared[first]
            shared[first] = (2 * whole * left_weight + weight) // (2 * weight)
            shared[middle] = whole - shared[first]
        counts = [0] * len(shared)
        for index, count in zip(self._order, shared, strict=True):
            counts[index] = count
        return counts

    def block(self, first: int, size: int, key: int) -> I64:
        """Which weight each of the numbers `first` … first + size - 1 goes to, permuted under `key`: int64 [size]."""
        counts = np.subtract(self.counts(first + size), self.counts(first))
        return np.repeat(np.arange(counts.size), counts)[keyed_permutation(size, key)]


def numbered(kinds: I64, before: Sequence[int]) -> I64:
    """The how-many-eth of its kind each is.

    Args:
        kinds: int64 [n], 0 … len(before) - 1.
        before: how many of each kind there were before them.
    """
    by_kind = np.argsort(kinds, kind="stable")
    counts = np.bincount(kinds, minlength=len(before))
    firsts = np.array(before, np.int64) - np.cumsum(counts) + counts
    numbers = np.empty(kinds.size, np.int64)
    numbers[by_kind] = np.repeat(firsts, counts) + np.arange(kinds.size)
    return numbers


def _splits(weights: Sequence[int], first: int, end: int) -> Iterable[tuple[int, int, int, int]]:
    """(first, middle, weight of first … middle, weight of first … end), each split before those inside it."""
    if end - first < 2:
        return
    total, left, middle = sum(weights[first:end]), weights[first], first + 1
    while 2 * left < total:
        left += weights[middle]
        middle += 1
    assert middle < end  # weights descend, so all but the last already hold half
    yield first, middle, left, total
    yield from _splits(weights, first, middle)
    yield from _splits(weights, middle, end)
