"""Ids of our kernels against those of `tokenizers`, for every kind of tokenizer that they know."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.tokens.byte_level_tokenizers import (
    PRE_TOKENIZERS,
    TEXTS,
    fast_encoder,
    ids_of,
    oracle_ids,
    train,
)
from tokenmill.pipeline.tokens.byte_level import read
from tokenmill.pipeline.tokens.byte_level_encoder import ByteLevelEncoder
from tokenmill.pipeline.tokens.byte_level_kernel import AHEAD
from tokenmill.pipeline.tokens.byte_pairs import HEAP_FROM
from tokenmill.pipeline.tokens.encode import TokenizerPolicy
from tokenmill.pipeline.tokens.piece_cache import LONGEST
from tokenmill.pipeline.tokens.probes import strings

VALUES = {name: train(pre_tokenizer) for name, pre_tokenizer in PRE_TOKENIZERS.items()}
VALUES["NFC"] = train(PRE_TOKENIZERS["qwen2"], nfc=True)
ENCODERS = {name: fast_encoder(value) for name, value in VALUES.items()}
#: Pieces of all lengths on both sides of the bounds that the cache, the heap and the room have.
LONG = [
    *("x" * size for size in (14, 15, 16, 17, LONGEST - 1, LONGEST, LONGEST + 1, 5000)),
    *(("qZx" * 40)[: HEAP_FROM + more] for more in range(-3, 4)),
    *("ab" * size + "é" * size for size in (4, 7, 8, 250, 3000)),
    " " * 1000 + "\n" * 700 + "-=" * 900 + "9" * 5000,
    "数学" * 4000,
]


@pytest.mark.parametrize("name", VALUES)
def test_drawn_strings_and_long_pieces(name: str) -> None:
    texts = [*TEXTS, *LONG, *strings(21, 700), *LONG, "".join(strings(22, 700))]
    assert ids_of(ENCODERS[name], texts) == oracle_ids(VALUES[name], texts)


@pytest.mark.parametrize("name", VALUES)
@settings(max_examples=25)
@given(texts=st.lists(st.text(max_size=40), max_size=4))
def test_any_texts(name: str, texts: list[str]) -> None:
    assert ids_of(ENCODERS[name], texts) == oracle_ids(VALUES[name], texts)


@given(
    text=st.text(
        st.sampled_from("eE\u0301\u0323\u1100\u1161\u11a8가각\u212b\u0958 aΩ\u0344\u0f73\u2adc\ufb1d"), max_size=12
    )
)
def test_nfc(text: str) -> None:
    assert ids_of(ENCODERS["NFC"], [text, "plain", text]) == oracle_ids(VALUES["NFC"], [text, "plain", text])


def test_a_batch_is_its_texts_one_by_one_in_any_order() -> None:
    made, texts = ENCODERS["llama3"], list(strings(31, 200))
    expected = ids_of(made, texts)
    assert [ids_of(made, [text])[0] for text in texts] == expected
    assert ids_of(made, texts[::-1]) == expected[::-1]


def test_a_new_encoder_knows_its_vocabulary() -> None:
    """Where the cache has room; its ids are those that merging gives."""
    tokenizer = read(VALUES["gpt2"])
    tokens = {piece for piece in tokenizer.pieces if len(piece) <= 15}
    kept = ByteLevelEncoder(tokenizer)._cache.short
    numbers = kept[:, 1] >> np.uint64(56)
    known = {row.tobytes()[: int(size)] for row, size in zip(kept[:, :2], numbers, strict=True) if size}
    assert len(known & tokens) > 0.99 * len(tokens) > 100
    assert known <= tokens
    assert not ByteLevelEncoder(tokenizer, 4096)._cache.short.any()


@pytest.mark.parametrize("pieces", [AHEAD - 1, AHEAD, AHEAD + 1, 2 * AHEAD, 5 * AHEAD + 3])
def test_new_and_known_pieces_among_each_other(pieces: int) -> None:
    """More pieces than are looked up together, the same ones in one batch of these, new long ones between."""
    value = VALUES["gpt2"]
    texts = [
        "".join(f" w{place % 5}" if place % 3 else f" {'longer' * (place % 9)}" for place in range(pieces))
        for _ in "ab"
    ]
    assert ids_of(fast_encoder(value), texts) == oracle_ids(value, texts)


@pytest.mark.parametrize("name", ["ByteLevel", "llama3", "ByteLevel without its pattern"])
def test_room_grows_in_the_middle_of_a_batch(name: str) -> None:
    """The kernel stops at a piece longer than its room, before it some that wait to be kept, and goes on there."""
    value = VALUES[name]
    texts = ["one two", "three four " + "x" * 6000 + " five", "six", "y" * 30_000 + " z" * 200 + "w" * 70_000, " last"]
    made = fast_encoder(value)
    assert ids_of(made, texts) == oracle_ids(value, texts)
    assert len(made._fast._room) >= 4 * 70_000
    assert ids_of(made, texts) == oracle_ids(value, texts)


def test_head_and_tail_go_around_each_text_when_the_room_grows_too() -> None:
    made = ByteLevelEncoder(read(VALUES["llama3"]))
    texts = pa.array(["a", None, "x" * 20_000, "", "b"], pa.large_string())
    ids, lengths = made.encode(texts, (1001, 1002), (1003,))
    parts = np.split(ids, np.cumsum(lengths))[:-1]
    inner = oracle_ids(VALUES["llama3"], ["a", "x" * 20_000, "", "b"])
    inner.insert(1, [])
    expected = [[1001, 1002, *one, 1003] for one in inner]
    expected[1] = []
    assert [part.tolist() for part in parts] == expected


def nulls_with_bytes() -> pa.LargeStringArray:
    """Nulls over bytes that are text, and over some that are none."""
    data = b"ab cd" + b"\xff\x80hidden" + b"ef" + b"also hidden" + b"gh"
    bounds = np.array([0, 5, 13, 15, 26, 28, 28], np.int64)
    valid = np.packbits([1, 0, 1, 0, 1, 0], bitorder="little")
    return pa.LargeStringArray.from_buffers(6, pa.py_buffer(bounds), pa.py_buffer(data), pa.py_buffer(valid))


@pytest.mark.parametrize("name", ["llama3", "NFC", "ByteLevel, a blank before"])
def test_bytes_under_a_null_are_no_text(name: str) -> None:
    texts, made = nulls_with_bytes(), ENCODERS[name]
    batch = made.encode(texts)
    found = [part.tolist() for part in np.split(batch.tokens, batch.offsets[1:])][:-1]
    one, two, three = oracle_ids(VALUES[name], ["ab cd", "ef", "gh"])
    assert found == [one, [], two, [], three, []]


@pytest.mark.parametrize("name", ["llama3", "NFC", "ByteLevel, a blank before"])
def test_slices(name: str) -> None:
    whole = [None, "é", "a b", "", None, "e\u0301 12345", " x", "last"]
    array, made = pa.array(whole, pa.large_string()), ENCODERS[name]
    expected = [[] if text is None else oracle_ids(VALUES[name], [text])[0] for text in whole]
    for start in range(len(whole) + 1):
        for stop in range(start, len(whole) + 1):
            batch = made.encode(array.slice(start, stop - start))
            assert [part.tolist() for part in np.split(batch.tokens, batch.offsets[1:])][:-1] == expected[start:stop]


@pytest.mark.parametrize("name", VALUES)
def test_nothing(name: str) -> None:
    empty = pa.LargeStringArray.from_buffers(0, None, pa.py_buffer(b""))
    for texts in (pa.array([], pa.large_string()), empty, pa.array([None, None], pa.large_string())):
        batch = ENCODERS[name].encode(texts)
        assert (batch.tokens.tolist(), batch.offsets.tolist()) == ([], [0] * (len(texts) + 1))


def with_added(name: str, *contents: str, **flags: bool) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(VALUES[name]))
    first = max(value["model"]["vocab"].values()) + 1
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False) | flags
    value["added_tokens"] = [{"id": first + i, "content": content, **plain} for i, content in enumerate(contents)]
    return value


RUNS = [" " * size for size in range(2, 26)] + ["\n\n", "\t\t", "\n", "\r\n\r\n"]


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", ["ByteLevel", "llama3", "o200k", "Digits, each", "NFC"])
def test_runs_of_white_space_that_are_added_tokens(name: str, normalized: bool) -> None:
    """As GPT-NeoX has them; of several the longest, and a text begins anew behind one."""
    value = with_added(name, *RUNS, normalized=normalized)
    made = fast_encoder(value)
    texts = [
        *TEXTS,
        "a" + " " * 60 + "b",
        *("x" + " " * size + "'s\n\n\n1" for size in range(30)),
        *strings(41, 500),
        "\n",
    ]
    assert ids_of(made, texts) == oracle_ids(value, texts)


@given(text=st.text("a '\ns1\t\r", max_size=40))
def test_any_white_space_among_added_tokens(text: str) -> None:
    value = WITH_RUNS
    assert ids_of(RUNS_ENCODER, [text]) == oracle_ids(value, [text])


WITH_RUNS = with_added("llama3", *RUNS)
RUNS_ENCODER = fast_encoder(WITH_RUNS)

CONTROL = ["<|endoftext|>", "<|mask|>", "<tool_call>", "  <|odd|>"]


@given(st.lists(st.sampled_from([*CONTROL, "<|", "|>", "  ", "mask", "x", "\n"]), max_size=8).map("".join))
def test_control_tokens_in_text_are_plain_text(text: str) -> None:
    (found,) = ids_of(CONTROL_ENCODER, [text])
    eos = CONTROL_ENCODER.special_ids["eos"]
    assert found == [*oracle_ids(VALUES["llama3"], [text])[0], eos]
    assert not set(found[:-1]) & set(CONTROL_ENCODER.control_ids.tolist())


CONTROL_ENCODER = fast_encoder(
    with_added("llama3", *CONTROL, special=True), TokenizerPolicy(None, "<|endoftext|>", None, "<|mask|>")
)


@pytest.mark.parametrize("name", ["ByteLevel", "llama3", "o200k"])
def test_pieces_that_are_tokens_whatever_the_merges(name: str) -> None:
    """`ignore_merges`, as Llama 3 has it: words of all lengths that no merge makes, or that merges make otherwise."""
    value: dict[str, Any] = json.loads(json.dumps(VALUES[name]))
    words = ["Ġquixotic", "quixotic", "Ġ" + "w" * 30, "Ġ" + "v" * 600, "ĊĊĊĊĊ", "Ġthe", "th", "Ġ12", "é", "ĠÃ©t"]
    for word in words:
        value["model"]["vocab"].setdefault(word, len(value["model"]["vocab"]))
    value["model"]["merges"] = value["model"]["merges"][::2]
    kept = {"".join(merge) for merge in value["model"]["merges"]}
    value["model"]["merges"] = [m for m in value["model"]["merges"] if all(len(p) == 1 or p in kept for p in m)]
    text = "the quixotic quixotic " + "w" * 30 + " " + "v" * 600 + " " + "v" * 599 + "\n\n\n\n\n 12 ét été the"
    texts = [text, *TEXTS, text]
    for ignore in (True, False):
        value["model"]["ignore_merges"] = ignore
        assert ids_of(fast_encoder(value), texts) == oracle_ids(value, texts)
    assert oracle_ids(value, [text]) != oracle_ids(value | {"model": value["model"] | {"ignore_merges": True}}, [text])


def test_a_vocabulary_with_holes() -> None:
    """Ids far apart and in another order than the merges'."""
    value: dict[str, Any] = json.loads(json.dumps(VALUES["llama3"]))
    vocab = value["model"]["vocab"]
    value["model"]["vocab"] = {piece: (i * 7919) % 99_991 for piece, i in vocab.items()}
    made = fast_encoder(value)
    assert (made.vocab_size, made.dtype) == (max(value["model"]["vocab"].values()) + 1, pa.uint32())
    assert ids_of(made, TEXTS) == oracle_ids(value, TEXTS)


def test_pieces_that_stand_for_no_bytes_and_merges_written_twice() -> None:
    value: dict[str, Any] = json.loads(json.dumps(VALUES["llama3"]))
    value["model"]["vocab"] |= {"語": 5000, "<x y>": 5001}
    value["model"]["merges"] += value["model"]["merges"][:40]  # of equal pairs the last counts
    assert ids_of(fast_encoder(value), TEXTS) == oracle_ids(value, TEXTS)


def test_one_letter_three_hundred_thousand_times() -> None:
    value = VALUES["llama3"]
    texts = ["x" * 300_000, " " * 300_000, "é" * 100_000]
    assert ids_of(ENCODERS["llama3"], texts) == oracle_ids(value, texts)


@pytest.mark.parametrize("text", [" ", "a", " a", "  a", "\na", "", "\u00a0"])
def test_a_blank_before(text: str) -> None:
    name = "ByteLevel, a blank before"
    assert ids_of(ENCODERS[name], [text]) == oracle_ids(VALUES[name], [text])
