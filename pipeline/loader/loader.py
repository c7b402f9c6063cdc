"""Iterating over a plan's batches, on any number of ranks, from any row.

The state is the next row: a loader with another number of ranks, another batch size or another prefetch depth goes on
from it exactly, since the order, and the noise, of a row depend on nothing but its number.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.mixture import Plan
from tokenmill.manifests.shards import PRETRAINING
from tokenmill.pipeline.loader.batch import Batch, Gathered, KeyedBatch, NoiseKey, Objective
from tokenmill.pipeline.loader.order import Order, OrderedRows, Places
from tokenmill.pipeline.loader.reader import Pieces, Reader

I64 = npt.NDArray[np.int64]
STATE_FORMAT = "tokenmill-loader/1"
#: Rows whose places are worked out together: `order` is fast in bulk.
_ROWS_PER_LOOKUP = 8192


class _Wanted(NamedTuple):
    """A rank's rows of one global batch, and where they lie."""

    next_row: int
    k: I64
    rows: OrderedRows
    places: Places


class Loader:
    """Batches of a plan for one rank; iterate over it. Build it with `open_mixture`.

    Iterating goes on where the loader stands and ends with the plan's last whole global batch. `state_dict()` holds for
    the batch handed out last.

    Attributes:
        plan: what is trained on.
        order: which row comes when.
        objective: what its batches are for.
    """

    def __init__(
        self,
        plan: Plan,
        order: Order,
        reader: Reader,
        objective: Objective,
        noise_key: NoiseKey,
        *,
        batch_size: int,
        dp_rank: int,
        dp_size: int,
        reopen: "Callable[[], Loader]",
    ) -> None:
        self.plan = plan
        self.order = order
        self.objective = objective
        self._noise_key = noise_key
        self._reader = reader
        self._batch_size = batch_size
        self._dp_rank = dp_rank
        self._dp_size = dp_size
        self._reopen = reopen
        self._next_row = 0
        self._every = 1
        self._lookup: tuple[int, OrderedRows] | None = None

    @property
    def num_batches(self) -> int:
        """Whole global batches left from where the loader stands; of a worker, those that are its own."""
        whole = max(0, self.plan.total_rows - self._next_row) // self._batch_size
        return -(-whole // self._every)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopened, (self._reopen, self.state_dict()))

    def reopened(self) -> "Loader":
        """The same mixture opened anew, standing where this loader stands: for another process."""
        return _reopened(self._reopen, self.state_dict())

    def take_turns(self, worker: int, workers: int) -> None:
        """From now on hand out only every `workers`-th batch, first the `worker`-th from here, counted from 0.

        The batches of all workers, in turns, are those of one loader, and each carries the state of that one. A
        worker's own state is of its next batch.
        """
        self._next_row += worker * self._batch_size
        self._every = workers

    def __iter__(self) -> Iterator[Batch]:
        wanted = self._want(self._next_row)
        while wanted is not None:
            own_next_row = wanted.next_row + (self._every - 1) * self._batch_size
            following = self._want(own_next_row)
            batch = self._read(wanted, following)
            self._next_row = own_next_row
            yield batch
            wanted = following if self._next_row == own_next_row else self._want(self._next_row)

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready state: resumes with any `dp_size`, and with any `batch_size` from the same row on."""
        return self._state(min(self._next_row, self.plan.total_rows))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`. ValueError, with both values, if it is of another plan, objective or noise seed."""
        own = self._state(0)
        for field in ("format", "plan", "objective", "noise_seed", "skipped_batches"):
            if state.get(field) != own[field]:
                raise ValueError(
                    f"the state's {field} is {state.get(field)!r}, this loader's {own[field]!r}: its row numbers mean "
                    "other rows or other noise here; open the mixture with the arguments that the state was made with"
                )
        row = state.get("next_row")
        if not isinstance(row, int) or not 0 <= row <= self.plan.total_rows:
            raise ValueError(f"the state's next_row is {row!r}: the plan has rows 0 … {self.plan.total_rows - 1}")
        self._next_row = row

    def _state(self, next_row: int) -> dict[str, Any]:
        return {
            "format": STATE_FORMAT,
            "plan": self.plan.hash,
            "next_row": next_row,
            "noise_seed": self._noise_key.seed,
            "objective": self.objective.hash(self._noise_key.mask_token_id),
            "skipped_batches": [],
        }

    def _want(self, first_row: int) -> _Wanted | None:
        """This rank's rows of the global batch that starts at `first_row`; None when that one is not whole."""
        next_row = first_row + self._batch_size
        if next_row > self.plan.total_rows:
            return None
        k = np.arange(first_row + self._dp_rank, next_row, self._dp_size, dtype=np.int64)
        rows = self._order(first_row, k)
        return _Wanted(next_row, k, rows, self.order.places(rows))

    def _order(self, first_row: int, k: I64) -> OrderedRows:
        """`order(k)`, of k within one global batch, out of a longer stretch that is looked up at once."""
        if (
            self._lookup is None
            or not self._lookup[0] <= first_row <= k[-1] < self._lookup[0] + self._lookup[1].row.size
        ):
            end = min(first_row + max(_ROWS_PER_LOOKUP, self._batch_size), self.plan.total_rows)
            self._lookup = (first_row, self.order.order(np.arange(first_row, end)))
        base, stretch = self._lookup
        return OrderedRows(stretch.component[k - base], stretch.epoch[k - base], stretch.row[k - base])

    def _read(self, wanted: _Wanted, following: _Wanted | None) -> Batch:
        """Gather the rows, with the next batch's reads under way, and make them noisy."""
        batches, which = np.unique(wanted.places.batch, return_inverse=True)
        self._reader.prefetch(batches.tolist())
        if following is not None:
            self._reader.prefetch(np.unique(following.places.batch).tolist())
        mixture = self.plan.mixture
        aligned = mixture.sequence_align > 1
        clean = np.empty((wanted.k.size, mixture.sequence_length), np.int64)
        valid = np.empty(wanted.k.size, np.int32)
        answers = None if mixture.layout == PRETRAINING else np.zeros(clean.shape, np.bool_)
        pieces: list[Pieces] = []
        for index, number in enumerate(batches.tolist()):
            stored = self._reader.get(number)
            members = np.flatnonzero(which == index)
            clean[members] = stored.tokens[wanted.places.row[members]]
            valid[members] = stored.valid[wanted.places.row[members]]
            if aligned or self.objective.needs_pieces:
                found = stored.pieces(wanted.places.row[members], mixture.sequence_align)
                pieces.append(found._replace(row=members[found.row]))
            if answers is not None:
                answers[members] = stored.answers(wanted.places.row[members], mixture.sequence_align)
        gathered = Gathered(
            clean=clean,
            valid=valid,
            pieces=_in_order(pieces) if pieces else None,
            aligned=aligned,
            rows=wanted.k,
            answers=answers,
            epoch=wanted.rows.epoch,
            identity=self.order.identities(wanted.rows),
            batch_rows=(wanted.next_row - self._batch_size, wanted.next_row),
        )
        batch_type = KeyedBatch if self._noise_key.on_device else self.objective.batch_type
        return batch_type(
            **self.objective.arrays(gathered, self._noise_key),
            rows=wanted.k,
            component=wanted.rows.component,
            component_names=tuple(component.name for component in mixture.components),
            epoch=wanted.rows.epoch,
            stored_row=wanted.rows.row,
            state=self._state(wanted.next_row),
        )


def _reopened(reopen: Callable[[], Loader], state: dict[str, Any]) -> Loader:
    loader = reopen()
    loader.load_state_dict(state)
    return loader


def _in_order(several: list[Pieces]) -> Pieces:
    """All of them, by row; those of a row stay in their order."""
    row, start, end = (np.concatenate(columns) for columns in zip(*several, strict=True))
    order = np.argsort(row, kind="stable")
    return Pieces(row[order], start[order], end[order])
