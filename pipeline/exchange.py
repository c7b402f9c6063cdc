"""The exchange between two rounds of *deduplicate*: every task writes one file, partition by partition.

A record goes to the partition its task computes; the next round's task reads its own partition of every file, by one
ranged read each. So a round leaves as many files as it has tasks, not tasks × partitions. Reads would still be tasks ×
partitions: above FAN_OUT partitions, merging tasks come between. Each takes a stretch of FAN_OUT partitions, which lie
together, from FAN_OUT files and writes one file of them. At 15,000 tasks and partitions that is 3.5M reads instead of
225M, and receipts tell rows by the stretch.

Files are Arrow IPC with lz4: one record batch a partition, empty ones included, so that batch i is partition i. Flipped
bits pass lz4 unnoticed, so each batch carries a hash of its partition's number and records, checked when it is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from tokenmill.dedup.radix import dealt
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.storage import Storage

#: Partitions of one file, and files read by one task, at most.
FAN_OUT = 128
#: What a partition should hold, in memory.
PARTITION_BYTES = 256 << 20
_HASH = b"xxh3-64"

Columns = Mapping[str, npt.NDArray[np.generic]]


def write_partitions(
    storage: Storage,
    name: str,
    path: str,
    columns: Columns,
    partition: npt.NDArray[np.int64],
    partitions: int,
    stretch: int = 1,
) -> Output:
    """Write records by partition; within one they keep their order.

    Args:
        storage: the run's folder.
        name: of the output.
        path: of the file.
        columns: arrays of n records each, one- or two-dimensional (n × width).
        partition: int64[n], 0 … partitions - 1.
        partitions: how many there are.
        stretch: partitions that the output's detail tells of together.

    Returns:
        The output; its detail `rows` says how many records each partition, or stretch of partitions, has.
    """
    order, counts = dealt(partition, partitions)
    ends = np.cumsum(counts)
    schema = pa.schema([pa.field(column, _column(array[:0]).type) for column, array in columns.items()])
    with storage.temporary() as draft:
        with pa.ipc.new_file(draft.file, schema, options=_options()) as writer:
            for index, (end, count) in enumerate(zip(ends, counts, strict=True)):
                rows = order[end - count : end]
                arrays = [_column(np.ascontiguousarray(array[rows])) for array in columns.values()]
                _write(writer, pa.RecordBatch.from_arrays(arrays, schema=schema), index)
        stored = draft.commit(path)
    if stretch == 1:
        return Output(name, stored.path, stored.bytes, stored.hash, {"rows": counts.tolist()})
    rows = np.add.reduceat(counts, np.arange(0, partitions, stretch)).tolist()
    return Output(name, stored.path, stored.bytes, stored.hash, {"rows": rows, "stretch": stretch})


def merge_stretch(storage: Storage, path: str, outputs: Sequence[Output], first: int, partitions: int) -> Output:
    """One file of the partitions first … first + partitions - 1 of several files; records keep their order.

    Raises:
        ValueError: see `read_partition`.
    """
    found: list[list[pa.RecordBatch]] = [[] for _ in range(partitions)]
    for output in outputs:
        if rows_in(output, first):
            with _opened(storage, output) as reader:
                for index, batches in enumerate(found):
                    batches.append(_batch(reader, output, first + index))
    schema = found[0][0].schema if found[0] else _one_batch(storage, outputs[0], first).schema
    rows = []
    with storage.temporary() as draft:
        with pa.ipc.new_file(draft.file, schema, options=_options()) as writer:
            for index, batches in enumerate(found):
                table = pa.Table.from_batches(batches, schema)
                rows.append(table.num_rows)
                batches.clear()
                arrays = [_one_array(column) for column in table.columns]
                _write(writer, pa.RecordBatch.from_arrays(arrays, schema=schema), first + index)
        stored = draft.commit(path)
    return Output(outputs[0].name, stored.path, stored.bytes, stored.hash, {"rows": rows, "first": first})


def has_partition(output: Output, index: int) -> bool:
    """Whether a file has a partition, be it empty; one that was merged has a stretch of them."""
    detail = output.detail
    return "first" not in detail or 0 <= index - int(detail["first"]) < len(detail["rows"])


def rows_in(output: Output, index: int) -> int:
    """Records of a partition in a file, or of its stretch where the file tells no more; 0 if it has others only."""
    detail = output.detail
    if "first" in detail:
        place = index - int(detail["first"])
        return int(detail["rows"][place]) if 0 <= place < len(detail["rows"]) else 0
    return int(detail["rows"][index // int(detail.get("stretch", 1))])


def read_partition(
    storage: Storage, outputs: Sequence[Output], index: int, columns: Sequence[str] | None = None
) -> dict[str, npt.NDArray[np.generic]]:
    """Records of one partition in all files, file by file: arrays by column, or some.

    One file at least must have the partition.

    Raises:
        ValueError: a file is gone or damaged; it is named, and what to do.
    """
    batches: list[pa.RecordBatch] = []
    for output in outputs:
        if rows_in(output, index):
            batches.append(_one_batch(storage, output, index))
    if not batches:
        batches = [_one_batch(storage, next(output for output in outputs if has_partition(output, index)), index)]
    table = pa.Table.from_batches(batches).select(list(columns or batches[0].schema.names))
    return {name: _array(table.column(name)) for name in table.column_names}


def read_records(
    storage: Storage, outputs: Sequence[Output], index: int, columns: Mapping[str, str]
) -> dict[str, npt.NDArray[np.generic]]:
    """`read_partition`, or empty arrays of `columns` (name → dtype) where no task wrote a file."""
    if not outputs:
        return {name: np.empty(0, np.dtype(dtype)) for name, dtype in columns.items()}
    return read_partition(storage, outputs, index)


def num_partitions(total_bytes: int) -> int:
    """Partitions for so many bytes of records: it depends on the data alone."""
    return max(1, -(-total_bytes // PARTITION_BYTES))


def _options() -> pa.ipc.IpcWriteOptions:
    return pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


@contextmanager
def _opened(storage: Storage, output: Output) -> Iterator[pa.ipc.RecordBatchFileReader]:
    """A file of a round; whatever goes wrong while it is read names it. Nothing but reading belongs inside."""
    try:
        with storage.open(output.path) as file:
            yield pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(use_threads=False))
    except (pa.ArrowException, OSError, IndexError, ValueError) as error:
        size = storage.sizes(output.path).get(output.path)
        found = "it is not there" if size is None else f"it has {size} of the {output.bytes} bytes in its receipt"
        raise ValueError(
            f"cannot read {storage.url(output.path)}, which a round of deduplicate wrote: {error} ({found}); if it is "
            "damaged, delete it and run again: only its task is done again"
        ) from error


def _batch(reader: pa.ipc.RecordBatchFileReader, output: Output, index: int) -> pa.RecordBatch:
    """Partition `index` of an open file, whatever its first is. Raises when its bytes are not those written."""
    batch, told = reader.get_batch_with_custom_metadata(index - int(output.detail.get("first", 0)))
    batch.validate()  # that buffers are as long as they claim, before anything looks into them
    stated, found = (told or {}).get(_HASH), _batch_hash(batch, index)
    if stated != found:
        raise ValueError(f"partition {index} hashes to {found.decode()}, it was written with {stated}")
    return batch


def _one_batch(storage: Storage, output: Output, index: int) -> pa.RecordBatch:
    with _opened(storage, output) as reader:
        return _batch(reader, output, index)


def _write(writer: pa.ipc.RecordBatchFileWriter, batch: pa.RecordBatch, index: int) -> None:
    writer.write_batch(batch, custom_metadata={_HASH: _batch_hash(batch, index)})


def _batch_hash(batch: pa.RecordBatch, index: int) -> bytes:
    """xxh3-64 (hex) of a partition's number, the names and types of its columns, and what they hold."""
    described = [index, batch.num_rows, [(field.name, str(field.type)) for field in batch.schema]]
    hasher = xxhash.xxh3_64(repr(described).encode())
    for column in batch.columns:
        flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
        hasher.update(flat.to_numpy(zero_copy_only=True))  # which refuses nulls: no round writes any
    return hasher.hexdigest().encode()


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _column(array: npt.NDArray[np.generic]) -> pa.Array:
    if array.ndim == 1:
        return pa.array(array)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])


def _array(column: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    whole = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        found: npt.NDArray[np.generic] = whole.flatten().to_numpy(zero_copy_only=False)
        return found.reshape(-1, column.type.list_size)
    flat: npt.NDArray[np.generic] = whole.to_numpy(zero_copy_only=False)
    return flat
