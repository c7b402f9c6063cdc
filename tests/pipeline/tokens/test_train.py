import hashlib
import json
import os
import subprocess
import sys
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from tokenmill.pipeline.recipe.tokens import PatternName
from tokenmill.pipeline.tokens.byte_level import NAMED_PATTERNS, PATTERNS, read
from tokenmill.pipeline.tokens.tokenizer_json import hide, parse
from tokenmill.pipeline.tokens.train import train_tokenizer

SPECIAL = ["<|eos|>", "<|pad|>", "<|mask|>"]


def corpus() -> list[str]:
    """1,000 texts of words that share beginnings, many equally frequent: ties for the merges to break."""
    words = [
        hashlib.sha256(str(i).encode()).hexdigest()[: 3 + i % 7].translate({48: "é", 49: "数"}) for i in range(400)
    ]
    return [" ".join(words[(i * 7 + j * j) % 400] for j in range(60)) for i in range(1000)]


TOKENIZER = Tokenizer.from_str(train_tokenizer(corpus()[:200], 600, SPECIAL).decode())

SCRIPT = """
import hashlib, runpy, sys
module = runpy.run_path(sys.argv[1])
print(hashlib.sha256(module["train_tokenizer"](module["corpus"](), 2000, module["SPECIAL"])).hexdigest())
"""


def test_same_bytes_on_any_number_of_threads_and_in_any_order():
    expected = hashlib.sha256(train_tokenizer(reversed(corpus()), 2000, SPECIAL)).hexdigest()
    for parallel, threads in (("false", "1"), ("true", "1"), ("true", "2"), ("true", "7")):
        environment = os.environ | {"TOKENIZERS_PARALLELISM": parallel, "RAYON_NUM_THREADS": threads}
        command = [sys.executable, "-c", SCRIPT, __file__]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
        assert (parallel, threads, found) == (parallel, threads, expected)


def test_special_tokens_come_first_then_all_bytes_then_merges():
    value = json.loads(train_tokenizer(corpus()[:50], 300, SPECIAL))
    vocab = value["model"]["vocab"]
    assert sorted(vocab.values()) == list(range(300))
    by_id = sorted(vocab, key=vocab.__getitem__)
    assert by_id[:3] == SPECIAL
    assert by_id[3:259] == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert by_id[259:] == ["".join(merge) for merge in value["model"]["merges"]]
    assert [(token["content"], token["id"], token["special"]) for token in value["added_tokens"]] == [
        (token, i, True) for i, token in enumerate(SPECIAL)
    ]


def test_texts_too_few_for_the_vocabulary_give_a_smaller_one():
    vocab = json.loads(train_tokenizer(["ab ab"], 300, []))["model"]["vocab"]
    assert len(vocab) == 257  # "ab"; " ab" is seen once
    assert len(json.loads(train_tokenizer([], 300, ["<s>"]))["model"]["vocab"]) == 257


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("12345678 x", ["123", "456", "78", " x"]),
        ("I'LL don't", ["I", "'LL", " don", "'t"]),
        ("a  b\n\n c!?\n", ["a", " ", " b", "\n\n", " c", "!?\n"]),
    ],
)
def test_pre_tokenizer(text: str, pieces: list[str]):
    found = TOKENIZER.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:stop] for _, (start, stop) in found] == pieces


@pytest.mark.parametrize("name", NAMED_PATTERNS)
def test_every_pattern_is_one_that_the_fast_path_reads(name: str):
    value = parse(train_tokenizer(corpus()[:50], 400, SPECIAL, name))
    hide(value, set(SPECIAL), {0, 1, 2}, "\U0010ffff:")
    made = read(value)
    assert made.pattern == PATTERNS[NAMED_PATTERNS[name]]
    assert len(made.merges) == 400 - 256 - 3


def test_the_recipe_names_the_patterns_there_are():
    assert get_args(PatternName) == tuple(NAMED_PATTERNS)


def test_lists_of_texts_are_texts():
    texts = corpus()[:50]
    assert train_tokenizer([texts[:7], texts[7:7], texts[7:]], 300, SPECIAL) == train_tokenizer(texts, 300, SPECIAL)


@settings(deadline=None)
@given(st.text())
def test_every_text_comes_back(text: str):
    TOKENIZER.encode_special_tokens = True
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("vocab_size", "special", "message"),
    [
        (257, ["<a>", "<b>"], "vocab_size 257 is too small: 256 bytes and 2 special tokens alone are 258"),
        (300, ["<a>", "<a>"], "must be distinct"),
        (300, [""], "is empty or a byte"),
        (300, ["!"], "is empty or a byte"),
        (300, ["ab"], "special token 'ab' is also a word of the texts"),
    ],
)
def test_arguments_that_cannot_hold(vocab_size: int, special: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(["ab ab ab"], vocab_size, special)
