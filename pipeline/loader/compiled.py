"""Shard tables in a form that opens at once, whatever their size: a file whose columns are mapped.

A Parquet table of 20 million record batches takes long to read and gigabytes to hold. Compiled once into a local
folder, by the first process that opens it, its columns are views of the file, whose pages all ranks of a node share.
It is named by the shard table's hash, so never stale, and placed whole or not at all: several may make it at once.

    xxh3-128 of what follows, up to the end of "batch_rows" │ where that is, u64 │ bytes of the head, u64
    head     JSON: the table's hash, record batches, bytes of the table below, hashes of packed rows
    table    Arrow IPC stream: component, unit, path, rows, tokens, and how many record batches each shard has
    columns  of record batches, raw, little-endian: batch_rows i32, batch_offsets i64, batch_lengths i32, 16-byte hashes

each padded to 64 bytes. A start reads and checks what the order of rows hangs on; each read proves the rest.
"""

import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.schemas import SHARDS
from tokenmill.manifests.shards import packing_hashes, whole_column
from tokenmill.pipeline.storage import Storage

FORMAT = "tokenmill-compiled-shards/1"
_PREFIX = 32  # the hash and the two lengths
_ALIGN = 64
_SHARD_COLUMNS = ["component", "unit", "path", "rows", "tokens"]
# Raw columns in the order they lie in, and bytes a value.
_RAW = {"batch_rows": 4, "batch_offsets": 8, "batch_lengths": 4, "batch_hashes": 16}
_COLUMNS = [*_SHARD_COLUMNS, *_RAW]


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
    return f"shards.{shard_table_hash}.compiled"


def compile_table(local: Storage, shard_table_hash: str, table: pa.Table) -> None:
    """Write the compiled form of a shard table (the columns that the loader reads) into a local folder."""
    raw = [_values(whole_column(table, name)) for name in _RAW]
    counts = pa.chunked_array([whole_column(table, "batch_rows").value_lengths()])
    sink = pa.BufferOutputStream()
    shards = table.select(_SHARD_COLUMNS).append_column("batches", counts)
    with pa.ipc.new_stream(sink, shards.schema) as writer:
        writer.write_table(shards.combine_chunks())
    small = _padded(sink.getvalue())
    value = {
        "format": FORMAT,
        "shard_table": shard_table_hash,
        "batches": len(raw[0]) // _RAW["batch_rows"],
        "table_bytes": len(small),
        "packings": packing_hashes(table),
    }
    head = json.dumps(value, sort_keys=True).encode()
    head += b" " * (-(_PREFIX + len(head)) % _ALIGN)
    checked = [head, small, _padded(raw[0])]
    lengths = struct.pack("<QQ", _PREFIX + sum(map(len, checked)), len(head))
    digest = xxhash.xxh3_128(lengths)
    for part in checked:
        digest.update(part)
    with local.temporary() as draft:
        for part in (digest.digest(), lengths, *checked, *map(_padded, raw[1:])):
            draft.file.write(part)
        draft.commit(compiled_path(shard_table_hash))


def table_packings(table: pa.Table) -> dict[str, str]:
    """`packing_hashes` of a shard table, as its compiled form knows them."""
    known = (table.schema.metadata or {}).get(b"packings")
    return dict(json.loads(known)) if known else packing_hashes(table)


def _read_table(storage: Storage, mixture: Mixture) -> pa.Table:
    data = storage.read(mixture.shard_table_path)
    found = xxhash.xxh3_128_hexdigest(data)
    if found != mixture.shard_table_hash:
        raise ValueError(
            f"shard table {storage.url(mixture.shard_table_path)} hashes to {found}, the mixture says "
            f"{mixture.shard_table_hash}: restore the file, or publish the mixture again"
        )
    return pq.ParquetFile(pa.BufferReader(data)).read(columns=_COLUMNS, use_threads=False)


def _map(local: Storage, path: str, shard_table_hash: str) -> pa.Table:
    """A compiled table, mapped and checked: nothing is looked at before its hash is."""
    damaged = f"compiled shard table {local.url(path)} is damaged: delete it, and it is made anew"
    file = local.mapped(path)
    size = file.size()
    data = file.read_buffer() if size else pa.py_buffer(b"")
    view = memoryview(data)
    checked, head_bytes = struct.unpack("<QQ", view[16:_PREFIX]) if size >= _PREFIX else (size + 1, 0)
    if checked > size or bytes(view[:16]) != xxhash.xxh3_128_digest(view[16:checked]):
        raise ValueError(damaged)
    head = json.loads(bytes(view[_PREFIX : _PREFIX + head_bytes]))
    first, batches = _PREFIX + head_bytes + head["table_bytes"], head["batches"]
    places, end = {}, first
    for name, width in _RAW.items():
        places[name] = (end, width * batches)
        end += width * batches + -(width * batches) % _ALIGN
    if (head["format"], head["shard_table"], end) != (FORMAT, shard_table_hash, size):
        raise ValueError(damaged)
    shards = pa.ipc.open_stream(data.slice(_PREFIX + head_bytes, head["table_bytes"])).read_all()
    borders = np.concatenate([[0], np.cumsum(whole_column(shards, "batches").to_numpy())]).astype(np.int32)
    columns = [shards.column(name) for name in _SHARD_COLUMNS]
    for name, place in places.items():
        kind = SHARDS.field(name).type
        values = pa.Array.from_buffers(kind.value_type, batches, [None, data.slice(*place)])
        columns.append(pa.ListArray.from_arrays(pa.array(borders), values, type=kind))
    schema = pa.schema([SHARDS.field(name) for name in _COLUMNS], {"packings": json.dumps(head["packings"])})
    return pa.table(columns, schema=schema)


def _values(lists: pa.Array) -> memoryview:
    """The bytes of all values of a list column, which are of a fixed size."""
    flat = lists.flatten()
    width = flat.type.bit_width // 8
    return memoryview(flat.buffers()[1])[width * flat.offset : width * (flat.offset + len(flat))]


def _padded(part: bytes | memoryview | pa.Buffer) -> bytes:
    """The bytes, filled up to whole lines of 64."""
    return bytes(part) + bytes(-len(part) % _ALIGN)
