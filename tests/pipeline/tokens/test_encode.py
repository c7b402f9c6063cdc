import gzip
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from tokenmill.pipeline.tokens import encode
from tokenmill.pipeline.tokens.encode import EncodedBatch, Encoder, TokenizerPolicy, join
from tokenmill.pipeline.tokens.train import train_tokenizer

SPECIAL = ["<|bos|>", "<|endoftext|>", "<|pad|>", "<|mask|>"]
BOTH_ENDS = TokenizerPolicy("<|bos|>", "<|endoftext|>", "<|pad|>", "<|mask|>", prepend_bos=True)
BARE = TokenizerPolicy(None, None, None, None, append_eos=False)
TEXTS = [
    "The mask of the endoftext: 12345 words.",
    "def f(x):\n    return x  # naïve 数学 ok",
    "<tool_call> a mask </s>",
]


def large(texts: list[str | None]) -> pa.LargeStringArray:
    return pa.array(texts, type=pa.large_string())


def added(content: str, token_id: int, *, special: bool = False, normalized: bool = False) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"id": token_id, "content": content, **flags, "normalized": normalized, "special": special}


@cache
def byte_level() -> bytes:
    """Byte-level BPE with all kinds of added tokens, and holes before and between the last ones."""
    value = json.loads(train_tokenizer(TEXTS * 3, 400, SPECIAL))
    value["added_tokens"] += [
        added("<tool_call>", 500),
        added("<think>", 501, normalized=True),
        added("<|im_end|>", 502, special=True, normalized=True),
        added("    ", 510),
        added("\n\n", 511, normalized=True),
    ]
    return json.dumps(value).encode()


def documents(batch: EncodedBatch) -> list[list[int]]:
    return [part.tolist() for part in np.split(batch.tokens, batch.offsets[1:-1])] if len(batch.offsets) > 1 else []


def plain(tokenizer_json: bytes) -> Tokenizer:
    return Tokenizer.from_str(tokenizer_json.decode())


def without_added(tokenizer_json: bytes) -> Tokenizer:
    return plain(json.dumps(json.loads(tokenizer_json) | {"added_tokens": []}).encode())


def test_same_ids_as_tokenizers_between_bos_and_eos():
    encoder = Encoder(byte_level(), BOTH_ENDS)
    batch = encoder.encode(large(TEXTS))
    oracle = without_added(byte_level())
    # The four spaces of the second text are an added token that is ordinary text.
    before, after = (oracle.encode(part).ids for part in TEXTS[1].split("    "))
    expected = [oracle.encode(TEXTS[0]).ids, [*before, 510, *after], oracle.encode(TEXTS[2]).ids]
    assert documents(batch) == [[0, *ids, 1] for ids in expected]
    assert batch.tokens.dtype == np.uint16
    assert batch.offsets.dtype == np.int64


def test_attributes():
    encoder = Encoder(byte_level(), BOTH_ENDS)
    assert encoder.vocab_size == 512  # the largest id is 511, though ids 400 to 499 are unused
    assert encoder.special_ids == {"bos": 0, "eos": 1, "pad": 2, "mask": 3}
    assert encoder.control_ids.tolist() == [0, 1, 2, 3, 500, 501, 502]
    assert encoder.hash == xxhash.xxh3_128_hexdigest(byte_level())
    assert Encoder(byte_level(), BARE).special_ids == {"bos": -1, "eos": -1, "pad": -1, "mask": -1}
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_who_encodes_is_said_and_the_cache_is_as_large_as_asked():
    made = Encoder(byte_level(), BARE, cache_bytes=100_000)
    assert (made.slow_because, made.encoded_by) == (None, "our kernels")
    assert sum(part.nbytes for part in made._fast._cache) <= 100_000
    assert documents(made.encode(large(TEXTS))) == documents(Encoder(byte_level(), BARE).encode(large(TEXTS)))
    value = json.loads(byte_level()) | {"normalizer": {"type": "NFKC"}}
    assert Encoder(json.dumps(value).encode(), BARE).encoded_by == "tokenizers, because its normalizer is NFKC"


