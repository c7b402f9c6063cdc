"""What of a tokenizer.json is known, and that what is not is named."""

import json
from typing import Any

import pytest

from tests.pipeline.tokens.byte_level_tokenizers import (
    PRE_TOKENIZERS,
    TEXTS,
    encoder,
    ids_of,
    oracle_ids,
    split,
    then,
    train,
)
from tokenmill.pipeline.tokens import byte_level
from tokenmill.pipeline.tokens.byte_level import PATTERNS, Unknown, read
from tokenmill.pipeline.tokens.letter_classes import NUMBER, NUMERIC
from tokenmill.pipeline.tokens.scanner import CL100K, GPT2, O200K, WHOLE, Pattern

Value = dict[str, Any]
LLAMA3 = train(PRE_TOKENIZERS["llama3"])


def changed(**changes: Any) -> Value:
    value: Value = json.loads(json.dumps(LLAMA3))
    for name, change in changes.items():
        value[name] = value[name] | change if name == "model" else change
    return value


def token(content: str, **flags: bool) -> Value:
    return {
        "id": 700,
        "content": content,
        **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False),
        **flags,
    }


def pre(*steps: Any, **last: Any) -> Value:
    end = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False} | last
    return {"type": "Sequence", "pretokenizers": [*steps, end]}


DIGITS = {"type": "Digits", "individual_digits": True}
PUNCTUATION = {"type": "Punctuation", "behavior": "Isolated"}
OTHER_REGEX = {"type": "Split", "pattern": {"Regex": r"\p{L}+"}, "behavior": "Isolated", "invert": False}
LLAMA3_SPLIT = LLAMA3["pre_tokenizer"]["pretokenizers"][0]


@pytest.mark.parametrize(
    ("name", "pattern", "prefix"),
    [
        ("ByteLevel", Pattern(GPT2), False),
        ("ByteLevel, a blank before", Pattern(GPT2), True),
        ("ByteLevel without its pattern", Pattern(WHOLE), False),
        ("llama3", Pattern(CL100K, 3), False),
        ("llama3, inverted", Pattern(CL100K, 3), False),
        ("qwen2", Pattern(CL100K, 1), False),
        ("o200k", Pattern(O200K, 3, True, True), False),
        ("tekken", Pattern(O200K, 1, False, True), False),
        ("Digits, each", Pattern(GPT2, group_digits=1, numbers=NUMERIC), False),
        ("Digits", Pattern(GPT2, group_digits=-1, numbers=NUMERIC), False),
        ("digits in threes", Pattern(GPT2, group_digits=3, numbers=NUMBER), False),
        ("digits in threes, then o200k", Pattern(O200K, 3, True, True, 3, NUMBER), False),
    ],
)
def test_known_pre_tokenizers(name: str, pattern: Pattern, prefix: bool) -> None:
    found = read(
        json.loads(json.dumps(LLAMA3 | {"pre_tokenizer": train(PRE_TOKENIZERS[name], ["a"])["pre_tokenizer"]}))
    )
    assert (found.pattern, found.prefix, found.nfc) == (pattern, prefix, False)


