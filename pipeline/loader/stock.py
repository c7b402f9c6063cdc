"""A component's packed rows in stored order: its shards by unit and path, one after another.

Nothing is held a record batch: rows of batches are a view of the shard table's column, which may lie in a mapped file,
and a row's batch is found by its shard (binary search) and the few hundred batches of that (one after another).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.kernels import kernel
from tokenmill.manifests.keyed import key64, mix64
from tokenmill.manifests.mixture import Component
from tokenmill.manifests.shards import whole_column

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Stock:
    """Record batches of one component, in stored order.

    Attributes:
        name: of the component.
        first_batch: the first one's number in the shard table.
        tokens: that are not padding, by the shard table.
        listed_rows: rows, by the shard table's own count of each shard.
        batch_rows: int32 [batches], a view of the shard table.
        shard_batches: int64 [shards + 1], batches before each shard.
        shard_rows: int64 [shards + 1], rows before each shard.
        unit_batches: int64 [units + 1], batches before each unit.
        unit_rows: int64 [units + 1], rows before each unit.
        unit_keys: uint64 [units].
    """

    name: str
    first_batch: int
    tokens: int
    listed_rows: int
    batch_rows: I32
    shard_batches: I64
    shard_rows: I64
    unit_batches: I64
    unit_rows: I64
    unit_keys: U64

    @classmethod
    def empty(cls, name: str) -> "Stock":
        """Of a component that the shard table does not have."""
        none, zero = np.zeros(0, np.int32), np.zeros(1, np.int64)
        return cls(name, 0, 0, 0, none, zero, zero, zero, zero, np.zeros(0, np.uint64))

    @property
    def rows(self) -> int:
        """Stored rows."""
        return int(self.shard_rows[-1])

    def locate(self, rows: I64) -> tuple[I64, I64]:
        """The batch that holds each row, and the row's place in it: two int64 arrays."""
        shards = np.searchsorted(self.shard_rows, rows, side="right") - 1
        batches, inside = np.empty_like(rows), np.empty_like(rows)
        _locate(rows, shards, self.shard_rows, self.shard_batches, self.batch_rows, batches, inside)
        return batches, inside

    def first_rows(self, batches: I64) -> I64:
        """Rows before each batch: int64."""
        shards = np.searchsorted(self.shard_batches, batches, side="right") - 1
        found = np.empty_like(batches)
        _first_rows(batches, shards, self.shard_rows, self.shard_batches, self.batch_rows, found)
        return found

    def batch_hashes(self, batches: I64, key: int) -> U64:
        """What batches are sorted by under a key: hash of each one's unit and its place in that."""
        units = np.searchsorted(self.unit_batches, batches, side="right") - 1
        in_unit = (batches - self.unit_batches[units]).astype(np.uint64)
        return mix64(mix64(in_unit, 0) ^ self.unit_keys[units], key)

    def row_hashes(self, rows: I64) -> U64:
        """Hash of each row's unit and its place in that."""
        units = np.searchsorted(self.unit_rows, rows, side="right") - 1
        return mix64((rows - self.unit_rows[units]).astype(np.uint64), self.unit_keys[units])

    def check(self, component: Component) -> None:
        """Refuse a shard table that holds other rows than the mixture counts on."""
        found = (self.listed_rows, self.tokens)
        if found != (component.rows, component.tokens) or self.rows != component.rows:
            raise ValueError(
                f"the mixture says component {component.name!r} has {component.rows} rows and {component.tokens} "
                f"tokens, its shard table {found[0]} and {found[1]}, in record batches of {self.rows} rows: publish it "
                "again"
            )


def stocks_of(shards: pa.Table) -> dict[str, Stock]:
    """Every component of a shard table, in its order.

    Args:
        shards: table of schema SHARDS, sorted by (component, unit, path) as `shard_table` writes it. Columns
            `component`, `unit`, `path`, `rows`, `tokens` and `batch_rows` are read.

    Raises:
        ValueError: it is not sorted.
    """
    order = pc.sort_indices(shards, sort_keys=[(name, "ascending") for name in ("component", "unit", "path")])
    if not np.array_equal(order.to_numpy(), np.arange(shards.num_rows)):
        raise ValueError("the shard table is not sorted by component, unit and path: write it with `shard_table`")
    batch_rows = whole_column(shards, "batch_rows")
    counts = batch_rows.value_lengths().to_numpy().astype(np.int64)
    flat = batch_rows.flatten().to_numpy()
    listed, tokens = (whole_column(shards, name).to_numpy() for name in ("rows", "tokens"))
    before = _sums(counts)
    shard_sums = np.empty(shards.num_rows, np.int64)
    _sum_shards(flat, before, shard_sums)
    units = whole_column(shards, "unit")
    found = {}
    for name, first, end in _runs(whole_column(shards, "component")):
        rows, batches = _sums(shard_sums[first:end]), _sums(counts[first:end])
        parts = list(_runs(units.slice(first, end - first)))
        borders = np.array([start for _, start, _ in parts] + [end - first])
        found[name] = Stock(
            name=name,
            first_batch=int(before[first]),
            tokens=int(tokens[first:end].sum()),
            listed_rows=int(listed[first:end].sum()),
            batch_rows=flat[before[first] : before[end]],
            shard_batches=batches,
            shard_rows=rows,
            unit_batches=batches[borders],
            unit_rows=rows[borders],
            unit_keys=np.array([key64("unit", name, unit) for unit, _, _ in parts], np.uint64),
        )
    return found


def packed_rows(shards: pa.Table) -> dict[str, tuple[int, int]]:
    """Rows and tokens of every component of a shard table."""
    sums = (
        shards.select(["component", "rows", "tokens"])
        .group_by("component")
        .aggregate([("rows", "sum"), ("tokens", "sum")])
    )
    return {row["component"]: (row["rows_sum"], row["tokens_sum"]) for row in sums.to_pylist()}


def _runs(values: pa.Array) -> Iterator[tuple[Any, int, int]]:
    """Runs of equal values: the value, its first place and the place after its last."""
    if len(values) == 0:
        return
    encoded = values.dictionary_encode()
    codes = encoded.indices.to_numpy()
    firsts = [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist(), len(codes)]
    names = encoded.dictionary.to_pylist()
    for first, end in pairwise(firsts):
        yield names[codes[first]], first, end


def _sums(values: I64) -> I64:
    """Sums of what comes before each place, and of all."""
    return np.concatenate([[0], np.cumsum(values, dtype=np.int64)])


@kernel
def _sum_shards(batch_rows, before, sums):  # type: ignore[no-untyped-def]
    for shard in range(sums.size):
        rows = np.int64(0)
        for batch in range(before[shard], before[shard + 1]):
            rows += batch_rows[batch]
        sums[shard] = rows


@kernel
def _locate(rows, shards, shard_rows, shard_batches, batch_rows, batches, inside):  # type: ignore[no-untyped-def]
    for i in range(rows.size):
        batch = shard_batches[shards[i]]
        left = rows[i] - shard_rows[shards[i]]
        while left >= batch_rows[batch]:
            left -= batch_rows[batch]
            batch += 1
        batches[i] = batch
        inside[i] = left


@kernel
def _first_rows(batches, shards, shard_rows, shard_batches, batch_rows, found):  # type: ignore[no-untyped-def]
    for i in range(batches.size):
        row = shard_rows[shards[i]]
        for batch in range(shard_batches[shards[i]], batches[i]):
            row += batch_rows[batch]
        found[i] = row