def test_ids_of_65536_and_more_are_uint32():
    value = json.loads(byte_level())
    value["added_tokens"].append(added("\t\t", 65_536))
    encoder = Encoder(json.dumps(value).encode(), BARE)
    batch = encoder.encode(large(["\t\t"]))
    assert (encoder.vocab_size, encoder.dtype, batch.tokens.dtype) == (65_537, pa.uint32(), np.uint32)
    assert documents(batch) == [[65_536]]


def test_null_has_no_token_and_empty_only_bos_and_eos():
    batch = Encoder(byte_level(), BOTH_ENDS).encode(large([None, "", None]))
    assert batch.tokens.tolist() == [0, 1]
    assert batch.offsets.tolist() == [0, 0, 2, 2]
    assert documents(Encoder(byte_level(), BARE).encode(large([]))) == []


def test_policy_ends():
    text = large(["a"])
    inner = documents(Encoder(byte_level(), BARE).encode(text))[0]
    eos_only = TokenizerPolicy(None, "<|endoftext|>", None, "<|mask|>")
    same = TokenizerPolicy("<|endoftext|>", "<|endoftext|>", None, None, prepend_bos=True)
    assert documents(Encoder(byte_level(), eos_only).encode(text)) == [[*inner, 1]]
    assert documents(Encoder(byte_level(), same).encode(text)) == [[1, *inner, 1]]


def test_calls_bounded_by_bytes_change_nothing(monkeypatch: pytest.MonkeyPatch):
    texts = large(["skipped", *TEXTS, None, "", "x" * 100, *TEXTS]).slice(1)
    encoder = Encoder(byte_level(), BOTH_ENDS)
    whole = encoder.encode(texts)
    monkeypatch.setattr(encode, "_SLOW_CALL_BYTES", 50)
    monkeypatch.setattr(encode, "_FAST_CALL_BYTES", 50)
    assert list(encode._calls(texts, 50)) == [(0, 1), (1, 2), (2, 5), (5, 6), (6, 7), (7, 8), (8, 9)]
    split = encoder.encode(texts)
    assert documents(split) == documents(whole)


def test_join():
    encoder = Encoder(byte_level(), BOTH_ENDS)
    parts = [encoder.encode(large(texts)) for texts in (TEXTS, [], [None, "b"])]
    assert documents(join(parts)) == documents(encoder.encode(large([*TEXTS, None, "b"])))


def test_tokenizers_own_switch_is_not_enough():
    """Why control tokens are hidden: the day this fails, `encode_special_tokens` may do."""
    tokenizer = plain(byte_level())
    tokenizer.encode_special_tokens = True
    assert tokenizer.token_to_id("<tool_call>") in tokenizer.encode("<tool_call>").ids
    assert tokenizer.token_to_id("<tool_call>") != 500  # and ids after a hole are counted, not read


@pytest.mark.parametrize("token", [*SPECIAL, "<tool_call>", "<think>", "<|im_end|>"])
def test_added_token_in_text_is_plain_text(token: str):
    encoder = Encoder(byte_level(), BOTH_ENDS)
    texts = [token, f"see {token} here", token * 3, f"{token[0]}{token}{token[-1]}", f" {token}\n"]
    found = [ids[1:-1] for ids in documents(encoder.encode(large(texts)))]
    assert {i for ids in found for i in ids}.isdisjoint(encoder.control_ids.tolist())
    assert [plain(byte_level()).decode(ids, skip_special_tokens=False) for ids in found] == texts