UNKNOWN: dict[str, tuple[Value, str]] = {
    "model": (changed(model={"type": "WordPiece"}), "its model is WordPiece, not BPE"),
    "dropout": (changed(model={"dropout": 0.1}), "its model has dropout"),
    "prefix": (changed(model={"continuing_subword_prefix": "##"}), "its model has continuing_subword_prefix"),
    "suffix": (changed(model={"end_of_word_suffix": "</w>"}), "its model has end_of_word_suffix"),
    "fallback": (changed(model={"byte_fallback": True}), "its model has byte_fallback"),
    "lstrip": (changed(added_tokens=[token("  ", lstrip=True)]), "its added token '  ' is not plain"),
    "rstrip": (changed(added_tokens=[token("  ", rstrip=True)]), "its added token '  ' is not plain"),
    "word": (changed(added_tokens=[token("  ", single_word=True)]), "its added token '  ' is not plain"),
    "beyond ASCII": (
        changed(added_tokens=[token("\u3000")]),
        "one of its added tokens is not ASCII, and NFC may change it",
    ),
    "blank and added": (
        changed(added_tokens=[token("  ")], pre_tokenizer=pre(add_prefix_space=True)),
        "a blank goes before each text, and text between added tokens",
    ),
    "blank before pieces": (
        changed(pre_tokenizer=pre(LLAMA3_SPLIT, add_prefix_space=True)),
        "a blank goes before each piece",
    ),
    "normaliser": (changed(normalizer={"type": "NFKC"}), "its normalizer is NFKC"),
    "normalisers": (
        changed(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}),
        r"its normalizer is NFC \+ Lowercase",
    ),
    "none": (changed(pre_tokenizer=None), "its pre-tokenizer is null, which does not end in ByteLevel"),
    "no bytes": (changed(pre_tokenizer=DIGITS), "which does not end in ByteLevel"),
    "step": (changed(pre_tokenizer=pre(PUNCTUATION)), 'its pre-tokenizer has the step {"type": "Punctuation"'),
    "regex": (changed(pre_tokenizer=pre(OTHER_REGEX)), 'its pre-tokenizer has the step {"type": "Split"'),
    "string": (
        changed(pre_tokenizer=pre(OTHER_REGEX | {"pattern": {"String": " "}})),
        'its pre-tokenizer has the step {"type": "Split"',
    ),
    "behaviour": (
        changed(pre_tokenizer=pre(LLAMA3_SPLIT | {"behavior": "MergedWithNext"})),
        "its pre-tokenizer has the step",
    ),
    "patterns": (changed(pre_tokenizer=pre(LLAMA3_SPLIT, LLAMA3_SPLIT)), "its pre-tokenizer has several patterns"),
    "a pattern of its own": (
        changed(pre_tokenizer=pre(LLAMA3_SPLIT, use_regex=True)),
        "its pre-tokenizer has several patterns",
    ),
    "digits": (changed(pre_tokenizer=pre(DIGITS, DIGITS)), "its pre-tokenizer cuts digits out twice"),
    "bytes": (
        changed(model={"vocab": {p: i for p, i in LLAMA3["model"]["vocab"].items() if p not in "!ķ"}, "merges": []}),
        "its vocabulary lacks 2 of 256 bytes",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_named(name: str) -> None:
    value, message = UNKNOWN[name]
    with pytest.raises(Unknown, match=message.replace("{", r"\{")):
        read(value)


@pytest.mark.parametrize("name", ["normaliser", "regex", "blank before pieces", "bytes", "digits"])
def test_what_is_not_known_goes_to_tokenizers_and_says_why(name: str) -> None:
    value, message = UNKNOWN[name]
    made = encoder(value)
    assert message.split(r"\+")[0] in str(made.slow_because)
    texts = [text for text in TEXTS[:60] if text]
    assert ids_of(made, texts) == oracle_ids(value, texts)


@pytest.mark.parametrize(
    "change",
    [{"digits": 2}, {"kind": GPT2}, {"kind": O200K}, {"kind": WHOLE}, {"group_digits": 1}],
    ids=str,
)
def test_a_pattern_made_wrong_is_noticed_on_loading(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    regex = next(regex for regex, pattern in PATTERNS.items() if pattern == Pattern(CL100K, 3))
    assert encoder(LLAMA3).slow_because is None
    monkeypatch.setattr(byte_level, "PATTERNS", PATTERNS | {regex: PATTERNS[regex]._replace(**change)})
    made = encoder(LLAMA3)
    assert str(made.slow_because).startswith("its own ids of ")
    assert "those of our kernels" in str(made.slow_because)
    assert ids_of(made, TEXTS) == oracle_ids(LLAMA3, TEXTS)


@pytest.mark.parametrize("kind", [CL100K, GPT2, WHOLE])
def test_o200k_made_wrong_is_noticed_on_loading(monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    value = train(PRE_TOKENIZERS["o200k"])
    regex = next(regex for regex, pattern in PATTERNS.items() if pattern == Pattern(O200K, 3, True, True))
    for wrong in (
        Pattern(kind, 3),
        PATTERNS[regex]._replace(slashes=False),
        PATTERNS[regex]._replace(contractions=False),
    ):
        monkeypatch.setattr(byte_level, "PATTERNS", PATTERNS | {regex: wrong})
        assert str(encoder(value).slow_because).startswith("its own ids of "), wrong


def test_every_pattern_is_spelled_once() -> None:
    assert len(set(PATTERNS)) == 8
    for pattern in PATTERNS:
        assert train(then(split(pattern)), ["a"])["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] == pattern
