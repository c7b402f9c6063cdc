"""What a rank gets of each global batch: every R-th row, at once or in micro-batches; and where it stands in that."""

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


class Stand(NamedTuple):
    """Where a loader stands.

    Attributes:
        next_row: first row of the global batch that is next, or that it is within.
        given: how many micro-batches of that one were handed out.
        skipped: record batches, by name, whose rows have been padding.
    """

    next_row: int
    given: int
    skipped: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Share:
    """A rank's share of each global batch. Build it with `Share.of`, which checks the sizes.

    Attributes:
        batch_size: rows of a global batch, all ranks together.
        micro_batch_size: rows of a rank that are handed out together.
        dp_rank: takes rows dp_rank, dp_rank + dp_size, … of each global batch, in that order.
        dp_size: ranks.
        borders: global rows, rising, that no batch goes beyond: the one before is filled up with padding.
    """

    batch_size: int
    micro_batch_size: int
    dp_rank: int
    dp_size: int
    borders: tuple[int, ...] = ()

    @classmethod
    def of(cls, batch_size: int, micro_batch_size: int | None, dp_rank: int, dp_size: int) -> "Share":
        """The share, with all a rank's rows in one micro-batch unless a size is given.

        Raises:
            ValueError: ranks, and their micro-batches, do not share out a global batch evenly.
        """
        if dp_size < 1 or not 0 <= dp_rank < dp_size:
            raise ValueError(f"dp_rank {dp_rank} of dp_size {dp_size}: give a rank from 0 to dp_size - 1")
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(
                f"micro_batch_size is {micro_batch_size}: give at least 1, or leave it out for a rank's whole share"
            )
        step = dp_size * (micro_batch_size or 1)
        if batch_size < 1 or batch_size % step:
            near = max(1, batch_size // step) * step
            among = f"{dp_size} ranks" + (f" × micro_batch_size {micro_batch_size}" if micro_batch_size else "")
            raise ValueError(
                f"batch_size {batch_size} (all ranks together) does not divide among {among}: give {near} or "
                f"{near + step}"
            )
        return cls(batch_size, micro_batch_size or batch_size // dp_size, dp_rank, dp_size)

    def up_to(self, borders: tuple[int, ...]) -> "Share":
        """The same with these borders."""
        return replace(self, borders=borders)

    @property
    def micro_batches(self) -> int:
        """Of a rank in a global batch: steps of accumulation."""
        return self.batch_size // self.dp_size // self.micro_batch_size

    def rows(self, first: int, given: int) -> I64:
        """int64 [micro_batch_size], the rows of the micro-batch behind `given` others of the batch from `first` on."""
        begin = first + self.dp_rank + given * self.micro_batch_size * self.dp_size
        return begin + np.arange(self.micro_batch_size, dtype=np.int64) * self.dp_size

    def behind(self, stand: Stand, micro_batches: int) -> Stand:
        """The stand so many micro-batches further on."""
        whole, given = divmod(stand.given + micro_batches, self.micro_batches)
        return stand._replace(next_row=self._behind(stand.next_row, whole), given=given)

    def _behind(self, row: int, batches: int) -> int:
        """The row so many global batches further on than one that begins at `row`."""
        for border in self.borders[bisect_right(self.borders, row) :]:
            here = -(-(border - row) // self.batch_size)
            if batches < here:
                break
            row, batches = border, batches - here
        return row + batches * self.batch_size

    def end(self, first: int, total: int) -> int:
        """Where the rows of the global batch from `first` on end: at `total`, or a border, if that is nearer."""
        at = bisect_right(self.borders, first)
        return min(first + self.batch_size, self.borders[at] if at < len(self.borders) else total)

    def origin(self, first: int) -> int:
        """The row that the global batch from `first` on is counted from: 0, or the border before it."""
        at = bisect_right(self.borders, first)
        return self.borders[at - 1] if at else 0

    def batches(self, first: int, total: int) -> int:
        """Global batches from row `first` to `total`; what fills none counts where there are borders."""
        if not self.borders:
            return max(0, total - first) // self.batch_size
        cuts = [first, *self.borders[bisect_right(self.borders, first) :]]
        return sum(-(-(end - begin) // self.batch_size) for begin, end in pairwise(cuts))

    def state(self, stand: Stand) -> dict[str, Any]:
        """What a state says of a stand within a global batch; nothing at a border, where other sizes may go on."""
        return {"within": {**self._sizes, "given": stand.given}} if stand.given else {}

    def given_of(self, state: dict[str, Any]) -> int:
        """How many micro-batches of its global batch a state had handed out. ValueError if they were of other sizes."""
        within = state.get("within")
        if within is None:
            return 0
        if not isinstance(within, dict) or {**within, "given": 0} != {**self._sizes, "given": 0}:
            raise ValueError(
                f"the state is within a global batch, {within!r}, and this loader has {self._sizes!r}: resume with the "
                "same sizes, or from a state of a global batch's end"
            )
        given = within["given"]
        if type(given) is not int or not 0 < given < self.micro_batches:
            raise ValueError(
                f"the state is behind micro-batch {given!r} of a global batch: they are {self.micro_batches} here"
            )
        return given

    @property
    def _sizes(self) -> dict[str, int]:
        """What tells which rows a micro-batch has, on any rank."""
        return {"batch_size": self.batch_size, "micro_batch_size": self.micro_batch_size, "dp_size": self.dp_size}
