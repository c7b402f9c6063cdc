"""Reading single record batches of sequence shards: by byte range, checked before decoded, remembered for a while.

A record batch is about 2^19 tokens, one range read of 0.5 to 2 MiB. Decoded ones are kept in a memory bounded by bytes,
least recently used out first; with a bound of the plan's window budget each is fetched once an epoch. Reads run in a
few threads (zstd, hashing and file access let go of the interpreter), so the next batches arrive while these are used.
"""

from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.manifests.schemas import sequence_schema
from tokenmill.manifests.shards import (
    PRETRAINING,
    CorruptShardError,
    check_batch,
    decode_batch,
    places_in_rows,
    token_dtype,
    whole_column,
)
from tokenmill.pipeline.storage import Storage

THREADS = 4


class Pieces(NamedTuple):
    """Where tokens stand in rows: three int64 arrays, one entry a piece of a document, by row and place.

    Attributes:
        row: the piece's row.
        start: place of its first token in that row.
        end: place after its last one.
    """

    row: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


@dataclass(frozen=True)
class StoredRows:
    """A decoded record batch.

    Attributes:
        tokens: uint16 or uint32 [rows, L], a view of Arrow's buffer.
        valid: int32 [rows], tokens that are not padding: the row's first, where pieces are not aligned.
        table: the whole batch, documents included.
    """

    tokens: npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
    valid: npt.NDArray[np.int32]
    table: pa.RecordBatch

    def pieces(self, rows: npt.NDArray[np.int64], align: int) -> Pieces:
        """Where the tokens of some rows stand; `Pieces.row` counts these rows from 0."""
        column = self.table.column("document_lengths")
        offsets = column.offsets.to_numpy() - column.offsets[0].as_py()
        sizes = column.flatten().to_numpy()
        counts = np.diff(offsets)[rows].astype(np.int64)
        first = np.repeat(offsets[rows] - (np.cumsum(counts) - counts), counts)
        chosen = first + np.arange(len(first))
        start = places_in_rows(sizes, offsets, align)[chosen]
        return Pieces(np.repeat(np.arange(len(rows)), counts), start, start + sizes[chosen])

    def answers(self, rows: npt.NDArray[np.int64], align: int) -> npt.NDArray[np.bool_]:
        """Which tokens of some rows are answers, bool [len(rows), L]; of SFT's layouts alone."""
        column = self.table.column("maskable")
        offsets = column.offsets.to_numpy() - column.offsets[0].as_py()
        runs = column.flatten().to_numpy()
        pieces = self.pieces(rows, align)
        found = np.zeros((len(rows), self.tokens.shape[1]), np.bool_)
        for index, row in enumerate(rows.tolist()):
            mine = runs[offsets[row] : offsets[row + 1]]
            of_token = np.repeat(np.arange(mine.size) % 2 == 1, mine)
            at = 0
            for start, end in zip(pieces.start[pieces.row == index], pieces.end[pieces.row == index], strict=True):
                found[index, start:end] = of_token[at : at + end - start]
                at += end - start
        return found


class Reader:
    """Record batches of a shard table, by their number in it (all shards' batches, one after another).

    Args:
        storage: the run's root; paths in the table are under it.
        shards: table of schema SHARDS.
        length: tokens a row (L).
        vocab_size: gives the width of a token id.
        layout: see `SequenceFormat`.
        memory_bytes: decoded tokens to keep; the batch being asked for is kept whatever its size.
    """

    def __init__(
        self,
        storage: Storage,
        shards: pa.Table,
        *,
        length: int,
        vocab_size: int,
        memory_bytes: int,
        layout: str = PRETRAINING,
    ) -> None:
        self._storage = storage
        self._schema = sequence_schema(length, token_dtype(vocab_size), layout != PRETRAINING)
        self._length = length
        self._row_bytes: int = length * token_dtype(vocab_size).bit_width // 8
        self._paths = shards.column("path")
        inside = {name: whole_column(shards, name) for name in _INSIDE}
        counts = inside["batch_rows"].value_lengths().to_numpy()
        self._first_batch = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._offsets = inside["batch_offsets"].flatten().to_numpy()
        self._lengths = inside["batch_lengths"].flatten().to_numpy()
        self._rows: npt.NDArray[np.int32] = inside["batch_rows"].flatten().to_numpy()
        self._hashes = inside["batch_hashes"].flatten()
        self._memory_bytes = memory_bytes
        self._held_bytes = 0
        self._held: OrderedDict[int, Future[StoredRows]] = OrderedDict()
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None  # started by the first read, so that opening stays cheap

    def get(self, batch: int) -> StoredRows:
        """The record batch, read now unless it is at hand.

        Raises:
            CorruptShardError: its bytes are not what the shard table says; names shard and batch.
        """
        future = self._ask(batch)
        try:
            return future.result()
        except BaseException:
            self._forget(batch, future)
            raise

    def prefetch(self, batches: Iterable[int]) -> None:
        """Start reading those that are not at hand; an error is raised by the `get` that wants the batch."""
        for batch in batches:
            self._ask(batch)

    def _ask(self, batch: int) -> Future[StoredRows]:
        with self._lock:
            future = self._held.get(batch)
            if future is None:
                self._pool = self._pool or ThreadPoolExecutor(THREADS, thread_name_prefix="tokenmill-reader")
                future = self._held[batch] = self._pool.submit(self._read, batch)
                self._held_bytes += self._bytes(batch)
            self._held.move_to_end(batch)
            while self._held_bytes > self._memory_bytes and len(self._held) > 1:
                oldest, _ = self._held.popitem(last=False)
                self._held_bytes -= self._bytes(oldest)
            return future

    def _forget(self, batch: int, failed: Future[StoredRows]) -> None:
        """Drop a read that failed, so that the next `get` tries anew."""
        with self._lock:
            if self._held.get(batch) is failed:
                del self._held[batch]
                self._held_bytes -= self._bytes(batch)

    def _bytes(self, batch: int) -> int:
        return int(self._rows[batch]) * self._row_bytes

    def _read(self, batch: int) -> StoredRows:
        """Fetch, check, decode."""
        shard = int(np.searchsorted(self._first_batch, batch, side="right")) - 1
        path, number = self._paths[shard].as_py(), batch - int(self._first_batch[shard])
        data = self._storage.read_range(path, int(self._offsets[batch]), int(self._lengths[batch]))
        check_batch(data, self._hashes[batch].as_py(), shard=self._storage.url(path), batch=number)
        table = decode_batch(data, self._schema)
        if table.num_rows != self._rows[batch]:
            raise CorruptShardError(
                f"record batch {number} of shard {self._storage.url(path)} has {table.num_rows} rows, the shard table "
                f"says {self._rows[batch]}: publish the mixture again"
            )
        tokens = table.column("tokens").flatten().to_numpy().reshape(table.num_rows, self._length)
        return StoredRows(tokens, table.column("valid").to_numpy(), table)


_INSIDE = ("batch_offsets", "batch_lengths", "batch_rows", "batch_hashes")
