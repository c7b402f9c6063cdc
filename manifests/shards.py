"""Sequence shards: Arrow IPC files whose record batches can be fetched, checked and decoded one by one.

zstd does not notice flipped bits (181 of 200 single-bit flips read back silently), so each record batch's bytes are
hashed as they are written and checked before they are decoded. The file is an ordinary Arrow IPC file.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from tokenmill.manifests.schemas import SHARDS, sequence_schema

FORMAT = "tokenmill-sequences/1"
TOKENS_PER_BATCH = 1 << 19
ZSTD_LEVEL = 3
#: Arrow IPC files begin with this magic, padded to 8 bytes; the schema message follows.
_MAGIC_BYTES = 8


#: What a row holds: documents; samples of SFT one after another; one dialogue; a pair, two pieces of one document: the
#: prompt with the chosen answer, and the prompt with the rejected one; or a prompt, and how its answer is checked.
PRETRAINING, CONCAT, DIALOGUE, PREFERENCE, PROMPTS = "pretraining", "concat", "dialogue", "preference", "prompts"
LAYOUTS = (PRETRAINING, CONCAT, DIALOGUE, PREFERENCE, PROMPTS)


#: Columns of SHARDS with an entry a record batch.
BATCH_COLUMNS = ("batch_offsets", "batch_lengths", "batch_rows", "batch_hashes")


class CorruptShardError(ValueError):
    """Bytes of a shard are not what its shard table says."""


def rows_per_batch(length: int) -> int:
    """Rows of `length` tokens in one record batch: about 2^19 tokens (64 rows at L = 8192)."""
    return max(1, TOKENS_PER_BATCH // length)


def check_layout(layout: str) -> None:
    """Raise ValueError unless rows can be laid out so."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}: give {', '.join(map(repr, LAYOUTS))}")


def token_dtype(vocab_size: int) -> pa.DataType:
    """uint16 while every id fits, else uint32."""
    return pa.uint16() if vocab_size <= 1 << 16 else pa.uint32()


def row_schema(length: int, vocab_size: int, layout: str) -> pa.Schema:
    """Columns of rows of `length` tokens that are laid out so."""
    return sequence_schema(length, token_dtype(vocab_size), layout != PRETRAINING, layout == PROMPTS)


