import gzip
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.tokens.sentence_tokenizers import FORMS, REPLACE, TEXTS, added, metaspace, sentence_pieces_json
from tokenmill.pipeline.tokens.added_pieces import Unknown
from tokenmill.pipeline.tokens.probes import PROBES, strings
from tokenmill.pipeline.tokens.sentence_pieces import read
from tokenmill.pipeline.tokens.sentence_pieces_encoder import SentencePiecesEncoder
from tokenmill.pipeline.tokens.tokenizer_json import load

EDGES = [
    *(
        "",
        " ",
        "  ",
        "   ",
        "▁",
        "▁▁",
        "▁▁▁",
        " ▁",
        "▁ ",
        "\n",
        "\n\n\n\n",
        " \n ",
        "a",
        " a",
        "a ",
        "  a  ",
        "▁a",
        "a▁b",
    ),
    *("\0", "\x7f", "\t\t", "é", "\u00e9", "e\u0301", "\U0010ffff", "<0x0A>", "<unk>", "</s>", "the" * 9, "\u3000"),
]


def large(texts: list[str | None]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


@cache
def both(form: str, words: bool = True) -> tuple[Any, SentencePiecesEncoder]:
    """`tokenizers` and ours."""
    value = sentence_pieces_json(form, words=words)
    return load(value), SentencePiecesEncoder(read(value))


def ids_of(encoder: SentencePiecesEncoder, texts: list[str | None]) -> list[list[int]]:
    ids, lengths = encoder.encode(large(texts), [], [])
    assert ids.dtype == np.uint32
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


def differing(form: str, texts: list[str], words: bool = True) -> list[tuple[str, list[int], list[int]]]:
    """Texts whose ids are not those of `tokenizers`, with both."""
    theirs, ours = both(form, words)
    expected = [encoding.ids for encoding in theirs.encode_batch_fast(texts, add_special_tokens=False)]
    found = ids_of(ours, texts)
    assert len(found) == len(expected)
    return [row for row in zip(texts, found, expected, strict=True) if row[1] != row[2]]


@pytest.mark.parametrize("form", FORMS)
def test_the_ids_are_those_of_tokenizers(form: str):
    texts = [*TEXTS, *EDGES, *PROBES, *strings(1, 1000)]
    assert differing(form, texts) == []
    assert differing(form, [" ".join(texts), "".join(texts)]) == []


@pytest.mark.parametrize("form", FORMS)
def test_so_are_they_where_pieces_hold_blanks(form: str):
    assert any("▁" in piece.strip("▁") for piece in sentence_pieces_json(form, words=False)["model"]["vocab"])
    assert differing(form, [*TEXTS, *EDGES, *strings(2, 1000)], words=False) == []


CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.lists(
    st.one_of(
        st.sampled_from([*EDGES, *TEXTS, *PROBES[:100]]),
        st.text(CHARACTERS, max_size=8),
        st.text("ab \n▁-=1é日😀\u0301", max_size=20),
        st.builds(str.__mul__, CHARACTERS, st.integers(2, 40)),
        st.binary(max_size=8).map(lambda data: data.decode(errors="replace")),
    ),
    max_size=12,
).map("".join)


@settings(max_examples=300)
@given(st.sampled_from(list(FORMS)), st.booleans(), st.lists(TEXT, max_size=4))
def test_any_text(form: str, words: bool, texts: list[str]):
    assert not texts or differing(form, texts, words) == []


@pytest.mark.parametrize(
    "text", ["a" * 30_001, "=" * 127, "-" * 128, " " * 5000, "日本語の文" * 900, "éa" * 3000, "\n" * 999]
)
def test_long_texts_of_one_thing(text: str):
    for form in ("Gemma", "Llama 2", "Metaspace first"):
        assert differing(form, [text, f"{text} {text}", f" the{text}"]) == []


@pytest.mark.real_data
@pytest.mark.parametrize("form", ["Gemma", "Llama 2"])
def test_real_pages_as_they_are_served(real_data: Path, form: str):
    """2 MB of raw records: markup, scripts, some 40 languages, bytes that are no UTF-8."""
    with gzip.open(real_data / "crawl" / "crawl-00000.warc.gz") as file:
        texts = re.split(r"(?=WARC/1\.)", file.read(2 << 20).decode(errors="replace"))
    value = sentence_pieces_json(form, texts=texts[:10], vocab_size=4000)
    expected = [encoding.ids for encoding in load(value).encode_batch_fast(texts)]
    assert ids_of(SentencePiecesEncoder(read(value)), texts) == expected


def test_a_cache_too_small_for_the_text_changes_nothing():
    value = sentence_pieces_json("Gemma")
    small = SentencePiecesEncoder(read(value), cache_bytes=1)
    texts = list(strings(3, 3000))
    expected = [encoding.ids for encoding in load(value).encode_batch_fast(texts)]
    assert ids_of(small, texts) == expected
    assert ids_of(small, texts) == expected


@pytest.mark.parametrize("form", ["Gemma", "Llama 2", "Metaspace first"])
def test_ends_nulls_and_slices(form: str):
    theirs, ours = both(form)
    texts = large(["never seen", "the end", None, "", "of text"]).slice(1)
    ids, lengths = ours.encode(texts, [1], [2, 7])
    expected = [[1, *theirs.encode(text).ids, 2, 7] for text in ("the end", "", "of text")]
    assert ids.tolist() == [*expected[0], *expected[1], *expected[2]]
    assert lengths.tolist() == [len(expected[0]), 0, 3, len(expected[2])]
    for empty in (large([]), texts.slice(2, 0)):
        ids, lengths = ours.encode(empty, [1], [2])
        assert (ids.tolist(), lengths.tolist()) == ([], [])


def test_a_character_that_is_no_piece_is_spelled_in_bytes():
    value = sentence_pieces_json("bare")
    assert "é" not in value["model"]["vocab"]
    spelled = [value["model"]["vocab"][f"<0x{byte:02X}>"] for byte in "é\u0378".encode()]
    assert ids_of(both("bare")[1], ["é\u0378"]) == [spelled]


def test_what_text_there_is_of_a_special_piece_stays_text():
    vocab = sentence_pieces_json("bare")["model"]["vocab"]
    found = ids_of(both("bare")[1], ["<unk><s></s>"])[0]
    assert not {vocab["<unk>"], vocab["<s>"], vocab["</s>"]} & set(found)


def changed(**changes: Any) -> dict[str, Any]:
    value = sentence_pieces_json("Gemma")
    for name, change in changes.items():
        target = value["model"] if name not in value else value
        target[name] = change
    return value


def without(piece: str) -> dict[str, int]:
    vocab = dict(sentence_pieces_json("Gemma")["model"]["vocab"])
    del vocab[piece]
    return vocab


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (changed(type="Unigram"), "its model is Unigram, not BPE"),
        (changed(byte_fallback=False), "no byte_fallback"),
        (changed(ignore_merges=True), "its model has ignore_merges"),
        (changed(dropout=0.1), "its model has dropout"),
        (changed(vocab=without("<0x80>")), "lacks '<0x80>'"),
        (changed(vocab=without("▁")), "lacks '▁'"),
        (changed(merges=[["<0x0A>", "a"]]), "it merges '<0x0A>' with 'a', one of which spells a byte"),
        (changed(added_tokens=[added("▁▁", 500, normalized=True)]), "normalized and hold blanks"),
        (changed(added_tokens=[added("\n", 500, normalized=True), added("\t", 501)]), "some are not"),
        (changed(added_tokens=[added("\n", 500, lstrip=True)]), "is not plain"),
        (changed(added_tokens=[added("a", 500)]), "'a' begins with a letter"),
        (changed(normalizer=None), "not SentencePiece's"),
        (changed(normalizer={"type": "NFKC"}), "not SentencePiece's"),
        (changed(normalizer=REPLACE | {"content": "_"}), "not SentencePiece's"),
        (changed(pre_tokenizer={"type": "Digits", "individual_digits": True}), "not SentencePiece's"),
        (
            changed(normalizer=None, pre_tokenizer=metaspace("never", split=True) | {"replacement": "_"}),
            "SentencePiece's",
        ),
        (changed(normalizer=None, pre_tokenizer=metaspace("first", split=True)), "a blank goes before each text"),
    ],
)
def test_what_it_does_not_know_it_names(value: dict[str, Any], reason: str):
    with pytest.raises(Unknown, match=reason.replace("(", r"\(")):
        read(value)


