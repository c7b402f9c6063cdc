"""Iterating over a plan's batches, on any number of ranks, from any row.

The state is the next row: a loader with another number of ranks, another batch size or another prefetch depth goes on
from it exactly, since the order, and the noise, of a row depend on nothing but its number.

    planner thread       which rows, where they lie; asks the reader for their record batches, some batches ahead
    reader's threads     fetch, check, decode
    batch thread         gathers a batch and makes it noisy, while the trainer is at the one before

They start with the first batch and end with the iterator. Only what was handed out counts for the state.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.plan import Plan
from tokenmill.manifests.shards import PRETRAINING, PROMPTS
from tokenmill.pipeline.loader.ahead import Ahead
from tokenmill.pipeline.loader.batch import Batch, Gathered, KeyedBatch, NoiseKey, Objective
from tokenmill.pipeline.loader.gather import Sought, gather
from tokenmill.pipeline.loader.order import Order, OrderedRows
from tokenmill.pipeline.loader.padding import padded
from tokenmill.pipeline.loader.reader import Reader
from tokenmill.pipeline.loader.share import Share, Stand
from tokenmill.pipeline.loader.stages import check_row
from tokenmill.pipeline.loader.stored_order import StoredOrder
from tokenmill.pipeline.loader.stored_rows import StoredRows

I64 = npt.NDArray[np.int64]
STATE_FORMAT = "tokenmill-loader/1"
DEFAULT_PREFETCH = 2
#: Rows whose places are worked out together: `order` is fast in bulk.
_ROWS_PER_LOOKUP = 8192


class _Wanted(NamedTuple):
    """A rank's rows of one micro-batch, which is of one stage, and the reads of what holds them; -1: of padding.

    `first_row` is the global batch's, of whose micro-batches this rank had `given` before.
    """

    stage: int
    first_row: int
    given: int
    k: I64
    rows: OrderedRows
    sought: Sought
    asked: "list[Future[StoredRows]]"


class _Running(NamedTuple):
    """The threads of an iteration, and the process they are threads of."""

    planner: Ahead[_Wanted]
    batches: Ahead[tuple[Batch, Stand]]
    process: int


class Loader:
    """Batches of a plan for one rank; iterate over it. Build it with `open_mixture`.

    Iterating goes on where the loader stands and ends with the plan's last whole global batch, or, of a validation
    split, with its last rows, padded to a global batch. `state_dict()` holds for the batch handed out last. A context
    manager, which closes it; so does the end of an iteration.

    Attributes:
        plan: what is trained on.
        order: which row comes when.
        objective: what its batches are for.
    """

    def __init__(
        self,
        plan: Plan,
        order: Order | StoredOrder,
        readers: Sequence[Reader],
        objective: Objective,
        noise_key: NoiseKey,
        *,
        share: Share,
        reopen: "Callable[[], Loader]",
        prefetch_batches: int = DEFAULT_PREFETCH,
    ) -> None:
        self.plan = plan
        self.order = order
        self.objective = objective
        self._noise_key = noise_key
        self._readers = readers  # one a stage
        self._share = share
        self._reopen = reopen
        self._prefetch_batches = prefetch_batches
        self._every = 1
        self._stand = Stand(0, 0, ())
        self._running: _Running | None = None

    @property
    def num_batches(self) -> int:
        """Batches left from where the loader stands; of a worker, those that are its own."""
        whole = self._share.batches(self._stand.next_row, self.plan.total_rows)
        return -(-max(0, whole * self._share.micro_batches - self._stand.given) // self._every)

    def __iter__(self) -> Iterator[Batch]:
        try:
            while (made := next(self._threads().batches, None)) is not None:
                batch, self._stand = made
                yield batch
        finally:
            self.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopened, (self._reopen, self.state_dict()))

    def close(self) -> None:
        """End all threads; they start again with the next batch that is asked for."""
        running, self._running = self._running, None
        if running is not None and running.process == os.getpid():
            running.planner.close()
            for reader in self._readers:
                reader.close()  # before the thread that waits for its reads
            running.batches.close()

    def reopened(self) -> "Loader":
        """The same mixture opened anew, standing where this loader stands: for another process."""
        return _reopened(self._reopen, self.state_dict())

    def take_turns(self, worker: int, workers: int) -> None:
        """From now on hand out only every `workers`-th batch, first the `worker`-th from here, counted from 0.

        The batches of all workers, in turns, are those of one loader, and each carries the state of that one. A
        worker's own state is of its next batch.
        """
        self.close()
        self._stand = self._share.behind(self._stand, worker)
        self._every = workers

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready state: resumes with any `dp_size`, and with any `batch_size` from the same row on.

        One between two micro-batches of a global batch resumes with the same sizes alone. Where ranks skipped corrupt
        record batches, `merge_states` makes one of theirs.
        """
        return self._state(self._stand)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`. ValueError, with both values, if it is of another plan, objective or noise seed.

        A plan takes the states of those that it continues (see `compile_stages`), up to the row where it leaves them.
        Rows of the record batches that the state skipped stay padding, whatever the shards hold by now.
        """
        own = self._state(Stand(0, 0, ()))
        shared = self.plan.rows_shared_with(str(state.get("plan")))
        if shared is not None:
            own["plan"] = state["plan"]
        for field in ("format", "plan", "objective", "noise_seed"):
            if state.get(field) != own[field]:
                raise ValueError(
                    f"the state's {field} is {state.get(field)!r}, this loader's {own[field]!r}: its row numbers mean "
                    "other rows or other noise here; open the mixture with the arguments that the state was made with"
                )
        row = state.get("next_row")
        if not isinstance(row, int) or not 0 <= row <= self.plan.total_rows:
            raise ValueError(f"the state's next_row is {row!r}: the plan has rows 0 … {self.plan.total_rows - 1}")
        check_row(self.plan, row, shared, self._share.batch_size)
        given = self._share.given_of(state)
        skipped = self._skipped_of(state)
        self.close()
        for reader in self._readers:
            reader.skip([batch for name in skipped if (batch := reader.number(*name)) is not None])
        self._stand = Stand(row, given, skipped)

    def _skipped_of(self, state: dict[str, Any]) -> tuple[tuple[str, int], ...]:
        """A state's skipped record batches, each of which some stage's shards have."""
        listed = state.get("skipped_batches")
        if not isinstance(listed, list) or not all(map(_is_name, listed)):
            raise ValueError(f"the state's skipped_batches is {listed!r}: it is a list of [shard path, batch number]")
        for path, batch in listed:
            if all(reader.number(path, batch) is None for reader in self._readers):
                raise ValueError(
                    f"the state skipped record batch {batch} of shard {path!r}, and the shard table has none of that "
                    "name: open the mixture that the state was made with"
                )
        return tuple(sorted({(path, batch) for path, batch in listed}))

    def _state(self, stand: Stand) -> dict[str, Any]:
        return {
            "format": STATE_FORMAT,
            "plan": self.plan.hash,
            "next_row": min(stand.next_row, self.plan.total_rows),
            **self._share.state(stand),
            "noise_seed": self._noise_key.seed,
            "objective": self.objective.hash(self._noise_key.mask_token_id),
            "skipped_batches": [list(name) for name in stand.skipped],
        }

    def _threads(self) -> _Running:
        """The threads at work; started where there are none, and in a forked process."""
        if self._running is None or self._running.process != os.getpid():
            planner = Ahead(self._plan_from(self._stand), self._prefetch_batches, "tokenmill-planner")
            batches = Ahead(self._make(planner, self._stand.skipped), 1, "tokenmill-batches")
            self._running = _Running(planner, batches, os.getpid())
        return self._running

    def _plan_from(self, stand: Stand) -> Iterator[_Wanted]:
        """This rank's rows of each micro-batch from here on, their reads under way.

        The last global batch, if not whole, is dropped; in stored order it is filled up with padding, as is the last of
        each length.
        """
        base, stretch = 0, self.order.order(())
        total, size = self.plan.total_rows, self._share.batch_size
        lookup = size  # the first batch waits for no other
        for turn in count(0, self._every):
            first, given, _ = self._share.behind(stand, turn)
            if first >= total or (first + size > total and not self.plan.stored):
                return
            end = self._share.end(first, total)
            if end > base + stretch.row.size:
                base = first
                stretch = self.order.order(np.arange(first, min(first + lookup, total)))
                lookup = max(_ROWS_PER_LOOKUP, size)
            k = self._share.rows(first, given)
            at = k - base
            k[k >= end] = -1
            if end < first + size:
                rows = self.order.order(k)
            else:
                rows = OrderedRows(stretch.component[at], stretch.epoch[at], stretch.row[at])
            stage = int(self.plan.stage_of(first))
            sought = Sought.of(self.order.places(rows, stage))
            asked = self._readers[stage].ask(sought.batches)
            yield _Wanted(stage, first, given, k, rows, sought, asked)

    def _make(self, several: Iterator[_Wanted], skipped: tuple[tuple[str, int], ...]) -> Iterator[tuple[Batch, Stand]]:
        """Each batch, and where the loader stands behind it: at its own next one, where it takes turns."""
        for wanted in several:
            reader = self._readers[wanted.stage]
            found = [reader.wait(*read) for read in zip(wanted.sought.batches, wanted.asked, strict=True)]
            lost = [batch for batch, stored in zip(wanted.sought.batches, found, strict=True) if stored.is_skipped]
            if lost:
                skipped = tuple(sorted({*skipped, *map(reader.name, lost)}))
            here = Stand(wanted.first_row, wanted.given, skipped)
            yield self._batch(wanted, found, self._share.behind(here, 1)), self._share.behind(here, self._every)

    def _batch(self, wanted: _Wanted, found: list[StoredRows], stand: Stand) -> Batch:
        """Gather the rows and make them noisy."""
        mixture = self.plan.stages[wanted.stage].mixture
        aligned = mixture.sequence_align > 1
        stored = gather(
            wanted.sought,
            found,
            mixture.sequence_length,
            pieces=aligned or self.objective.needs_pieces,
            answers=mixture.layout != PRETRAINING,
            checks=mixture.layout == PROMPTS,
        )
        gathered = Gathered(
            **stored._asdict(),
            aligned=aligned,
            rows=wanted.k,
            epoch=wanted.rows.epoch,
            identities=partial(self.order.identities, wanted.rows, wanted.stage),
            batch_rows=(wanted.first_row, wanted.first_row + self._share.batch_size),
            origin=self._share.origin(wanted.first_row),
        )
        gathered = padded(gathered, self._noise_key.filler)
        batch_type = KeyedBatch if self._noise_key.on_device else self.objective.batch_type
        return batch_type(
            **self.objective.arrays(gathered, self._noise_key),
            rows=wanted.k,
            component=wanted.rows.component,
            component_names=self.plan.component_names,
            epoch=wanted.rows.epoch,
            stored_row=wanted.rows.row,
            state=self._state(stand),
        )


def _reopened(reopen: Callable[[], Loader], state: dict[str, Any]) -> Loader:
    loader = reopen()
    loader.load_state_dict(state)
    return loader


def _is_name(value: Any) -> bool:
    """Whether it is [shard path, batch number]."""
    return isinstance(value, list | tuple) and list(map(type, value)) == [str, int]