def blocks_of(tokens: npt.NDArray[np.int64], align: int) -> npt.NDArray[np.int64]:
    """How many blocks of `align` tokens hold so many tokens each."""
    blocks: npt.NDArray[np.int64] = -(-tokens // align)
    return blocks


def places_in_rows(
    sizes: npt.NDArray[np.int32], row_offsets: npt.NDArray[np.int32] | npt.NDArray[np.int64], align: int
) -> npt.NDArray[np.int64]:
    """Where pieces begin in their rows: each after the one before it, at the next multiple of `align`.

    Args:
        sizes: int32, tokens of each piece, row after row; a shard's column `document_lengths`, flat.
        row_offsets: [rows+1], first piece of each row, from 0.
        align: as `SequenceFormat` has it.
    """
    ends = np.cumsum(blocks_of(sizes.astype(np.int64), align) * align)
    begins = np.concatenate([np.zeros(1, np.int64), ends])
    places: npt.NDArray[np.int64] = begins[:-1] - np.repeat(begins[row_offsets[:-1]], np.diff(row_offsets))
    return places


def not_aligned(length: int, align: int) -> str:
    """What to say of rows that do not hold whole blocks."""
    near = sorted({max(1, length // align) * align, -(-length // align) * align})
    return (
        f"rows of {length} tokens do not hold whole blocks of align {align}: take a length of "
        f"{' or '.join(map(str, near))}, or another align"
    )


@dataclass(frozen=True)
class SequenceFormat:
    """What all shards of a unit and stratum share; stored in each file's schema metadata.

    Attributes:
        length: tokens a row (L).
        vocab_size: ids run from 0 to vocab_size - 1.
        tokenizer_hash: hash of the `tokenizer.json`.
        special_ids: bos, eos, pad, mask; -1 where the tokenizer has none.
        packing: how rows were filled, with its version, such as "best_fit/1".
        stratum: "train", "validation", …
        unit: the unit's name.
        parts: keys of the parts that `document_parts` indexes.
        align: pieces begin at multiples of so many tokens, padding between them; 1: a row's tokens are a prefix.
        layout: "pretraining"; or of conversations, which say what tokens are answers: "concat", "dialogue" (one a row)
            "preference" (a pair a row) or "prompts" (one a row, with its answer and checker).
    """

    length: int
    vocab_size: int
    tokenizer_hash: str
    special_ids: dict[str, int]
    packing: str
    stratum: str
    unit: str
    parts: tuple[str, ...]
    align: int = 1
    layout: str = PRETRAINING

    def __post_init__(self) -> None:
        check_layout(self.layout)
        if self.align < 1 or self.length % self.align:
            raise ValueError(not_aligned(self.length, self.align))

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema with this format as its metadata (one JSON value under the key `tokenmill`)."""
        value = {"format": FORMAT, **self.__dict__, "parts": list(self.parts)}
        if self.align == 1:  # said only where rows differ from those of versions that did not know it
            del value["align"]
        if self.layout == PRETRAINING:
            del value["layout"]
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        schema = row_schema(self.length, self.vocab_size, self.layout)
        return schema.with_metadata({"tokenmill": text})

    @classmethod
    def of(cls, schema: pa.Schema) -> "SequenceFormat":
        """Read the format back from a shard's schema."""
        raw = (schema.metadata or {}).get(b"tokenmill")
        if raw is None:
            raise CorruptShardError("not a tokenmill sequence shard: its Arrow schema has no `tokenmill` metadata")
        value = json.loads(raw)
        found = value.pop("format")
        if found != FORMAT:
            raise CorruptShardError(f"shard format {found!r} is not {FORMAT!r}: read it with the version that wrote it")
        return cls(**{**value, "parts": tuple(value["parts"])})


def write_batches(sink: Any, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> dict[str, Any]:
    """Write record batches to `sink` as an Arrow IPC file, zstd level 3, noting where each lies.

    Args:
        sink: a writable binary file object that starts at byte 0.
        schema: from `SequenceFormat.schema`.
        batches: in order; each becomes one message.

    Returns:
        The columns of SHARDS that describe the inside of the file: schema_bytes, rows, tokens, documents, batch_*; and
        footer_hash, xxh3-128 (hex) of what follows the last record batch.
    """
    # Arrow writes the schema together with the first batch; knowing its length tells where that batch begins.
    schema_end = _MAGIC_BYTES + schema.serialize().size
    tee = _Tee(sink, hash_from=schema_end)
    out = pa.PythonFile(tee, mode="w")
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=ZSTD_LEVEL), use_threads=False)
    offsets: list[int] = []
    lengths: list[int] = []
    rows: list[int] = []
    hashes: list[bytes] = []
    tokens = documents = 0
    with pa.ipc.new_file(out, schema, options=options) as writer:
        for batch in batches:
            offsets.append(max(tee.position, schema_end))
            tee.hasher.reset()
            writer.write_batch(batch)
            lengths.append(tee.position - offsets[-1])
            rows.append(batch.num_rows)
            hashes.append(tee.hasher.digest())
            tokens += pc.sum(batch.column("valid")).as_py() or 0
            starts = batch.column("document_starts").flatten()
            documents += pc.sum(pc.equal(starts, 0)).as_py() or 0
        tee.hasher.reset()
    return {
        "schema_bytes": schema_end,
        "rows": sum(rows),
        "tokens": tokens,
        "documents": documents,
        "batch_offsets": offsets,
        "batch_lengths": lengths,
        "batch_rows": rows,
        "batch_hashes": hashes,
        "footer_hash": tee.hasher.hexdigest(),
    }


def check_batch(data: bytes | memoryview, expected_hash: bytes, *, shard: str, batch: int) -> None:
    """Raise CorruptShardError, naming shard and batch, unless the bytes have the hash the shard table gives."""
    found = xxhash.xxh3_128_digest(data)
    if found != expected_hash:
        raise CorruptShardError(
            f"record batch {batch} of shard {shard} is corrupt: its bytes hash to {found.hex()}, the shard table says "
            f"{expected_hash.hex()}; fetch the shard again, or rerun the pack task that wrote it"
        )


def decode_batch(data: bytes | memoryview, schema: pa.Schema) -> pa.RecordBatch:
    """Decode one record batch's message (already checked) against the shard's schema."""
    return pa.ipc.read_record_batch(pa.py_buffer(data), schema)


def decode_columns(head: bytes, data: bytes | memoryview, columns: Sequence[str]) -> pa.RecordBatch:
    """Decode some columns of one record batch's message (already checked); the others are not decompressed.

    Args:
        head: the file's first `schema_bytes` bytes.
        data: the message.
        columns: their names; they come in the schema's order.
    """
    schema = read_schema(head)
    fields = sorted(schema.get_field_index(name) for name in columns)
    options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
    stream = pa.py_buffer(b"".join([memoryview(head)[_MAGIC_BYTES:], data]))  # a schema and a batch make a stream
    return pa.ipc.open_stream(stream, options=options).read_next_batch()


def read_schema(head: bytes) -> pa.Schema:
    """Schema of a shard from its first `schema_bytes` bytes."""
    return pa.ipc.read_schema(pa.py_buffer(memoryview(head)[_MAGIC_BYTES:]))


def shard_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Shard table of SHARDS' schema, sorted by (component, unit, path)."""
    ordered = sorted(rows, key=lambda row: (row["component"], row["unit"], row["path"]))
    return pa.Table.from_pylist(ordered, schema=SHARDS)


def whole_column(table: pa.Table, name: str) -> pa.Array:
    """A column as one array, copied only where it is in several."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def packing_hashes(shards: pa.Table) -> dict[str, str]:
    """xxh3-128 (hex) of each component's packed rows, wherever they lie: its units, and the rows and hashes of batches.

    Args:
        shards: table of schema SHARDS, sorted as `shard_table` sorts it.
    """
    names, units = (table.to_pylist() for table in (shards.column("component"), shards.column("unit")))
    rows, hashes = whole_column(shards, "batch_rows"), whole_column(shards, "batch_hashes")
    hashers: dict[str, xxhash.xxh3_128] = {}
    for index, (name, unit) in enumerate(zip(names, units, strict=True)):
        hasher = hashers.setdefault(name, xxhash.xxh3_128())
        counts = rows.slice(index, 1).flatten().to_numpy()
        hasher.update(f"{len(unit)}:{unit}{counts.size}:".encode())
        hasher.update(counts)
        flat = hashes.slice(index, 1).flatten()
        hasher.update(flat.buffers()[1][16 * flat.offset : 16 * (flat.offset + len(flat))])
    return {name: hasher.hexdigest() for name, hasher in hashers.items()}


class _Tee:
    """A sink that counts bytes and hashes what has passed since the last reset, from byte `hash_from` on."""

    def __init__(self, sink: Any, hash_from: int) -> None:
        self.sink = sink
        self.hash_from = hash_from
        self.position = 0
        self.hasher = xxhash.xxh3_128()
        self.closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.sink.write(view)
        self.hasher.update(view[max(0, self.hash_from - self.position) :])
        self.position += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        self.sink.flush()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
