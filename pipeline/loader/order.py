"""The order of rows: global row k → (component, epoch, row), a pure function of the plan.

    k ─▶ block of 1,024 rows ─▶ component, and its how-many-eth row this is (position)
         counts of a block are differences of the mixture's cumulative counts; a permutation keyed
         (seed, stage, block) places them
    position ─▶ epoch = position // rows, place = position % rows
    place ─▶ row: the component's record batches in the order of hash(seed, epoch, component, unit, batch), rows
         permuted within each window of W of them

A new unit, or one taken down, therefore moves no other record batch relative to the rest. W follows the component's
share of rows and is at least 2; all windows together hold at most `window_bytes` of decoded tokens. An epoch's last
window has the batches that are left, and a component smaller than a window has one window.

There is no row index: what is held is 12 bytes a record batch (1T tokens: 1.9M batches), one epoch's order and one
window's rows a component. Those two are memories of the last answer, not state: any k may be asked at any time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.keyed import key64, keyed_permutation, mix64
from tokenmill.manifests.mixture import ROWS_PER_BLOCK, Component, Plan
from tokenmill.manifests.shards import token_dtype

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


class OrderedRows(NamedTuple):
    """Where global rows come from: three arrays, one entry a global row.

    Attributes:
        component: int32, index into the mixture's components.
        epoch: int32, how often the component's rows had all been visited before.
        row: int64, row of the component in stored order (its shards by unit and path, one after another).
    """

    component: I32
    epoch: I32
    row: I64


class Places(NamedTuple):
    """Record batches and the rows in them: two arrays, one entry a row.

    Attributes:
        batch: int64, record batch, counted through the shard table.
        row: int64, row in that record batch.
    """

    batch: I64
    row: I64


@dataclass(frozen=True)
class _Stored:
    """A component's record batches, in stored order.

    Attributes:
        first_batch: the first one's number in the shard table.
        starts: int64 [batches + 1], rows before each.
        shards: int32 [batches], shard of each.
        unit_starts: int64 [shards of the component], first batch of the unit each shard belongs to.
        unit_keys: uint64 [shards of the component].
        window: W, in record batches.
    """

    first_batch: int
    starts: I64
    shards: I32
    unit_starts: I64
    unit_keys: npt.NDArray[np.uint64]
    window: int

    @property
    def rows(self) -> int:
        return int(self.starts[-1])


@dataclass(frozen=True)
class _Epoch:
    """One epoch of a component: its batches in order, and the place of each window's first row (and the end)."""

    number: int
    batches: I64
    window_starts: I64


@dataclass(frozen=True)
class _Window:
    """Rows of one window in the order they are visited."""

    epoch: int
    number: int
    rows: I64


