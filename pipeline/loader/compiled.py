"""Shard tables in a form that opens at once, whatever their size: one record batch in an Arrow file that is mapped.

A Parquet table of 20 million record batches takes a minute to read and gigabytes to hold. Compiled once into a local
folder, by the first process that opens it, its columns are views of the file: a start reads what it hashes (all but
offsets, lengths and hashes of record batches, which each read proves), and of the rest the pages it touches. The file
is named by the shard table's hash, so it is never stale; it is placed whole or not at all, so that any number of
processes may make it at once; all ranks of a node share its pages.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.shards import packing_hashes, whole_column
from tokenmill.pipeline.storage import Storage

FORMAT = "tokenmill-compiled-shards/1"
_INSIDE = ("batch_offsets", "batch_lengths", "batch_rows", "batch_hashes")
_COLUMNS = ["component", "unit", "path", "rows", "tokens", *_INSIDE]
_HASHED = ("component", "unit", "path", "rows", "tokens", "batch_rows")


def open_table(storage: Storage, mixture: Mixture, folder: str | None) -> pa.Table:
    """The shard table of a mixture, checked against its hash.

    Args:
        storage: the run's root.
        mixture: names the table and its hash.
        folder: local, where compiled tables lie and new ones are put; None: read it from the run, into memory.

    Raises:
        ValueError: the table, or its compiled form, is not what was written.
    """
    if folder is None:
        return _read_table(storage, mixture)
    local = Storage(folder)
    if not local.is_local:
        raise ValueError(f"tables_dir is {folder!r}: give a folder on this machine, since its files are mapped")
    path = compiled_path(mixture.shard_table_hash)
    if path not in local.sizes():
        compile_table(local, mixture.shard_table_hash, _read_table(storage, mixture))
    return _map(local, path, mixture.shard_table_hash)


def compiled_path(shard_table_hash: str) -> str:
    """Name of a compiled table in its folder."""
    return f"shards.{shard_table_hash}.arrow"


def compile_table(local: Storage, shard_table_hash: str, table: pa.Table) -> None:
    """Write the compiled form of a shard table (the columns that the loader reads) into a local folder."""
    columns = {name: whole_column(table, name) for name in _COLUMNS}
    fields = pa.schema([table.schema.field(name) for name in _COLUMNS])
    value = {
        "format": FORMAT,
        "shard_table": shard_table_hash,
        "content": _content_hash(columns),
        "packings": packing_hashes(table),
    }
    schema = fields.with_metadata({"tokenmill": json.dumps(value, sort_keys=True)})
    with local.temporary() as draft:
        with pa.ipc.new_file(pa.PythonFile(draft.file, mode="w"), schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(list(columns.values()), schema=schema))
        draft.commit(compiled_path(shard_table_hash))


def table_packings(table: pa.Table) -> dict[str, str]:
    """`packing_hashes` of a shard table, as its compiled form knows them."""
    known = (table.schema.metadata or {}).get(b"tokenmill")
    return dict(json.loads(known)["packings"]) if known else packing_hashes(table)


def _read_table(storage: Storage, mixture: Mixture) -> pa.Table:
    data = storage.read(mixture.shard_table_path)
    found = xxhash.xxh3_128_hexdigest(data)
    if found != mixture.shard_table_hash:
        raise ValueError(
            f"shard table {storage.url(mixture.shard_table_path)} hashes to {found}, the mixture says "
            f"{mixture.shard_table_hash}: restore the file, or publish the mixture again"
        )
    return pq.ParquetFile(pa.BufferReader(data)).read(columns=_COLUMNS, use_threads=False).replace_schema_metadata()


def _map(local: Storage, path: str, shard_table_hash: str) -> pa.Table:
    """A compiled table, mapped and checked."""
    damaged = f"compiled shard table {local.url(path)} is damaged: delete it, and it is made anew"
    try:
        table = pa.ipc.open_file(local.mapped(path)).read_all()
        value = json.loads(table.schema.metadata[b"tokenmill"])
    except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(damaged) from error
    columns = {name: whole_column(table, name) for name in _HASHED}
    expected = {"format": FORMAT, "shard_table": shard_table_hash, "content": _content_hash(columns)}
    if any(value.get(name) != known for name, known in expected.items()):
        raise ValueError(damaged)
    return table


def _content_hash(columns: dict[str, pa.Array]) -> str:
    """xxh3-128 (hex) of what the order of rows hangs on."""
    hasher = xxhash.xxh3_128()
    for name in _HASHED:
        column = columns[name]
        if pa.types.is_integer(column.type):
            hasher.update(column.to_numpy())
            continue
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
        hasher.update(offsets - offsets[0])
        inside: Any
        if pa.types.is_list(column.type):
            inside = column.flatten().to_numpy()
        else:
            inside = memoryview(column.buffers()[2] or b"")[offsets[0] : offsets[-1]]
        hasher.update(inside)
    return hasher.hexdigest()
