"""Where texts are cut, against `tokenizers`' own pre-tokenizers."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from tests.pipeline.tokens.byte_level_tokenizers import NAMES, split
from tokenmill.kernels import kernel
from tokenmill.pipeline.tokens.byte_level import PATTERNS
from tokenmill.pipeline.tokens.letter_classes import NUMBER, NUMERIC, letter_classes
from tokenmill.pipeline.tokens.probes import PROBES, strings
from tokenmill.pipeline.tokens.scanner import GPT2, WHOLE, Pattern, piece_end, segment_end


@kernel
def _cut(data, kind, digits, contractions, slashes, group_digits, numbers, block, of_block, ends):  # type: ignore[no-untyped-def]
    at, segment, count = 0, 0, 0
    while at < data.shape[0]:
        if at == segment:
            segment = segment_end(data, at, data.shape[0], group_digits, numbers, block, of_block)
        at = piece_end(data, at, segment, kind, digits, contractions, slashes, block, of_block)
        ends[count] = at
        count += 1
    return count


def ours(text: str, pattern: Pattern) -> list[str]:
    data = text.encode()
    ends = np.zeros(len(data) + 1, np.int64)
    count = _cut(np.frombuffer(data, np.uint8), *pattern, *letter_classes(), ends)
    bounds = [0, *ends[:count].tolist()]
    return [data[begin:end].decode() for begin, end in pairwise(bounds)]


def theirs(text: str, pre_tokenizer: Any) -> list[str]:
    return [text[begin:end] for _, (begin, end) in pre_tokenizer.pre_tokenize_str(text)]


PLAIN = pre_tokenizers.ByteLevel(add_prefix_space=False)
#: (our pattern, what `tokenizers` cuts with).
CUTS: dict[str, tuple[Pattern, Any]] = {
    **{name: (pattern, split(regex)) for name, (regex, pattern) in zip(NAMES, PATTERNS.items(), strict=True)},
    "GPT-2's": (Pattern(GPT2), PLAIN),
    "Digits, each": (Pattern(GPT2, group_digits=1, numbers=NUMERIC), [pre_tokenizers.Digits(True), PLAIN]),
    "Digits": (Pattern(GPT2, group_digits=-1, numbers=NUMERIC), [pre_tokenizers.Digits(False), PLAIN]),
    "digits in ones": (Pattern(GPT2, group_digits=1, numbers=NUMBER), [split(r"\p{N}"), PLAIN]),
    "digits in threes": (Pattern(GPT2, group_digits=3), [split(r"\p{N}{1,3}"), PLAIN]),
    "digits together": (Pattern(GPT2, group_digits=-1), [split(r"\p{N}+"), PLAIN]),
    "Digits alone": (Pattern(WHOLE, group_digits=1, numbers=NUMERIC), pre_tokenizers.Digits(True)),
    "digits, then o200k": (
        PATTERNS[list(PATTERNS)[4]]._replace(group_digits=3),
        [split(r"\p{N}{1,3}"), split(list(PATTERNS)[4])],
    ),
}


def check(name: str, text: str) -> None:
    pattern, cutter = CUTS[name]
    expected = pre_tokenizers.Sequence(cutter) if isinstance(cutter, list) else cutter
    assert ours(text, pattern) == theirs(text, expected), (name, text)


@pytest.mark.parametrize("name", CUTS)
def test_fixed_and_drawn_strings(name: str) -> None:
    for text in (*PROBES, *strings(11, 2500)):
        check(name, text)


@pytest.mark.parametrize("name", CUTS)
@settings(max_examples=50)
@given(text=st.text(max_size=30) | st.text("aAbsſSltTrReEvVdmM'’ \n\r\t1٣½é\u0301ǅʰ数/-_.\u00a0\u2028", max_size=16))
def test_any_text(name: str, text: str) -> None:
    check(name, text)


@pytest.mark.parametrize("name", CUTS)
def test_each_character_alone_and_among_others(name: str) -> None:
    """Every 7th code point of the first three planes' blocks, with neighbours that its class decides about."""
    points = [
        *range(0x80, 0x3400, 7),
        *range(0xA000, 0x10000, 61),
        *range(0x10000, 0x20000, 97),
        *range(0xE0000, 0xE0200, 9),
    ]
    for point in points:
        if not 0xD800 <= point < 0xE000:
            check(name, f"a{chr(point)}B 1{chr(point)}2 {chr(point)}\n {chr(point)}")


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("gpt2", "I'LL don't  x", ["I", "'", "LL", " don", "'t", " ", " x"]),
        ("gpt2, newer", "I've 12345!", ["I", "'ve", " 12345", "!"]),
        ("llama3", "I'LL 12345\n\n x", ["I", "'LL", " ", "123", "45", "\n\n", " x"]),
        ("llama3", "it'ſ", ["it", "'ſ"]),
        ("qwen2", "a 123", ["a", " ", "1", "2", "3"]),
        ("o200k", "HTMLParser don'T a/\n/b", ["HTMLParser", " don'T", " a", "/\n/", "b"]),
        ("tekken", "camelCase don't 12", ["camel", "Case", " don", "'t", " ", "1", "2"]),
        ("Digits", "a123b", ["a", "123", "b"]),
        ("digits in threes", "1234567", ["123", "456", "7"]),
    ],
)  # fmt: skip
def test_known_cuts(name: str, text: str, pieces: list[str]) -> None:
    assert ours(text, CUTS[name][0]) == pieces
    check(name, text)
