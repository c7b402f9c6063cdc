"""Rows of a file, gathered from the shards: in stored order, or in the mixture's.

Stored order is that of the shard table (by component, unit and path), rows as they lie in each shard. Any range of rows
is read by itself, so files are written in any order and by any number of workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.lengths import length_of
from tokenmill.manifests.plan import Plan
from tokenmill.manifests.shards import SequenceFormat, token_dtype
from tokenmill.pipeline.loader.order import Order, Places
from tokenmill.pipeline.loader.reader import Reader
from tokenmill.pipeline.loader.stored_rows import StoredRows
from tokenmill.pipeline.storage import Storage

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]

#: Record batches that are fetched ahead of the one in hand.
_AHEAD = 4


@dataclass(frozen=True)
class Rows:
    """Rows in their order.

    Attributes:
        storage: the run's folder.
        shards: rows of the shard table.
        sequences: L, of several lengths the longest, and the vocabulary.
        plan: global order of the mixture; None for stored order.
    """

    storage: Storage
    shards: pa.Table
    sequences: SequenceFormat
    plan: Plan | None = None

    def of(self, component: str) -> "Rows":
        """The same, to read rows of one component, which may have another length."""
        length = length_of(component)
        return self if length is None else replace(self, sequences=replace(self.sequences, length=length))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of stored token ids: uint16 or uint32, little-endian."""
        return np.dtype(np.uint16 if token_dtype(self.sequences.vocab_size) == pa.uint16() else np.uint32)

    @property
    def batch_starts(self) -> I64:
        """Stored rows before each record batch, and in all."""
        rows = self.shards.column("batch_rows").combine_chunks().flatten().to_numpy()
        return np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])


@dataclass(frozen=True)
class Gathered:
    """Rows of one file.

    Attributes:
        tokens: uint16 or uint32 [rows, L].
        real: bool [rows, L], tokens that are not padding: a row's first, unless pieces are aligned.
        documents: that begin in these rows.
    """

    tokens: Tokens
    real: Mask
    documents: int

    @property
    def valid(self) -> I32:
        """int32 [rows], how many tokens of each are not padding."""
        counts: I32 = self.real.sum(axis=1, dtype=np.int32)
        return counts


def read_batches(rows: Rows, batches: I64) -> Iterator[StoredRows]:
    """Record batches by their number in the shard table, each checked against its hash before it is decoded.

    Raises:
        CorruptShardError: names the shard and the batch.
    """
    sequences = rows.sequences
    largest = int(np.diff(rows.batch_starts).max(initial=1)) * sequences.length * rows.dtype.itemsize
    memory = (_AHEAD + 1) * largest
    reader = Reader(
        rows.storage,
        rows.shards,
        length=sequences.length,
        vocab_size=sequences.vocab_size,
        layout=sequences.layout,
        align=sequences.align,
        memory_bytes=memory,
    )
    numbers = batches.tolist()
    try:
        for index, batch in enumerate(numbers):
            reader.prefetch(numbers[index : index + _AHEAD])
            yield reader.get(batch)
    finally:
        reader.close()


def gather(rows: Rows, wanted: range) -> Gathered:
    """The rows at `wanted` places of the order."""
    places = _places(rows, wanted)
    by_batch = np.argsort(places.batch, kind="stable")
    batches, firsts = np.unique(places.batch[by_batch], return_index=True)
    tokens = np.empty((len(wanted), rows.sequences.length), rows.dtype)
    real = np.empty(tokens.shape, np.bool_)
    documents = 0
    spans = pairwise([*firsts.tolist(), len(wanted)])
    for stored, (first, end) in zip(read_batches(rows, batches), spans, strict=True):
        members = by_batch[first:end]
        inside = places.row[members]
        tokens[members], real[members] = stored.tokens[inside], real_tokens(stored, inside)
        documents += int(_documents(stored.table)[inside].sum())
    return Gathered(tokens, real, documents)


def real_tokens(stored: StoredRows, rows: I64) -> Mask:
    """Which tokens of some rows of a record batch are not padding: bool [rows, L]."""
    length = stored.tokens.shape[1]
    if stored.align == 1:
        return np.arange(length, dtype=np.int32) < stored.valid[rows][:, None]
    pieces = stored.pieces(rows)
    steps = np.zeros((len(rows), length + 1), np.int8)
    steps[pieces.row, pieces.start] += 1
    steps[pieces.row, pieces.end] -= 1  # apart from the line above: a piece may begin where another ends
    return np.cumsum(steps[:, :-1], axis=1, dtype=np.int8).view(np.bool_)


def _places(rows: Rows, wanted: range) -> Places:
    """The record batch that holds each row, and the row's place in it."""
    k = np.arange(wanted.start, wanted.stop)
    if rows.plan is not None:
        order = Order(rows.plan, [rows.shards])
        return order.places(order.order(k))
    starts = rows.batch_starts
    batch = np.searchsorted(starts, k, side="right") - 1
    return Places(batch, k - starts[batch])


def _documents(table: pa.RecordBatch) -> I64:
    """int64 [rows], documents that begin in each row."""
    pieces = table.column("document_starts")
    begun = np.concatenate([[0], np.cumsum(pieces.flatten().to_numpy() == 0, dtype=np.int64)])
    ends = np.cumsum(pc.list_value_length(pieces).to_numpy(), dtype=np.int64)
    counts: I64 = np.diff(begun[np.concatenate([[0], ends])])
    return counts
