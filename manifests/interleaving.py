"""Which length comes when, where rows have several: a batch has rows of one.

Rows of each length make a stage of their own, in an order of their own. The mixture's batches, of `size` rows each, are
of one stage: of the first n every stage has had its share, as `Split` counts it, and within 1,024 of them a permutation
keyed (seed, block) places them. So global row k is found by itself:

    k ─▶ batch k // size ─▶ stage, and its how-many-eth batch this is ─▶ row (that · size + k % size) of the stage
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.keyed import key64
from tokenmill.manifests.split import Split, numbered

I64 = npt.NDArray[np.int64]
_BATCHES_PER_BLOCK = 1024


class StagePlaces(NamedTuple):
    """Where global rows lie: two int64 arrays, one entry a row.

    Attributes:
        stage: index into the plan's stages.
        row: counted through that stage.
    """

    stage: I64
    row: I64


@dataclass(frozen=True)
class Interleaving:
    """Batches of several stages among each other.

    Attributes:
        seed: 64-bit, of the plan.
        size: rows of a batch.
        batches: of each stage, at least one.
    """

    seed: int
    size: int
    batches: tuple[int, ...]

    @cached_property
    def total_batches(self) -> int:
        """Of all stages."""
        return sum(self.batches)

    @cached_property
    def split(self) -> Split:
        """Shares of the stages in any first batches."""
        return Split(self.batches)

    def places(self, k: I64) -> StagePlaces:
        """The stage of each global row and its place there: int64 [n] to two of them."""
        batch, inside = np.divmod(k, self.size)
        block, slot = np.divmod(batch, _BATCHES_PER_BLOCK)
        stage, nth = np.empty_like(batch), np.empty_like(batch)
        for number in np.unique(block).tolist():
            members = np.flatnonzero(block == number)
            stages, numbers = _block(self, number)
            stage[members], nth[members] = stages[slot[members]], numbers[slot[members]]
        return StagePlaces(stage, nth * self.size + inside)

    def global_row(self, stage: int, row: int) -> int:
        """The global row of a row of a stage: `places` from the other end."""
        nth, inside = divmod(row, self.size)
        ends = range(_BATCHES_PER_BLOCK, self.total_batches + _BATCHES_PER_BLOCK, _BATCHES_PER_BLOCK)
        block = bisect_right(ends, nth, key=lambda end: self.split.counts(min(end, self.total_batches))[stage])
        stages, numbers = _block(self, block)
        slot = int(np.flatnonzero((stages == stage) & (numbers == nth))[0])
        return (block * _BATCHES_PER_BLOCK + slot) * self.size + inside


@lru_cache(maxsize=8)
def _block(plan: Interleaving, block: int) -> tuple[I64, I64]:
    """Stage of each batch of a block, and its how-many-eth batch that is: int64 [1,024 or fewer] each."""
    first = block * _BATCHES_PER_BLOCK
    size = min(_BATCHES_PER_BLOCK, plan.total_batches - first)
    stages = plan.split.block(first, size, key64("lengths", plan.seed, block))
    return stages, numbered(stages, plan.split.counts(first))