PIECES = [*SPECIAL, "<tool_call>", "<think>", "<|im_end|>", "    ", "\n\n", "\U0010ffff"]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8))).map("".join))))
def test_no_text_gives_a_control_id_and_every_text_comes_back(texts: list[str | None]):
    encoder = Encoder(byte_level(), BOTH_ENDS)
    found = documents(encoder.encode(large(texts)))
    decoder = plain(byte_level())
    ordinary = {510: "    ", 511: "\n\n"}  # ids that `tokenizers` counts otherwise
    for text, ids in zip(texts, found, strict=True):
        if text is None:
            assert ids == []
            continue
        assert (ids[0], ids[-1]) == (0, 1)
        inner = [
            i for token in ids[1:-1] for i in (without_ids(decoder, ordinary[token]) if token in ordinary else [token])
        ]
        assert not set(ids[1:-1]) & set(encoder.control_ids.tolist())
        assert decoder.decode(inner, skip_special_tokens=False) == text


def without_ids(decoder: Tokenizer, text: str) -> list[int]:
    """Ids that spell `text` byte by byte."""
    return [decoder.token_to_id({" ": "Ġ", "\n": "Ċ"}[character]) for character in text]


def bpe_that_spells_its_mask(*, ignore_merges: bool) -> bytes:
    vocab = {piece: i for i, piece in enumerate(["M", "A", "S", "K", "MA", "SK", "MASK", "MASKS", "</s>", "x"])}
    merges = [("M", "A"), ("S", "K"), ("MA", "SK"), ("MASK", "S")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    tokenizer.add_special_tokens(["MASK", "</s>"])
    return tokenizer.to_str().encode()


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_bpe_whose_merges_make_a_control_token(ignore_merges: bool):
    tokenizer_json = bpe_that_spells_its_mask(ignore_merges=ignore_merges)
    policy = TokenizerPolicy(None, "</s>", None, "MASK")
    assert documents(Encoder(tokenizer_json, policy).encode(large(["xMASK", "MASK"]))) == [[9, 4, 5, 8], [4, 5, 8]]


def test_merges_written_as_strings():
    value = json.loads(bpe_that_spells_its_mask(ignore_merges=False))
    value["model"]["merges"] = [" ".join(merge) for merge in value["model"]["merges"]]
    encoder = Encoder(json.dumps(value).encode(), TokenizerPolicy(None, "</s>", None, "MASK"))
    assert documents(encoder.encode(large(["MASK"]))) == [[4, 5, 8]]


def test_unigram_word_level_and_word_piece_do_not_find_control_tokens():
    unigram = Tokenizer(
        models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("a", -1.0), ("<", -2.0), ("s", -2.0)], unk_id=0)
    )
    unigram.add_special_tokens(["<unk>", "</s>"])
    words = {"[UNK]": 0, "</s>": 1, "a": 2, "[MASK]": 3}
    level = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    piece = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    for tokenizer in (level, piece):
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.add_special_tokens(["</s>", "[UNK]"])
    for tokenizer, inner in ((unigram, [2, 3, 0, 4, 0, 2]), (level, [2, 0, 2]), (piece, [2, 0, 2])):
        gap = "" if tokenizer is unigram else " "
        tokenizer.encode_special_tokens = True
        text = f"a{gap}</s>{gap}a"
        assert 1 in tokenizer.encode(text).ids  # the switch alone lets it through
        encoder = Encoder(tokenizer.to_str().encode(), TokenizerPolicy(None, "</s>", None, None))
        assert encoder.control_ids.tolist() == [1]  # the unknown token stays possible
        assert documents(encoder.encode(large([text]))) == [[*inner, 1]]


def test_truncation_padding_dropout_and_templates_are_off():
    value = json.loads(byte_level())
    value["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    value["padding"] = {
        "strategy": {"Fixed": 64},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 2,
        "pad_type_id": 0,
        "pad_token": "<|pad|>",
    }
    value["model"]["dropout"] = 0.9
    found = Encoder(json.dumps(value).encode(), BOTH_ENDS).encode(large(TEXTS))
    assert documents(found) == documents(Encoder(byte_level(), BOTH_ENDS).encode(large(TEXTS)))


