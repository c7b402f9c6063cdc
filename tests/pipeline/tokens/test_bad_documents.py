"""Documents nobody wants: very long ones, one letter over and over, all longer than a row."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from tests.pipeline.corpus import prose
from tokenmill.manifests.shards import SequenceFormat
from tokenmill.pipeline.tokens.encode import EncodedBatch, Encoder, TokenizerPolicy
from tokenmill.pipeline.tokens.packing import PackingPolicy, pack
from tokenmill.pipeline.tokens.rows import fill_of, sequence_batches
from tokenmill.pipeline.tokens.train import train_tokenizer

PROSE = prose("bad documents", 400)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    tokenizer = train_tokenizer([PROSE, "a" * 4096], 400, ["<|eos|>", "<|mask|>"])
    return Encoder(tokenizer, TokenizerPolicy(None, "<|eos|>", None, "<|mask|>"))


def read_back(encoded: EncodedBatch, encoder: Encoder, length: int, policy: PackingPolicy) -> list[np.ndarray]:
    """Every document's tokens out of the rows that they were packed into, their pieces put together by `starts`."""
    ids = encoder.special_ids
    form = SequenceFormat(length, encoder.vocab_size, "0" * 32, ids, "p", "train", "u", ("p",), policy.align)
    rows = np.arange(len(encoded.lengths), dtype=np.int32)
    packing = pack(encoded.lengths, length, 1, policy)
    batches = sequence_batches(encoded, packing, rows * 0, rows, form, fill_of(ids, encoder.policy))
    tokens = np.concatenate([batch.column("tokens").flatten().to_numpy() for batch in batches])
    row_of = np.repeat(np.arange(packing.num_rows), np.diff(packing.row_offsets))
    begin = row_of * length + packing.piece_at
    found = []
    for document in rows.tolist():
        mine = np.flatnonzero(packing.piece_document == document)
        mine = mine[np.argsort(packing.piece_start[mine])]
        found.append(np.concatenate([tokens[begin[i] : begin[i] + packing.piece_length[i]] for i in mine]))
    return found


@pytest.mark.parametrize(
    "text",
    [PROSE * (1 + (8 << 20) // len(PROSE)), "a" * (1 << 20), " " * (1 << 18), "\n" * (1 << 18), "é" * (1 << 18)],
    ids=["8 MB", "a", "spaces", "newlines", "é"],
)
@pytest.mark.parametrize("policy", [PackingPolicy(), PackingPolicy("concat", 32)])
def test_a_very_long_document_is_cut_and_comes_back(encoder: Encoder, text: str, policy: PackingPolicy):
    texts = ["A short one.", text, "Another."]
    encoded = encode_once(encoder, texts)
    found = read_back(encoded, encoder, 4096, policy)
    for tokens, (start, end) in zip(found, pairwise(encoded.offsets.tolist()), strict=True):
        assert np.array_equal(tokens, encoded.tokens[start:end])
    packing = pack(encoded.lengths, 4096, 1, policy)
    if policy.method == "best_fit":
        assert (packing.cut_documents, packing.cut_tokens) == (1, int(encoded.lengths[1]))
        assert packing.num_rows == -(-int(encoded.lengths[1]) // 4096) or len(text) < 1 << 20


_ENCODED: dict[int, EncodedBatch] = {}


def encode_once(encoder: Encoder, texts: list[str]) -> EncodedBatch:
    key = hash(texts[1])
    if key not in _ENCODED:
        _ENCODED[key] = encoder.encode(pa.array(texts, pa.large_string()))
    return _ENCODED[key]


def test_rows_shorter_than_any_document(encoder: Encoder):
    texts = [prose(f"short rows {number}", 6) for number in range(50)]
    encoded = encoder.encode(pa.array(texts, pa.large_string()))
    assert encoded.lengths.min() > 8
    for policy in (PackingPolicy(), PackingPolicy("concat"), PackingPolicy(align=4)):
        found = read_back(encoded, encoder, 8, policy)
        assert np.array_equal(np.concatenate(found), encoded.tokens)
        assert pack(encoded.lengths, 8, 1, policy).cut_documents == 50