class Order:
    """The order of a plan's rows over the shards of a shard table.

    Args:
        plan: from `compile_plan`.
        shards: table of schema SHARDS, sorted by (component, unit, path) as `shard_table` writes it. Columns
            `component`, `unit`, `path`, `rows`, `tokens` and `batch_rows` are read.

    Raises:
        ValueError: the shard table does not hold what the mixture says, or the windows do not fit `window_bytes`.
    """

    def __init__(self, plan: Plan, shards: pa.Table) -> None:
        self.plan = plan
        self._stored = _stored(plan, shards)
        self._epochs: dict[int, _Epoch] = {}
        self._windows: dict[int, _Window] = {}

    @property
    def windows(self) -> list[int]:
        """W of each component, in record batches."""
        return [stored.window for stored in self._stored]

    def order(self, k: npt.ArrayLike) -> OrderedRows:
        """Component, epoch and row of each global row in `k` (integers, one axis, any order)."""
        asked = np.atleast_1d(np.asarray(k, dtype=np.int64))
        if asked.size and not (asked.min() >= 0 and asked.max() < self.plan.total_rows):
            raise ValueError(f"asked for rows {asked.min()} … {asked.max()}, the plan has {self.plan.total_rows} rows")
        component = np.empty(asked.size, np.int32)
        position = np.empty(asked.size, np.int64)
        for block, members in _groups(asked // ROWS_PER_BLOCK):
            components, positions = self._block(block)
            slots = asked[members] - block * ROWS_PER_BLOCK
            component[members], position[members] = components[slots], positions[slots]
        epoch = np.empty(asked.size, np.int32)
        row = np.empty(asked.size, np.int64)
        for index, members in _groups(component):
            epoch[members], row[members] = self._resolve(index, position[members])
        return OrderedRows(component, epoch, row)

    def places(self, rows: OrderedRows) -> Places:
        """The record batch that holds each row, and the row's place in it."""
        batch = np.empty(rows.row.size, np.int64)
        inside = np.empty(rows.row.size, np.int64)
        for index, members in _groups(rows.component):
            stored = self._stored[index]
            found = np.searchsorted(stored.starts, rows.row[members], side="right") - 1
            batch[members] = found + stored.first_batch
            inside[members] = rows.row[members] - stored.starts[found]
        return Places(batch, inside)

    def identities(self, rows: OrderedRows) -> npt.NDArray[np.uint64]:
        """Hash of each row's unit and its place in that: what a row is in every visit, whatever else is in the plan."""
        found = np.empty(rows.row.size, np.uint64)
        for index, members in _groups(rows.component):
            stored = self._stored[index]
            batch = np.searchsorted(stored.starts, rows.row[members], side="right") - 1
            shard = stored.shards[batch]
            in_unit = rows.row[members] - stored.starts[stored.unit_starts[shard]]
            found[members] = mix64(in_unit.astype(np.uint64), stored.unit_keys[shard])
        return found

    def _block(self, block: int) -> tuple[I64, I64]:
        """Component of each row of a block, and its position in the component, which grows within the block."""
        mixture, first = self.plan.mixture, block * ROWS_PER_BLOCK
        size = min(ROWS_PER_BLOCK, self.plan.total_rows - first)
        before = np.array(mixture.counts(first), np.int64)
        counts = np.array(mixture.counts(first + size), np.int64) - before
        listed = np.repeat(np.arange(counts.size), counts)
        components = listed[keyed_permutation(size, key64("block", mixture.seed, self.plan.stage, block))]
        positions = np.empty(size, np.int64)
        positions[np.argsort(components, kind="stable")] = (before - np.cumsum(counts) + counts)[listed] + np.arange(
            size
        )
        return components, positions

    def _resolve(self, component: int, position: I64) -> tuple[I64, I64]:
        """Epoch and row of each position of a component."""
        epoch, place = np.divmod(position, self._stored[component].rows)
        row = np.empty(position.size, np.int64)
        for number, in_epoch in _groups(epoch):
            starts = self._epoch(component, number).window_starts
            windows = np.searchsorted(starts, place[in_epoch], side="right") - 1
            for window, in_window in _groups(windows):
                members = in_epoch[in_window]
                row[members] = self._window(component, number, window).rows[place[members] - starts[window]]
        return epoch, row

    def _epoch(self, component: int, number: int) -> _Epoch:
        """The component's record batches in the order of this epoch; ties (there are none) keep stored order."""
        last = self._epochs.get(component)
        if last is not None and last.number == number:
            return last
        stored, mixture = self._stored[component], self.plan.mixture
        in_unit = np.arange(stored.shards.size) - stored.unit_starts[stored.shards]
        identity = mix64(in_unit.astype(np.uint64), 0) ^ stored.unit_keys[stored.shards]
        key = key64("epoch", mixture.seed, mixture.components[component].name, number)
        batches = np.argsort(mix64(identity, key), kind="stable")
        ends = np.cumsum(np.diff(stored.starts)[batches])
        starts = np.concatenate([[0], ends[stored.window - 1 :: stored.window]])
        if starts[-1] != stored.rows:
            starts = np.append(starts, stored.rows)
        self._epochs[component] = epoch = _Epoch(number, batches, starts)
        return epoch

    def _window(self, component: int, number: int, window: int) -> _Window:
        """The rows of an epoch's window in the order they are visited."""
        last = self._windows.get(component)
        if last is not None and (last.epoch, last.number) == (number, window):
            return last
        stored, mixture = self._stored[component], self.plan.mixture
        batches = self._epoch(component, number).batches[window * stored.window : (window + 1) * stored.window]
        sizes = stored.starts[batches + 1] - stored.starts[batches]
        rows = np.repeat(stored.starts[batches] - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        key = key64("window", mixture.seed, mixture.components[component].name, number, window)
        self._windows[component] = found = _Window(number, window, rows[keyed_permutation(rows.size, key)])
        return found


def _groups(values: npt.NDArray[Any]) -> Iterator[tuple[int, I64]]:
    """Each distinct value, ascending, and the indices that have it, ascending."""
    if values.size == 0:
        return
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    borders = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for members in np.split(order, borders):
        yield int(values[members[0]]), members


def _stored(plan: Plan, shards: pa.Table) -> list[_Stored]:
    """The record batches of each of the mixture's components."""
    names = shards.column("component").combine_chunks()
    order = pc.sort_indices(shards, sort_keys=[(name, "ascending") for name in ("component", "unit", "path")])
    if not np.array_equal(order.to_numpy(), np.arange(shards.num_rows)):
        raise ValueError("the shard table is not sorted by component, unit and path: write it with `shard_table`")
    batch_rows = shards.column("batch_rows").combine_chunks()
    offsets = np.concatenate([[0], np.cumsum(batch_rows.value_lengths().to_numpy(), dtype=np.int64)])
    rows_of_batch = batch_rows.flatten().to_numpy()
    units = shards.column("unit").to_pylist()
    windows = _window_lengths(plan, names, offsets, rows_of_batch)
    found = []
    for component, window in zip(plan.mixture.components, windows, strict=True):
        first, end = _span(names, component.name)
        starts = np.concatenate([[0], np.cumsum(rows_of_batch[offsets[first] : offsets[end]], dtype=np.int64)])
        _check_totals(component, shards.slice(first, end - first), int(starts[-1]))
        of_batch = np.repeat(np.arange(end - first, dtype=np.int32), np.diff(offsets[first : end + 1]))
        new_unit = np.array([i == first or units[i] != units[i - 1] for i in range(first, end)])
        unit_first = np.flatnonzero(new_unit)
        unit_of = np.cumsum(new_unit) - 1
        keys = np.array([key64("unit", component.name, units[first + i]) for i in unit_first], np.uint64)
        found.append(
            _Stored(
                first_batch=int(offsets[first]),
                starts=starts,
                shards=of_batch,
                unit_starts=(offsets[first:end][unit_first] - offsets[first])[unit_of],
                unit_keys=keys[unit_of],
                window=window,
            )
        )
    return found


def _span(names: pa.Array, name: str) -> tuple[int, int]:
    """First shard of a component and the end of its shards; they lie together in a sorted table."""
    members = np.flatnonzero(pc.equal(names, name).to_numpy(zero_copy_only=False))
    return (int(members[0]), int(members[-1]) + 1) if members.size else (0, 0)


def _check_totals(component: Component, shards: pa.Table, rows_in_batches: int) -> None:
    """Refuse a shard table that holds other rows than the mixture counts on."""
    found = tuple(pc.sum(shards.column(name)).as_py() or 0 for name in ("rows", "tokens"))
    if found != (component.rows, component.tokens) or rows_in_batches != component.rows:
        raise ValueError(
            f"the mixture says component {component.name!r} has {component.rows} rows and {component.tokens} tokens, "
            f"its shard table {found[0]} and {found[1]}, in record batches of {rows_in_batches} rows: publish it again"
        )


def _window_lengths(plan: Plan, names: pa.Array, offsets: I64, rows_of_batch: I32) -> list[int]:
    """W of each component: 2, and its row share of what the byte budget has left after that."""
    mixture = plan.mixture
    row_bytes = mixture.sequence_length * token_dtype(mixture.vocab_size).bit_width // 8
    spans = [_span(names, component.name) for component in mixture.components]
    sizes = [row_bytes * int(rows_of_batch[offsets[first] : offsets[end]].max(initial=1)) for first, end in spans]
    spare = plan.window_bytes - 2 * sum(sizes)
    if spare < 0:
        raise ValueError(
            f"window_bytes is {plan.window_bytes}, but two record batches of each of {len(sizes)} components take "
            f"{2 * sum(sizes)} bytes: give at least that"
        )
    total = sum(mixture.row_weights)
    return [2 + spare * weight // (total * size) for weight, size in zip(mixture.row_weights, sizes, strict=True)]
