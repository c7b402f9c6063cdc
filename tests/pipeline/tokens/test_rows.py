import io
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.manifests import shards
from tokenmill.manifests.shards import CONCAT as CONCATENATED
from tokenmill.manifests.shards import DIALOGUE, SequenceFormat, check_batch, decode_batch, read_schema, rows_per_batch
from tokenmill.pipeline.tokens import rows as rows_module
from tokenmill.pipeline.tokens.encode import EncodedBatch, Encoder, TokenizerPolicy
from tokenmill.pipeline.tokens.packing import PackingPolicy, pack
from tokenmill.pipeline.tokens.rows import Fill, fill_of, pad_id, sequence_batches, shard_batches, shard_rows
from tokenmill.pipeline.tokens.train import train_tokenizer

PARTS = ("part-a", "part-b", "part-c")
CONCAT = PackingPolicy("concat")
FILL = Fill(2)


def format_of(length: int, vocab_size: int = 1000, align: int = 1, **special: int) -> SequenceFormat:
    ids = {"bos": -1, "eos": 1, "pad": 2, "mask": 3} | special
    return SequenceFormat(length, vocab_size, "0" * 32, ids, "best_fit/1", "train", "unit", PARTS, align)


def encoded_of(lengths: list[int], dtype: Any = np.uint16) -> EncodedBatch:
    """Documents whose tokens are all different, as far as the type goes."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return EncodedBatch((np.arange(offsets[-1]) % 60_000 + 4).astype(dtype), offsets)


def places(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents dealt out to three parts, with gaps between their rows."""
    index = np.arange(count)
    return (index % 3).astype(np.int32), (index // 3 * 5).astype(np.int32)


def documents_of(
    batches: list[pa.RecordBatch], length: int, pad: int, align: int = 1
) -> dict[tuple[int, int], list[int]]:
    """Every document's tokens by (part, row), put together from its pieces; padding is checked on the way."""
    pieces: dict[tuple[int, int], list[tuple[int, list[int]]]] = {}
    for row in (row for batch in batches for row in batch.to_pylist()):
        assert len(row["tokens"]) == length
        assert row["valid"] == sum(row["document_lengths"])
        at = 0
        columns = [row[f"document_{name}"] for name in ("parts", "rows", "starts", "lengths")]
        for part, number, start, size in zip(*columns, strict=True):
            while at % align:
                assert row["tokens"][at] == pad
                at += 1
            pieces.setdefault((part, number), []).append((start, row["tokens"][at : at + size]))
            at += size
        assert row["tokens"][at:] == [pad] * (length - at)
    documents = {}
    for place, found in pieces.items():
        tokens: list[int] = []
        for start, piece in sorted(found):
            assert start == len(tokens)
            tokens += piece
        documents[place] = tokens
    return documents


def expected_of(encoded: EncodedBatch, part: np.ndarray, row: np.ndarray) -> dict[tuple[int, int], list[int]]:
    found = [encoded.tokens[start:stop] for start, stop in pairwise(encoded.offsets)]
    return {(int(p), int(r)): t.tolist() for p, r, t in zip(part, row, found, strict=True) if len(t)}


@pytest.mark.parametrize("policy", [PackingPolicy(), CONCAT])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_text_to_shard_and_back(policy: PackingPolicy, dtype: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "TOKENS_PER_BATCH", 256)
    texts = [
        None if i % 17 == 0 else f"Document {i} says <|mask|>: " + "many words, " * (i * i % 40) for i in range(120)
    ]
    tokenizer = train_tokenizer([text or "" for text in texts], 300, ["<|bos|>", "<|eos|>", "<|mask|>"])
    encoder = Encoder(tokenizer, TokenizerPolicy("<|bos|>", "<|eos|>", None, "<|mask|>", prepend_bos=True))
    encoded = encoder.encode(pa.array(texts, type=pa.large_string()))
    encoded = EncodedBatch(encoded.tokens.astype(dtype), encoded.offsets)
    vocab_size = encoder.vocab_size if dtype == np.uint16 else 1 << 17
    format = SequenceFormat(64, vocab_size, encoder.hash, encoder.special_ids, policy.name, "train", "unit-0", PARTS)
    packing = pack(encoded.lengths, 64, 9, policy)
    part, row = places(len(texts))
    fill = fill_of(encoder.special_ids, encoder.policy)
    sink = io.BytesIO()
    noted = shards.write_batches(sink, format.schema, sequence_batches(encoded, packing, part, row, format, fill))
    data = sink.getvalue()

    expected = expected_of(encoded, part, row)
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        assert SequenceFormat.of(reader.schema) == format
        whole = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    assert documents_of(whole, 64, fill.pad) == expected
    assert [batch.num_rows for batch in whole] == noted["batch_rows"]
    assert noted["batch_rows"][:-1] == [4] * (len(whole) - 1)

    schema = read_schema(data[: noted["schema_bytes"]])
    one_by_one = []
    for i, (offset, size) in enumerate(zip(noted["batch_offsets"], noted["batch_lengths"], strict=True)):
        message = data[offset : offset + size]
        check_batch(message, noted["batch_hashes"][i], shard="s", batch=i)
        one_by_one.append(decode_batch(message, schema))
    assert documents_of(one_by_one, 64, fill.pad) == expected
    for batch in one_by_one:
        batch.validate(full=True)
        assert encoder.special_ids["mask"] not in batch["tokens"].flatten().to_pylist()
    assert noted["tokens"] == len(encoded.tokens)
    assert noted["documents"] == len(expected)
    assert noted["rows"] == packing.num_rows


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 20), st.sampled_from([PackingPolicy(), CONCAT]))
def test_every_document_comes_back(lengths: list[int], length: int, policy: PackingPolicy):
    encoded, (part, row) = encoded_of(lengths), places(len(lengths))
    packing = pack(encoded.lengths, length, 3, policy)
    batches = list(sequence_batches(encoded, packing, part, row, format_of(length), FILL))
    assert documents_of(batches, length, 2) == expected_of(encoded, part, row)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), max_size=40),
    st.integers(1, 6),
    st.integers(1, 8),
    st.sampled_from(["best_fit", "concat"]),
)
def test_every_document_comes_back_from_aligned_rows(lengths: list[int], blocks: int, align: int, method: str):
    encoded, (part, row) = encoded_of(lengths), places(len(lengths))
    packing = pack(encoded.lengths, blocks * align, 3, PackingPolicy(method, align))
    batches = list(sequence_batches(encoded, packing, part, row, format_of(blocks * align, align=align), FILL))
    assert documents_of(batches, blocks * align, 2, align) == expected_of(encoded, part, row)


