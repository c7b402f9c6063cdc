"""The order of rows: global row k → (component, epoch, row), a pure function of the plan.

    k ─▶ stage, and block of 1,024 rows in it ─▶ component, and its how-many-eth row this is (position)
         counts of a block are differences of the mixture's cumulative counts; a permutation keyed
         (seed, stage, block) places them; a component goes on where the stage before left it
    position ─▶ epoch = position // rows, place = position % rows
    place ─▶ row: the component's record batches in the order of hash(seed, epoch, component, unit, batch), rows
         permuted within each window of W of them

A new unit, or one taken down, therefore moves no other record batch relative to the rest. W follows the component's
share of rows in the stage and is at least 2; all windows together hold at most `window_bytes` of decoded tokens. An
epoch's last window has the batches that are left, and a component smaller than a window has one window.

A stage that begins within an epoch of a component changes its W from the next window on: the one under way is finished
as it was, so that no row comes twice. Until then windows may hold up to twice `window_bytes`.

There is no row index: what is held is 4 bytes a record batch (1T tokens: 1.9M batches) of each component's epoch, and
one window's rows. Those are memories of the last answer, not state: any k may be asked at any time, by any thread.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.manifests.keyed import key64, keyed_permutation
from tokenmill.manifests.mixture import ROWS_PER_BLOCK
from tokenmill.manifests.plan import Plan, PlannedStage
from tokenmill.manifests.shards import token_dtype
from tokenmill.manifests.split import numbered
from tokenmill.pipeline.loader.epoch import EpochOrder
from tokenmill.pipeline.loader.groups import groups
from tokenmill.pipeline.loader.stock import I32, I64, Stock, stocks_of


class OrderedRows(NamedTuple):
    """Where global rows come from: three arrays, one entry a global row.

    Attributes:
        component: int32, index into the plan's `component_names`; with one stage, into its mixture's components.
        epoch: int32, how often the component's rows had all been visited before.
        row: int64, row of the component in stored order (its shards by unit and path, one after another).
    """

    component: I32
    epoch: I32
    row: I64


class Places(NamedTuple):
    """Record batches and the rows in them: two arrays, one entry a row.

    Attributes:
        batch: int64, record batch, counted through the shard table of the stage.
        row: int64, row in that record batch.
    """

    batch: I64
    row: I64


class _Windows(NamedTuple):
    """How an epoch's batches are cut into windows: from rank `first` on, `length` batches each, counted from `number`.

    Three int64 arrays, one entry a stage that has part of the epoch.
    """

    first: I64
    length: I64
    number: I64


@dataclass(frozen=True)
class _Window:
    """Rows of one window in the order they are visited, the first of them at `start` of the epoch."""

    epoch: int
    number: int
    start: int
    rows: I64

    def holds(self, epoch: int, places: I64) -> bool:
        """Whether all these places of an epoch are in it."""
        end = self.start + self.rows.size
        return self.epoch == epoch and bool(places.min() >= self.start) and bool(places.max() < end)


class Order:
    """The order of a plan's rows over the shards of its stages' shard tables.

    Args:
        plan: from `compile_plan` or `compile_stages`.
        tables: a shard table for each of `plan.stages`; see `stocks_of`.

    Raises:
        ValueError: a shard table does not hold what its mixture says, or the windows do not fit `window_bytes`.
    """

    def __init__(self, plan: Plan, tables: Sequence[pa.Table]) -> None:
        self.plan = plan
        # By stage, the component's rows in that stage's shard table, by place in the plan's packings.
        self._stocks: list[dict[int, Stock]] = []
        self._lengths: list[dict[int, int]] = []
        opened = {id(table): stocks_of(table) for table in tables}
        for stage, table in zip(plan.stages, tables, strict=True):
            stocks = [opened[id(table)].get(c.name) or Stock.empty(c.name) for c in stage.mixture.components]
            for stock, component in zip(stocks, stage.mixture.components, strict=True):
                stock.check(component)
            self._stocks.append(dict(zip(stage.components, stocks, strict=True)))
            self._lengths.append(dict(zip(stage.components, _window_lengths(stage, stocks), strict=True)))
        self._epochs: dict[int, tuple[int, EpochOrder]] = {}
        self._windows: dict[int, _Window] = {}
        self._lock = Lock()

    def windows(self, stage: int = 0) -> list[int]:
        """W of each of a stage's components, in record batches."""
        return list(self._lengths[stage].values())

    def order(self, k: npt.ArrayLike) -> OrderedRows:
        """Component, epoch and row of each global row in `k` (integers, one axis, any order)."""
        asked = np.atleast_1d(np.asarray(k, dtype=np.int64))
        if asked.size and not (asked.min() >= 0 and asked.max() < self.plan.total_rows):
            raise ValueError(f"asked for rows {asked.min()} … {asked.max()}, the plan has {self.plan.total_rows} rows")
        component, epoch = np.empty(asked.size, np.int32), np.empty(asked.size, np.int32)
        row = np.empty(asked.size, np.int64)
        places = self.plan.places(asked)
        with self._lock:
            for stage, members in groups(places.stage):
                component[members], epoch[members], row[members] = self._order(stage, places.row[members])
        return OrderedRows(component, epoch, row)

    def places(self, rows: OrderedRows, stage: int = 0) -> Places:
        """The record batch that holds each row of a stage, and the row's place in it."""
        batch = np.empty(rows.row.size, np.int64)
        inside = np.empty(rows.row.size, np.int64)
        for index, members in groups(rows.component):
            stock = self._stocks[stage][index]
            found, inside[members] = stock.locate(rows.row[members])
            batch[members] = found + stock.first_batch
        return Places(batch, inside)

    def identities(self, rows: OrderedRows, stage: int = 0) -> npt.NDArray[np.uint64]:
        """Hash of each row's unit and its place in that: what a row is in every visit, whatever else is in the plan."""
        found = np.empty(rows.row.size, np.uint64)
        for index, members in groups(rows.component):
            found[members] = self._stocks[stage][index].row_hashes(rows.row[members])
        return found

    def first_visit(self, component: str, row: int) -> int | None:
        """The global row of a component's stored row in epoch 0 of the first stage asked for; None: it has none."""
        first = [stage for stage in self.plan.stages if stage.index == 0]  # of several lengths one each
        names = [[one.name for one in planned.mixture.components] for planned in first]
        stage = next((number for number, own in enumerate(names) if component in own), None)
        if stage is None:
            return None
        planned, at = first[stage], names[stage].index(component)
        index = planned.components[at]
        with self._lock:
            position = self._place_of(stage, index, row)
            ends = range(ROWS_PER_BLOCK, planned.rows + ROWS_PER_BLOCK, ROWS_PER_BLOCK)
            block = bisect_right(ends, position, key=lambda end: planned.counts(min(end, planned.rows))[at])
            if block == len(ends):
                return None
            components, positions = self._block(planned, block)
        inside = int(np.flatnonzero((components == index) & (positions == position))[0])
        return self.plan.global_row(stage, block * ROWS_PER_BLOCK + inside)

    def _place_of(self, stage: int, component: int, row: int) -> int:
        """The place of a stored row in epoch 0, as a stage that begins it finds it."""
        stock, ordered = self._stocks[stage][component], self._epoch(stage, component, 0)
        (batch,), _ = stock.locate(np.array([row]))
        rank = int(np.flatnonzero(ordered.batches(0, stock.batch_rows.size) == batch)[0])
        number = rank // self._lengths[stage][component]
        window = self._window(stage, component, 0, number)
        return window.start + int(np.flatnonzero(window.rows == row)[0])

    def _order(self, stage: int, here: I64) -> OrderedRows:
        """`order` of rows of one stage, counted through that."""
        component = np.empty(here.size, np.int32)
        position = np.empty(here.size, np.int64)
        for block, members in groups(here // ROWS_PER_BLOCK):
            components, positions = self._block(self.plan.stages[stage], block)
            slots = here[members] - block * ROWS_PER_BLOCK
            component[members], position[members] = components[slots], positions[slots]
        epoch = np.empty(here.size, np.int32)
        row = np.empty(here.size, np.int64)
        for index, members in groups(component):
            epoch[members], row[members] = self._resolve(stage, index, position[members])
        return OrderedRows(component, epoch, row)

    def _block(self, stage: PlannedStage, block: int) -> tuple[I64, I64]:
        """Component of each row of a block, and its position in the component, which grows within the block."""
        components = stage.block(block, self.plan.seed)
        positions = numbered(components, stage.counts(block * ROWS_PER_BLOCK))
        return np.array(stage.components, np.int64)[components], positions

    def _resolve(self, stage: int, component: int, position: I64) -> tuple[I64, I64]:
        """Epoch and row of each position of a component."""
        epoch, place = np.divmod(position, self._stocks[stage][component].rows)
        row = np.empty(position.size, np.int64)
        for number, members in groups(epoch):
            row[members] = self._rows(stage, component, number, place[members])
        return epoch, row

    def _rows(self, stage: int, component: int, epoch: int, places: I64) -> I64:
        """Rows at places of an epoch of a component."""
        last = self._windows.get(component)
        if last is not None and last.holds(epoch, places):
            return last.rows[places - last.start]
        ranks = self._epoch(stage, component, epoch).ranks(places)
        windows = self._cuts(stage, component, epoch)
        part = np.searchsorted(windows.first, ranks, side="right") - 1
        numbers = windows.number[part] + (ranks - windows.first[part]) // windows.length[part]
        found = np.empty(places.size, np.int64)
        for number, members in groups(numbers):
            window = self._window(stage, component, epoch, number)
            found[members] = window.rows[places[members] - window.start]
        return found

    def _epoch(self, stage: int, component: int, number: int) -> EpochOrder:
        """The component's record batches in the order of an epoch; later stages have the same."""
        last = self._epochs.get(component)
        if last is None or last[0] != number:
            stock = self._stocks[stage][component]
            last = (number, EpochOrder(stock, key64("epoch", self.plan.seed, stock.name, number)))
            self._epochs[component] = last
        return last[1]

    def _cuts(self, stage: int, component: int, epoch: int) -> _Windows:
        """Where the epoch's windows are, as a stage that has part of it finds them."""
        first, length, number = [0], [0], [0]
        for index in range(stage + 1):
            if component not in self._lengths[index]:
                continue
            place = self._begins(index, component, epoch)
            if place is None:
                break
            if place > 0 and length[-1]:
                ordered = self._epoch(stage, component, epoch)
                past = int(ordered.ranks(np.array([place]))[0]) - first[-1]
                done, inside = divmod(past, length[-1])
                if inside or place != ordered.first_place(first[-1] + past):
                    done += 1  # a window is under way
                if done > 0:  # else none of these windows is begun: they may still be of an earlier stage's last one
                    first.append(first[-1] + done * length[-1])
                    length.append(0)
                    number.append(number[-1] + done)
            length[-1] = self._lengths[index][component]
        return _Windows(np.array(first), np.array(length), np.array(number))

    def _begins(self, stage: int, component: int, epoch: int) -> int | None:
        """Place of the epoch at which a stage takes it up: 0 where it is not begun; None where it is over by then."""
        planned = self.plan.stages[stage]
        position = planned.before[planned.components.index(component)]
        begun, place = divmod(position, self._stocks[stage][component].rows)
        if begun == epoch:
            return place
        return 0 if begun < epoch else None

    def _window(self, stage: int, component: int, epoch: int, number: int) -> _Window:
        """The rows of an epoch's window in the order they are visited."""
        last = self._windows.get(component)
        if last is not None and (last.epoch, last.number) == (epoch, number):
            return last
        stock, ordered = self._stocks[stage][component], self._epoch(stage, component, epoch)
        cuts = self._cuts(stage, component, epoch)
        part = int(np.searchsorted(cuts.number, number, side="right")) - 1
        first = int(cuts.first[part] + (number - cuts.number[part]) * cuts.length[part])
        batches = ordered.batches(first, min(first + int(cuts.length[part]), stock.batch_rows.size))
        sizes = stock.batch_rows[batches].astype(np.int64)
        rows = np.repeat(stock.first_rows(batches) - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        key = key64("window", self.plan.seed, stock.name, epoch, number)
        shuffled = rows[keyed_permutation(rows.size, key)]
        self._windows[component] = found = _Window(epoch, number, ordered.first_place(first), shuffled)
        return found


def _window_lengths(stage: PlannedStage, stocks: Sequence[Stock]) -> list[int]:
    """W of each component: 2, and its row share of what the byte budget has left after that."""
    mixture = stage.mixture
    row_bytes = mixture.sequence_length * token_dtype(mixture.vocab_size).bit_width // 8
    sizes = [row_bytes * int(stock.batch_rows.max(initial=1)) for stock in stocks]
    spare = stage.window_bytes - 2 * sum(sizes)
    if spare < 0:
        raise ValueError(
            f"window_bytes is {stage.window_bytes}, but two record batches of each of {len(sizes)} components take "
            f"{2 * sum(sizes)} bytes: give at least that"
        )
    total = sum(mixture.row_weights)
    return [2 + spare * weight // (total * size) for weight, size in zip(mixture.row_weights, sizes, strict=True)]
