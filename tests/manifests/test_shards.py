"""Sequence shards: an ordinary Arrow file whose batches can be fetched and checked one by one."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokenmill.manifests.schemas import SHARDS
from tokenmill.manifests.shards import (
    CorruptShardError,
    SequenceFormat,
    check_batch,
    decode_batch,
    decode_columns,
    read_schema,
    rows_per_batch,
    shard_table,
    token_dtype,
    write_batches,
)

FORMAT = SequenceFormat(
    16, 1000, "hash", {"bos": -1, "eos": 0, "pad": -1, "mask": 1}, "best_fit/1", "train", "web-g0", ("a", "b")
)


def batch(rows: int, seed: int = 0) -> pa.RecordBatch:
    tokens = pa.array(np.random.default_rng(seed).integers(2, 1000, 16 * rows), pa.uint16())
    columns = [pa.FixedSizeListArray.from_arrays(tokens, type=FORMAT.schema.field("tokens").type)]
    for values in ([10, 6], [0, 1], [3, 4], [0, 5]):
        columns.append(pa.array([values] * rows, FORMAT.schema.field("document_lengths").type))
    columns.append(pa.array([16] * rows, pa.int32()))
    return pa.RecordBatch.from_arrays(columns, schema=FORMAT.schema)


@pytest.fixture
def shard() -> tuple[bytes, dict, list[pa.RecordBatch]]:
    batches = [batch(4, 1), batch(4, 2), batch(2, 3)]
    sink = io.BytesIO()
    return (lambda inside: (sink.getvalue(), inside, batches))(write_batches(sink, FORMAT.schema, batches))


def test_it_is_an_ordinary_arrow_file(shard: tuple[bytes, dict, list[pa.RecordBatch]]):
    data, inside, batches = shard
    file = pa.ipc.open_file(pa.py_buffer(data))
    assert [file.get_batch(index) for index in range(file.num_record_batches)] == batches
    assert SequenceFormat.of(file.schema) == FORMAT
    assert (inside["rows"], inside["tokens"], inside["documents"]) == (10, 160, 10)


def test_each_batch_can_be_fetched_checked_and_decoded_alone(shard: tuple[bytes, dict, list[pa.RecordBatch]]):
    data, inside, batches = shard
    schema = read_schema(data[: inside["schema_bytes"]])
    places = zip(inside["batch_offsets"], inside["batch_lengths"], inside["batch_hashes"], strict=True)
    for index, (offset, length, digest) in enumerate(places):
        message = data[offset : offset + length]
        check_batch(message, digest, shard="x", batch=index)
        assert decode_batch(message, schema) == batches[index]
        some = decode_columns(data[: inside["schema_bytes"]], message, ["valid", "document_rows"])
        assert some == batches[index].select(["document_rows", "valid"])
        assert inside["batch_rows"][index] == batches[index].num_rows


def test_every_flipped_bit_of_a_batch_is_seen(shard: tuple[bytes, dict, list[pa.RecordBatch]]):
    data, inside, _ = shard
    offset, length = inside["batch_offsets"][1], inside["batch_lengths"][1]
    message = bytearray(data[offset : offset + length])
    for place in range(0, length * 8, 37):
        message[place // 8] ^= 1 << place % 8
        with pytest.raises(CorruptShardError, match="record batch 1 of shard web is corrupt"):
            check_batch(message, inside["batch_hashes"][1], shard="web", batch=1)
        message[place // 8] ^= 1 << place % 8


def test_the_batches_lie_end_to_end(shard: tuple[bytes, dict, list[pa.RecordBatch]]):
    _, inside, _ = shard
    ends = [offset + length for offset, length in zip(inside["batch_offsets"], inside["batch_lengths"], strict=True)]
    assert inside["batch_offsets"] == [inside["schema_bytes"], *ends[:-1]]


def test_other_files_and_formats_are_refused():
    with pytest.raises(CorruptShardError, match="no `tokenmill` metadata"):
        SequenceFormat.of(pa.schema([]))
    with pytest.raises(CorruptShardError, match=r"'tokenmill-sequences/9' is not 'tokenmill-sequences/1'"):
        SequenceFormat.of(FORMAT.schema.with_metadata({"tokenmill": '{"format": "tokenmill-sequences/9"}'}))


def test_sizes_and_types():
    assert rows_per_batch(8192) == 64
    assert rows_per_batch(1 << 30) == 1
    assert token_dtype(1 << 16) == pa.uint16()
    assert token_dtype((1 << 16) + 1) == pa.uint32()


def test_the_shard_table_is_sorted(shard: tuple[bytes, dict, list[pa.RecordBatch]]):
    rows = [
        {"component": c, "unit": "u", "path": f"{c}.arrow", "hash": "h", "bytes": 1, **shard[1]} for c in ("b/t", "a/t")
    ]
    table = shard_table(rows)
    assert table.schema == SHARDS
    assert table.column("component").to_pylist() == ["a/t", "b/t"]


def test_the_shard_table_stays_small():
    """< 1 KB a shard and 40 bytes a record batch, as it is written."""

    def size(batches: int) -> int:
        rng, rows = np.random.default_rng(1), []
        for index in range(50):
            lengths = rng.integers(600_000, 700_000, batches)
            inside = {
                **{"schema_bytes": 1000, "rows": 128 * batches, "tokens": 1 << 19, "documents": 900 * batches},
                **{"batch_offsets": (1000 + np.cumsum(lengths) - lengths).tolist(), "batch_lengths": lengths.tolist()},
                **{"batch_rows": [128] * batches, "batch_hashes": [rng.bytes(16) for _ in range(batches)]},
            }
            unit = f"web-g0-{index:06b}"
            path = f"sequences/web/train/{unit}.{rng.bytes(10).hex()}-00000.arrow"
            named = {"component": "web/train", "unit": unit, "path": path, "hash": rng.bytes(16).hex()}
            rows.append({**named, "bytes": int(lengths.sum()), **inside})
        sink = pa.BufferOutputStream()
        pq.write_table(shard_table(rows), sink, compression="zstd", compression_level=3, use_dictionary=False)
        return sink.getvalue().size

    # what *publish* names of a record batch beside it, the tasks table, has none of these columns: see BATCH_COLUMNS
    assert size(0) < 50 * 1000
    assert size(200) - size(0) < 50 * 200 * 40
