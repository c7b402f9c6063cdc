"""The exchange between two rounds of *deduplicate*: every task writes one file, partition by partition.

A record goes to the partition its task computes; the next round's task reads its own partition of every file, by one
ranged read each. So a round leaves as many files as it has tasks, not tasks × partitions. Reads would still be tasks ×
partitions: above FAN_OUT partitions, merging tasks come between. Each takes a stretch of FAN_OUT partitions, which lie
together, from FAN_OUT files and writes one file of them. At 15,000 tasks and partitions that is 3.5M reads instead of
225M, and receipts tell rows by the stretch.

Files are Arrow IPC with lz4: one record batch a partition, empty ones included, so that batch i is partition i.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.dedup.radix import dealt
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.storage import Storage

#: Partitions of one file, and files read by one task, at most.
FAN_OUT = 128
#: What a partition should hold, in memory.
PARTITION_BYTES = 256 << 20

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
            for end, count in zip(ends, counts, strict=True):
                rows = order[end - count : end]
                arrays = [_column(np.ascontiguousarray(array[rows])) for array in columns.values()]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        stored = draft.commit(path)
    if stretch == 1:
        return Output(name, stored.path, stored.bytes, stored.hash, {"rows": counts.tolist()})
    rows = np.add.reduceat(counts, np.arange(0, partitions, stretch)).tolist()
    return Output(name, stored.path, stored.bytes, stored.hash, {"rows": rows, "stretch": stretch})


def merge_stretch(storage: Storage, path: str, outputs: Sequence[Output], first: int, partitions: int) -> Output:
    """One file of the partitions first … first + partitions - 1 of several files; records keep their order."""
    found: list[list[pa.RecordBatch]] = [[] for _ in range(partitions)]
    for output in outputs:
        if rows_in(output, first):
            with storage.open(output.path) as file:
                reader = pa.ipc.open_file(file)
                for index, batches in enumerate(found):
                    batches.append(reader.get_batch(first + index))
    schema = _schema_of(storage, outputs[0])
    rows = []
    with storage.temporary() as draft:
        with pa.ipc.new_file(draft.file, schema, options=_options()) as writer:
            for batches in found:
                table = pa.Table.from_batches(batches, schema)
                rows.append(table.num_rows)
                batches.clear()
                arrays = [_one_array(column) for column in table.columns]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        stored = draft.commit(path)
    return Output(outputs[0].name, stored.path, stored.bytes, stored.hash, {"rows": rows, "first": first})


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
    """Records of one partition in all files, file by file: arrays by column, or some. There must be a file at least."""
    batches: list[pa.RecordBatch] = []
    for output in outputs:
        if rows_in(output, index):
            with storage.open(output.path) as file:
                batch = pa.ipc.open_file(file).get_batch(index - int(output.detail.get("first", 0)))
                batches.append(batch if columns is None else batch.select(list(columns)))
    if batches:
        table = pa.Table.from_batches(batches)
    else:
        schema = _schema_of(storage, outputs[0])
        table = schema.empty_table().select(list(columns or schema.names))
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
    return pa.ipc.IpcWriteOptions(compression="lz4")


def _schema_of(storage: Storage, output: Output) -> pa.Schema:
    with storage.open(output.path) as file:
        return pa.ipc.open_file(file).schema


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