def test_control_ids_stand_where_they_are_due_or_the_batch_is_refused():
    lengths = [7, 3, 30, 5, 9]
    clean, (part, row) = encoded_of(lengths), places(5)
    format = format_of(10, bos=0)

    def batches_of(places_of: dict[int, int], fill: Fill) -> list[pa.RecordBatch]:
        tokens = clean.tokens.copy()
        tokens[list(places_of)] = list(places_of.values())
        packing = pack(clean.lengths, 10, 3)
        return list(sequence_batches(EncodedBatch(tokens, clean.offsets), packing, part, row, format, fill))

    ends = {int(end) - 1: 1 for end in clean.offsets[1:]}
    starts = {int(start): 0 for start in clean.offsets[:-1]}
    assert batches_of({}, Fill(2))
    assert batches_of(ends, Fill(2, eos=1))
    assert batches_of(ends | starts, Fill(2, bos=0, eos=1))
    assert batches_of(ends, Fill(1, eos=1))  # padding with eos
    for wrong, fill, message in (
        ({}, Fill(2, eos=1), "stands where eos 1 is due"),
        (
            {**ends, 39: 44},
            Fill(2, eos=1),
            r"unit unit, stratum train, row \d+ of a batch: token 44 stands where eos 1",
        ),
        (ends, Fill(2, bos=0, eos=1), "stands where bos 0 is due"),
        ({**ends, 12: 1}, Fill(2, eos=1), "eos 1 stands 6 times in the rows of a record batch, 5 are due"),
        ({20: 3}, Fill(2), "mask 3 stands 1 times"),
        ({20: 2}, Fill(2), "pad 2 stands"),
        ({20: 0}, Fill(2), "bos 0 stands 1 times in the rows of a record batch, 0 are due"),
    ):
        with pytest.raises(ValueError, match=message):
            batches_of(wrong, fill)


