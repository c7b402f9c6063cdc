"""Reading single record batches of sequence shards: by byte range, checked before decoded, remembered for a while.

A record batch is about 2^19 tokens, one range read of 0.5 to 2 MiB. Decoded ones are kept in a memory bounded by bytes,
least recently used out first; with a bound of the plan's window budget each is fetched once an epoch. Reads run in a
few threads (zstd, hashing and file access let go of the interpreter), so the next batches arrive while these are used.

A record batch that is corrupt, after a second fetch, is an error, or padding from then on where `skip_corrupt` says so.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Event, Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.shards import (
    PRETRAINING,
    CorruptShardError,
    check_batch,
    decode_batch,
    row_schema,
    token_dtype,
    whole_column,
)
from tokenmill.pipeline.loader.cache import BatchCache
from tokenmill.pipeline.loader.roots import RunRoots
from tokenmill.pipeline.loader.stored_rows import StoredRows
from tokenmill.pipeline.storage import Storage

#: Reads at a time: from local disk as many as decode beside a trainer, from a store more, which mostly wait.
THREADS, THREADS_OF_A_STORE = 4, 16

_log = logging.getLogger(__name__)


class Reader:
    """Record batches of a shard table, by their number in it (all shards' batches, one after another).

    Threads start with the first read and end with `close`; what was read stays. A forked process starts anew.

    Args:
        storage: the run's root, or those of several; paths in the table are under it.
        shards: table of schema SHARDS.
        length: tokens a row (L).
        vocab_size: gives the width of a token id.
        layout: see `SequenceFormat`.
        align: see `SequenceFormat`.
        memory_bytes: decoded tokens to keep; the batch being asked for is kept whatever its size.
        cache: of this node's disk.
        skip_corrupt: whether the rows of a corrupt record batch become padding; else it is an error.
        padding_id: what padding holds.
    """

    def __init__(
        self,
        storage: Storage | RunRoots,
        shards: pa.Table,
        *,
        length: int,
        vocab_size: int,
        memory_bytes: int,
        layout: str = PRETRAINING,
        align: int = 1,
        cache: BatchCache | None = None,
        skip_corrupt: bool = False,
        padding_id: int = 0,
    ) -> None:
        self._storage = storage
        self._schema = row_schema(length, vocab_size, layout)
        self._length = length
        self._align = align
        self._row_bytes: int = length * token_dtype(vocab_size).bit_width // 8
        self._paths = shards.column("path")
        inside = {name: whole_column(shards, name) for name in _INSIDE}
        counts = inside["batch_rows"].value_lengths().to_numpy()
        self._first_batch = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._offsets = inside["batch_offsets"].flatten().to_numpy()
        self._lengths = inside["batch_lengths"].flatten().to_numpy()
        self._rows: npt.NDArray[np.int32] = inside["batch_rows"].flatten().to_numpy()
        self._hashes = inside["batch_hashes"].flatten()
        self._cache = cache
        self._skip_corrupt = skip_corrupt
        self._padding_id = padding_id
        self._memory_bytes = memory_bytes
        self._skipped: set[int] = set()
        self._begin()

    def _begin(self) -> None:
        """Nothing held, no thread: at first, and in a forked process, where locks may be in any state."""
        self._process = os.getpid()
        self._held_bytes = 0
        self._held: OrderedDict[int, Future[StoredRows]] = OrderedDict()
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._closing = Event()

    def get(self, batch: int) -> StoredRows:
        """The record batch, read now unless it is at hand.

        Raises:
            CorruptShardError: its bytes are not what the shard table says; names shard and batch.
            OSError: it could not be read; names the shard and the byte range.
        """
        return self.wait(batch, self.ask([batch])[0])

    def prefetch(self, batches: Iterable[int]) -> None:
        """Start reading those that are not at hand; an error is raised by the `get` that wants the batch."""
        self.ask(batches)

    def ask(self, batches: Iterable[int]) -> list["Future[StoredRows]"]:
        """As `prefetch`; `wait` for each then gives it, whatever else is read meanwhile."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            return [self._ask(batch) for batch in batches]

    def wait(self, batch: int, asked: "Future[StoredRows]") -> StoredRows:
        """The record batch that `ask` gave `asked` for; raises as `get` does."""
        try:
            return asked.result()
        except BaseException:
            self._forget(batch, asked)
            raise

    def close(self) -> None:
        """End the threads, after the reads under way; those that wait for their turn are not made."""
        if self._process != os.getpid():
            return
        with self._lock:
            pool, self._pool = self._pool, None
            closing, self._closing = self._closing, Event()
        if pool is not None:
            closing.set()
            pool.shutdown(cancel_futures=True)
            with self._lock:
                for batch, future in list(self._held.items()):
                    if future.cancelled() or (future.done() and future.exception() is not None):
                        self._drop(batch)

    def skip(self, batches: Iterable[int]) -> None:
        """Take these, and no others, for corrupt until their bytes are found so. Not while threads run."""
        self._skipped = set(batches)
        self._begin()

    def name(self, batch: int) -> tuple[str, int]:
        """Path of the shard that holds the record batch, and its number there."""
        shard = int(np.searchsorted(self._first_batch, batch, side="right")) - 1
        return self._paths[shard].as_py(), batch - int(self._first_batch[shard])

    def number(self, path: str, batch: int) -> int | None:
        """The record batch of this name; None if there is none."""
        shard = pc.index(self._paths, pa.scalar(path, self._paths.type)).as_py()
        if shard < 0 or not 0 <= batch < self._first_batch[shard + 1] - self._first_batch[shard]:
            return None
        return int(self._first_batch[shard]) + batch

    def _ask(self, batch: int) -> "Future[StoredRows]":
        future = self._held.get(batch)
        if future is None:
            if self._pool is None:
                threads = THREADS if self._storage.is_local else THREADS_OF_A_STORE
                self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tokenmill-reader")
            future = self._held[batch] = self._pool.submit(self._read, batch, self._closing)
            self._held_bytes += self._bytes(batch)
        self._held.move_to_end(batch)
        while self._held_bytes > self._memory_bytes and len(self._held) > 1:
            self._drop(next(iter(self._held)))
        return future

    def _forget(self, batch: int, failed: "Future[StoredRows]") -> None:
        """Drop a read that failed, so that the next `get` tries anew."""
        with self._lock:
            if self._held.get(batch) is failed:
                self._drop(batch)

    def _drop(self, batch: int) -> None:
        del self._held[batch]
        self._held_bytes -= self._bytes(batch)

    def _bytes(self, batch: int) -> int:
        return int(self._rows[batch]) * self._row_bytes

    def _read(self, batch: int, closing: Event) -> StoredRows:
        """Fetch, check, decode; or padding."""
        if batch in self._skipped:
            return self._padding(batch)
        try:
            table = decode_batch(self._fetch(batch, closing), self._schema)
        except (CorruptShardError, FileNotFoundError) as error:
            if not self._skip_corrupt:
                raise
            self._report(batch, error)
            self._skipped.add(batch)
            return self._padding(batch)
        if table.num_rows != self._rows[batch]:
            path, number = self.name(batch)
            raise CorruptShardError(
                f"record batch {number} of shard {self._storage.url(path)} has {table.num_rows} rows, the shard table "
                f"says {self._rows[batch]}: publish the mixture again"
            )
        tokens = table.column("tokens").flatten().to_numpy().reshape(table.num_rows, self._length)
        return StoredRows(tokens, table.column("valid").to_numpy(), table, self._align)

    def _fetch(self, batch: int, closing: Event) -> bytes:
        """The bytes that the shard table says, from the cache or the shard."""
        digest = self._hashes[batch].as_py()
        if self._cache is not None and (kept := self._cache.read(digest)) is not None:
            return kept
        try:
            data = self._fetch_from_shard(batch, closing)
        except CorruptShardError:  # once more: bytes are also damaged on their way
            data = self._fetch_from_shard(batch, closing)
        if self._cache is not None:
            self._cache.write(digest, data)
        return data

    def _fetch_from_shard(self, batch: int, closing: Event) -> bytes:
        path, number = self.name(batch)
        offset, length = int(self._offsets[batch]), int(self._lengths[batch])

        def pause(seconds: float) -> None:
            if closing.wait(seconds):
                raise CancelledError(f"the reader was closed while record batch {number} of {path} was tried again")

        data = self._storage.read_range(path, offset, length, pause=pause)
        if len(data) != length:
            raise CorruptShardError(
                f"record batch {number} of shard {self._storage.url(path)} is corrupt: the file ends after {len(data)} "
                f"of its {length} bytes; fetch the shard again, or rerun the pack task that wrote it"
            )
        check_batch(data, self._hashes[batch].as_py(), shard=self._storage.url(path), batch=number)
        return data

    def _report(self, batch: int, error: Exception) -> None:
        """Say what is lost; raise the error where not a shard, but the run is gone."""
        path, number = self.name(batch)
        if isinstance(error, FileNotFoundError) and not self._storage.at(path)[0].sizes("manifests"):
            raise error
        _log.warning(
            "skipped record batch %d of shard %s: its %d rows are padding from now on; %s",
            *(number, self._storage.url(path), self._rows[batch], error),
        )

    def _padding(self, batch: int) -> StoredRows:
        """As many rows as the batch has, with no token in them."""
        count = int(self._rows[batch])
        kind = self._schema.field("tokens").type
        tokens = np.full((count, self._length), self._padding_id, kind.value_type.to_pandas_dtype())
        columns = {
            field.name: pa.array([[]] * count, field.type) for field in self._schema if pa.types.is_list(field.type)
        }
        columns["tokens"] = pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), type=kind)
        columns["valid"] = pa.array(np.zeros(count, np.int32))
        columns["answer"], columns["checker"] = pa.array([""] * count), pa.nulls(count, pa.string())
        table = pa.RecordBatch.from_arrays([columns[name] for name in self._schema.names], schema=self._schema)
        return StoredRows(tokens, columns["valid"].to_numpy(), table, self._align, is_skipped=True)


_INSIDE = ("batch_offsets", "batch_lengths", "batch_rows", "batch_hashes")
