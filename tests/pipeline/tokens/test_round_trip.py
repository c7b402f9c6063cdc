"""Decoding again: what is asked of which tokenizer, and that a changed token is found."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from tokenmill.pipeline.tokens import round_trip
from tokenmill.pipeline.tokens.encode import EncodedBatch, Encoder, TokenizerPolicy
from tokenmill.pipeline.tokens.round_trip import PROBES, Decoder, Kept, PartRoundTrip
from tokenmill.pipeline.tokens.train import train_tokenizer

BYTE_LEVEL = train_tokenizer(
    [*PROBES, "the quick brown fox jumps over the lazy dog " * 9], 320, ["<|eos|>", "<|mask|>"]
)
BYTES = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
POLICY = TokenizerPolicy(None, "<|eos|>", None, "<|mask|>")
PLAIN = TokenizerPolicy(None, None, None, None, append_eos=False)


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    """The byte-level tokenizer with something of it changed."""
    value = json.loads(BYTE_LEVEL)
    change(value)
    return json.dumps(value).encode()


def word_piece() -> bytes:
    vocab = {"[UNK]": 0, "the": 1, "fox": 2, "##es": 3, "dog": 4}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer.to_str().encode()


def sentence_piece() -> bytes:
    """BPE with byte fallback, as Llama 2 and Gemma have it."""
    vocab = {
        "<unk>": 0,
        **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)},
        "▁": 257,
        "t": 258,
        "h": 259,
        "▁t": 260,
    }
    tokenizer = Tokenizer(models.BPE(vocab, [("▁", "t")], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer.to_str().encode()


TOKENIZERS = {
    "byte level": (BYTE_LEVEL, POLICY, Kept.EXACT),
    "NFC": (changed(lambda value: value.update(normalizer={"type": "NFC"})), POLICY, Kept.EXACT),
    "lower case": (changed(lambda value: value.update(normalizer={"type": "Lowercase"})), POLICY, Kept.EXACT),
    "prefix": (
        changed(lambda value: value.update(pre_tokenizer={**BYTES, "add_prefix_space": True})),
        POLICY,
        Kept.BUT_FIRST_SPACE,
    ),
    "byte fallback": (sentence_piece(), PLAIN, Kept.EXACT),
    "WordPiece": (word_piece(), PLAIN, Kept.LOSSY),
}


@pytest.mark.parametrize(("tokenizer", "policy", "kept"), TOKENIZERS.values(), ids=TOKENIZERS)
def test_what_is_asked_of_a_tokenizer(tokenizer: bytes, policy: TokenizerPolicy, kept: Kept):
    assert Decoder(tokenizer, Encoder(tokenizer, policy)).kept is kept


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.text(max_size=40), min_size=1, max_size=8),
    st.sampled_from(["byte level", "NFC", "lower case", "prefix"]),
)
def test_any_text_comes_back(texts: list[str], name: str):
    decoder, _, encoded = encoded_texts(texts, name)
    for i, text in enumerate(texts):
        assert decoder.difference(text, encoded.tokens[encoded.offsets[i] : encoded.offsets[i + 1]].tolist()) is None


@cache
def opened(name: str) -> tuple[Encoder, Decoder]:
    tokenizer, policy, _ = TOKENIZERS[name]
    encoder = Encoder(tokenizer, policy)
    return encoder, Decoder(tokenizer, encoder)


def encoded_texts(texts: list[str], name: str = "byte level") -> tuple[Decoder, pa.LargeStringArray, EncodedBatch]:
    array = pa.array(texts, pa.large_string())
    encoder, decoder = opened(name)
    return decoder, array, encoder.encode(array)


def test_a_changed_token_names_the_document_and_the_first_difference():
    texts = ["the fox", "the quick brown fox <|eos|>", "dog"]
    decoder, array, encoded = encoded_texts(texts)
    rows = np.array([4, 7, 9], np.int32)
    PartRoundTrip(decoder, "00ff").check(rows, array, encoded)
    at = int(encoded.offsets[1]) + 1
    encoded.tokens[at] = encoded.tokens[0] if encoded.tokens[at] != encoded.tokens[0] else encoded.tokens[1]
    checked = PartRoundTrip(decoder, "00ff")
    checked.documents = 1  # the part's first was looked at; row 7 is in the sample only if its hash says so
    row = next(row for row in range(10_000) if in_sample("00ff", row))
    with pytest.raises(
        ValueError, match=rf"document 00ff:{row} does not come back from its \d+ tokens, from character"
    ) as e:
        checked.check(np.array([0, row, 0], np.int32), array, encoded)
    assert "expected 'the quick brown" in str(e.value)
    assert ", found '" in str(e.value)


def in_sample(part: str, row: int) -> bool:
    decoder, array, encoded = encoded_texts(["x"])
    checked = PartRoundTrip(decoder, part)
    checked.documents = 1
    checked.check(np.array([row], np.int32), array, encoded)
    return checked.documents == 2


def test_the_sample_is_one_in_256_by_identity_and_the_first_of_a_part():
    decoder, array, encoded = encoded_texts(["x"] * 20_000)
    rows = np.arange(20_000, dtype=np.int32)
    whole = PartRoundTrip(decoder, "a")
    whole.check(rows, array, encoded)
    assert 50 < whole.documents < 110  # 78 expected
    cut = EncodedBatch(encoded.tokens[:2000], encoded.offsets[:1001])
    in_pieces = PartRoundTrip(decoder, "a")
    for start in range(0, 20_000, 1000):
        in_pieces.check(rows[start : start + 1000], array[start : start + 1000], cut)
    assert in_pieces.documents == whole.documents
    small = PartRoundTrip(decoder, "b")
    small.check(np.array([3], np.int32), array[:1], cut)
    assert small.documents == 1


def test_the_sample_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(round_trip, "ONE_IN", 1)
    monkeypatch.setattr(round_trip, "MOST_TEXT_BYTES", 10)
    monkeypatch.setattr(round_trip, "MOST_PART_BYTES", 30)
    decoder, array, encoded = encoded_texts(["y" * 11, *["x" * 10] * 9])
    checked = PartRoundTrip(decoder, "a")
    checked.check(np.arange(10, dtype=np.int32), array, encoded)
    assert checked.documents == 3


def test_a_lossy_tokenizer_is_counted_and_fails_nothing():
    decoder, array, encoded = encoded_texts(["the Foxes", "the  dog, a Quokka"], "WordPiece")
    checked = PartRoundTrip(decoder, "a")
    checked.check(np.array([1], np.int32), array[:1], EncodedBatch(encoded.tokens, encoded.offsets[:2]))
    assert (checked.documents, checked.differing) == (1, 0)  # lower case is the normaliser's
    lost = PartRoundTrip(decoder, "a")
    second = EncodedBatch(encoded.tokens[encoded.offsets[1] :], encoded.offsets[1:] - encoded.offsets[1])
    lost.check(np.array([1], np.int32), array[1:], second)
    assert (lost.documents, lost.differing) == (1, 1)