def test_rows_of_a_batch_are_slices_of_all():
    encoded, (part, row) = encoded_of([7, 3, 30, 5, 9, 9, 1, 12]), places(8)
    packing = pack(encoded.lengths, 10, 3)
    format = format_of(10)
    whole = pa.Table.from_batches(sequence_batches(encoded, packing, part, row, format, FILL))
    some = pa.Table.from_batches(sequence_batches(encoded, packing, part, row, format, FILL, range(2, 5)))
    assert some.to_pylist() == whole.slice(2, 3).to_pylist()
    assert list(sequence_batches(encoded, packing, part, row, format, FILL, range(0))) == []


def test_shards_cover_all_rows_in_whole_batches_of_even_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "TOKENS_PER_BATCH", 40)
    monkeypatch.setattr(rows_module, "SHARD_TOKENS", 120)
    assert shard_rows(0, 10) == []
    assert shard_rows(1, 10) == [range(0, 1)]
    assert shard_rows(23, 10) == [range(0, 23)]  # 230 tokens: not yet two shards' worth
    assert shard_rows(24, 10) == [range(0, 12), range(12, 24)]
    assert shard_rows(39, 10) == [range(0, 12), range(12, 24), range(24, 39)]
    assert shard_rows(3, 1000) == [range(0, 1), range(1, 2), range(2, 3)]  # a row longer than a shard
    for count in range(200):
        found = shard_rows(count, 10)
        assert [row for rows in found for row in rows] == list(range(count))
        assert all(rows.start % 4 == 0 for rows in found)

    encoded, (part, row) = encoded_of([7] * 50), places(50)
    packing = pack(encoded.lengths, 10, 3)
    arguments = (encoded, packing, part, row, format_of(10), FILL)
    per_shard = [list(batches) for batches in reversed(shard_batches(*arguments))][::-1]
    assert [sum(batch.num_rows for batch in batches) for batches in per_shard] == [12, 12, 12, 14]
    flat = pa.Table.from_batches([batch for batches in per_shard for batch in batches])
    assert flat.equals(pa.Table.from_batches(sequence_batches(*arguments)))