def test_added_tokens_that_are_normalized():
    value = sentence_pieces_json("Gemma")
    value["added_tokens"] = [t | {"normalized": True} for t in value["added_tokens"] if "▁" not in t["content"]]
    theirs, ours = load(value), SentencePiecesEncoder(read(json.loads(json.dumps(value))))
    texts = ["a\n\n\n\n b\t\t", *strings(4, 500)]
    assert ids_of(ours, texts) == [encoding.ids for encoding in theirs.encode_batch_fast(texts)]


@settings(max_examples=60)
@given(st.sets(st.text("\n-▁ é", min_size=1, max_size=5), max_size=9), st.lists(st.text("\n-▁ éab", max_size=30)))
def test_of_added_tokens_the_longest_counts(contents: set[str], texts: list[str]):
    value = sentence_pieces_json("bare")
    vocab = value["model"]["vocab"]
    value["model"]["vocab"] = {
        **vocab,
        **{text: len(vocab) + i for i, text in enumerate(sorted(contents - set(vocab)))},
    }
    value["added_tokens"] = [added(text, value["model"]["vocab"][text]) for text in contents]
    expected = [encoding.ids for encoding in load(value).encode_batch_fast(texts)]
    assert not texts or ids_of(SentencePiecesEncoder(read(value)), texts) == expected