def test_a_control_id_from_text_stops_the_batch_and_names_the_document():
    encoder = Encoder(byte_level(), BOTH_ENDS)
    x = documents(Encoder(byte_level(), BARE).encode(large(["x"])))[0][0]
    encoder._is_control[x] = True
    with pytest.raises(ValueError, match=rf"text 2 of the batch produced control id {x} at its token 2"):
        encoder.encode(large([None, "a", "ax"]))


def test_ends_that_break_the_policy_stop_the_batch():
    encoder = Encoder(byte_level(), BOTH_ENDS)
    texts = large(["ab", None, "c"])
    whole = encoder.encode(texts)
    for place, message in (
        (0, "token 0, due at"),
        (len(whole.tokens) - 1, "token 1, due at"),
        (1, "produced control id 3"),
    ):
        tokens = whole.tokens.copy()
        tokens[place] = 3
        with pytest.raises(ValueError, match=message):
            encoder._check(EncodedBatch(tokens, whole.offsets), texts)


@pytest.mark.real_data
def test_real_pages_as_they_are_served(real_data: Path):
    """2 MB of raw records: markup, scripts, some 40 languages, bytes that are no UTF-8."""
    with gzip.open(real_data / "crawl" / "crawl-00000.warc.gz") as file:
        raw = file.read(2 << 20).decode(errors="replace")
    texts = re.split(r"(?=WARC/1\.)", raw)
    texts = [text[:500] + token + text[500:] for text, token in zip(texts, SPECIAL * len(texts), strict=False)]
    tokenizer_json = train_tokenizer(texts[:10], 8000, SPECIAL)
    encoder, oracle = Encoder(tokenizer_json, BOTH_ENDS), without_added(tokenizer_json)
    found = [ids[1:-1] for ids in documents(encoder.encode(large(texts)))]
    assert len(texts) > 10
    assert found == [encoding.ids for encoding in oracle.encode_batch(texts)]
    assert oracle.decode_batch(found) == texts


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "0 bytes that are no JSON"),
        (b"\x0a\x0e\x0a\x05<unk>\x15", "no JSON"),
        (b"IQ== 0\nIg== 1\n", "no JSON"),
        (b"\xff\xfe{", "no JSON"),
        (b"[1]", "a JSON list"),
        (b"{}", "its keys: none"),
        (b'{"hello": 0, "world": 1}', "its keys: 'hello', 'world'"),
        (b'{"model": {"type": "BPE", "vocab": {}}}', "without a model and its vocabulary"),
        (b'{"model": {"type": "BPE", "vocab": {"a": "b"}}}', "token 'a' has id 'b'"),
        (b'{"model": {"type": "Unigram", "vocab": [1]}}', "malformed"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}}, "added_tokens": [{"id": 1}]}', "malformed: KeyError"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}', "cannot be read by `tokenizers`"),
    ],
)
def test_what_is_no_tokenizer_json_is_refused_with_what_was_found(data: bytes, found: str):
    with pytest.raises(ValueError, match=found):
        Encoder(data, BARE)


def test_a_policy_that_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"names eos '<\|endofteks\|>'.*nearest added tokens: '<\|endoftext\|>'"):
        Encoder(byte_level(), TokenizerPolicy(None, "<|endofteks|>", None, None))
    with pytest.raises(ValueError, match="prepend_bos is on, but the tokenizer policy names no bos"):
        TokenizerPolicy(None, "e", None, None, prepend_bos=True)
    with pytest.raises(ValueError, match="append_eos is on, but the tokenizer policy names no eos"):
        TokenizerPolicy("b", None, None, None)
    with pytest.raises(ValueError, match="mask 'e' is also bos, eos or pad"):
        TokenizerPolicy(None, "e", None, "e")
    with pytest.raises(ValueError, match="'!' cannot be a control token: the model needs it to spell text"):
        Encoder(byte_level(), TokenizerPolicy(None, "<|endoftext|>", "!", None))
    unknown = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")).to_str().encode()
    with pytest.raises(ValueError, match="is the model's unknown token"):
        Encoder(unknown, TokenizerPolicy(None, None, None, "[UNK]", append_eos=False))