@pytest.mark.parametrize("length", [1024, 4096, 8192, 131_072])
def test_shard_size(length: int):
    for rows in (10_000_000_000 // length, (1 << 27) // length - 1):
        sizes = [len(shard) * length for shard in shard_rows(rows, length)]
        batch = rows_per_batch(length) * length
        assert all((1 << 26) - batch <= size <= (1 << 27) + batch for size in sizes)


def test_pad_id():
    assert pad_id({"bos": 5, "eos": 1, "pad": 0, "mask": 3}) == 0
    assert pad_id({"bos": 5, "eos": 1, "pad": -1, "mask": 3}) == 1
    assert pad_id({"bos": 5, "eos": -1, "pad": -1, "mask": 3}) == 0


def test_arguments_that_do_not_belong_together_are_refused_before_the_first_batch():
    encoded, (part, row) = encoded_of([4, 5]), places(2)
    packing, format = pack(encoded.lengths, 8, 1), format_of(8)
    refused = [
        (
            (encoded, packing, part, row, format_of(8, vocab_size=70_000), FILL),
            "tokens are uint16, but a vocabulary of 70000",
        ),
        ((encoded, packing, part, row, format_of(16), FILL), "rows of 8 tokens, but the format says L = 16"),
        ((encoded, packing, part[:1], row, format, FILL), "2 documents, but 1 part indices and 2 rows"),
        ((encoded_of([4, 6]), packing, part, row, format, FILL), "packing holds 9 tokens, the documents 10"),
        ((encoded, packing, part + np.int32(2), row, format, FILL), "part indices run to 3, but the format names 3"),
        ((encoded, packing, part, row, format_of(8, align=4), FILL), "packed with align 1, but the format says 4"),
        ((encoded, packing, part, row, format, Fill(3)), "pad id 3 is the mask"),
        ((encoded, packing, part, row, format, Fill(1000)), "outside the vocabulary"),
    ]
    for arguments, message in refused:
        with pytest.raises(ValueError, match=message):
            sequence_batches(*arguments)


def test_memory_is_one_batch_beyond_the_inputs():
    encoded, (part, row) = encoded_of([1000] * 8000), places(8000)
    packing = pack(encoded.lengths, 4096, 1)
    arguments = (encoded, packing, part, row, format_of(4096), FILL)
    expected = sum(batch.num_rows for batch in sequence_batches(*arguments))  # compiles, too
    tracemalloc.start()
    found = 0
    for batch in sequence_batches(*arguments):
        found += batch.num_rows
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == expected == packing.num_rows
    assert peak < 3 * 2 * shards.TOKENS_PER_BATCH  # the last one and the next; all of them would be 16 MB


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), max_size=20), min_size=1, max_size=30),
    st.sampled_from(["best_fit", "concat", "one_a_row"]),
    st.integers(1, 3),
)
def test_runs_say_which_tokens_are_answers(marks: list[list[bool]], method: Any, per_batch: int):
    """Run lengths, spelled out over a row's pieces, are the marks of the documents' tokens."""
    length = 20
    clean = encoded_of([len(some) for some in marks])
    answers = np.array([mark for some in marks for mark in some], np.bool_)
    encoded = EncodedBatch(clean.tokens, clean.offsets, answers=answers)
    packing = pack(encoded.lengths, length, 5, PackingPolicy(method))
    layout = DIALOGUE if method == "one_a_row" else CONCATENATED
    format = SequenceFormat(length, 70_000, "0" * 32, format_of(length).special_ids, "x/1", "s", "u", PARTS, 1, layout)
    encoded = EncodedBatch(encoded.tokens.astype(np.uint32), encoded.offsets, answers=answers)
    part, row = places(len(marks))
    found: dict[tuple[int, int], dict[int, bool]] = {}
    for batch in sequence_batches(encoded, packing, part, row, format, FILL):
        for stored in batch.to_pylist():
            told = [bool(i % 2) for i, run in enumerate(stored["maskable"]) for _ in range(run)]
            assert len(told) == stored["valid"]
            assert method != "one_a_row" or len(stored["document_lengths"]) == 1
            columns = [stored[f"document_{name}"] for name in ("parts", "rows", "starts", "lengths")]
            for index, number, start, size in zip(*columns, strict=True):
                mine, told = told[:size], told[size:]
                found.setdefault((index, number), {}).update(enumerate(mine, start))
    expected = {(int(part[i]), int(row[i])): dict(enumerate(some)) for i, some in enumerate(marks) if some}
    assert found == expected


def test_answers_and_layout_go_together():
    encoded = encoded_of([5])
    packing = pack(encoded.lengths, 8, 5)
    marked = EncodedBatch(encoded.tokens, encoded.offsets, answers=np.ones(5, np.bool_))
    format = format_of(8)
    with pytest.raises(ValueError, match="say which tokens are answers, and rows are laid out as 'pretraining'"):
        sequence_batches(marked, packing, *places(1), format, FILL)
    with pytest.raises(ValueError, match="do not say which tokens are answers"):
        sequence_batches(encoded, packing, *places(1), replace(format, layout=CONCATENATED), FILL)
    tokens = encoded.tokens.copy()
    tokens[2] = 3
    marked = EncodedBatch(tokens, encoded.offsets, answers=marked.answers)
    with pytest.raises(ValueError, match="mask 3 stands there; the template prints it"):
        list(sequence_batches(marked, packing, *places(1), replace(format, layout=CONCATENATED), FILL))


def test_a_document_longer_than_its_own_row_is_refused():
    with pytest.raises(ValueError, match="document 1 has 9 tokens, a row 8: leave it out"):
        pack(np.array([3, 9]), 8, 5, PackingPolicy("one_a_row"))
