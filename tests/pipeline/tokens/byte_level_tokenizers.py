"""Byte-level BPE tokenizers of every kind that our kernels know, trained on a few texts: what tests encode with."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tokenmill.pipeline.tokens.byte_level import PATTERNS
from tokenmill.pipeline.tokens.encode import Encoder, TokenizerPolicy
from tokenmill.pipeline.tokens.probes import PROBES

BARE = TokenizerPolicy(None, None, None, None, append_eos=False)
#: Some text for each of the kinds of pieces, so that merges cross them.
TEXTS = (
    *PROBES,
    *("the theory of the thermal don't I'LL 1234 12 ==> naïve Ünïcödé привет数学 \n\n\t  x" for _ in range(9)),
)


def split(pattern: str, behavior: str = "isolated", *, invert: bool = False) -> Any:
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def then(*steps: Any, use_regex: bool = False) -> Any:
    """These steps, then ByteLevel."""
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)])


NAMES = ("gpt2", "gpt2, newer", "llama3", "qwen2", "o200k", "o200k, digits alone", "no contractions", "tekken")
#: Each pre-tokenizer that our kernels know; a step that cuts digits, alone and before a pattern.
PRE_TOKENIZERS: dict[str, Any] = {
    "ByteLevel": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "ByteLevel, a blank before": pre_tokenizers.ByteLevel(add_prefix_space=True),
    "ByteLevel without its pattern": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    **{name: then(split(pattern)) for name, pattern in zip(NAMES, PATTERNS, strict=True)},
    "llama3, inverted": then(split(list(PATTERNS)[2], "removed", invert=True)),
    "Digits, each": then(pre_tokenizers.Digits(individual_digits=True), use_regex=True),
    "Digits": then(pre_tokenizers.Digits(individual_digits=False), use_regex=True),
    "digits in ones": then(split(r"\p{N}"), use_regex=True),
    "digits in threes": then(split(r"\p{N}{1,3}"), use_regex=True),
    "digits together": then(split(r"\p{N}+"), use_regex=True),
    "digits in threes, then o200k": then(split(r"\p{N}{1,3}"), split(list(PATTERNS)[4])),
    "Digits alone, without a pattern": then(pre_tokenizers.Digits(individual_digits=True)),
}


def train(pre_tokenizer: Any, texts: Iterable[str] = TEXTS, vocab_size: int = 700, nfc: bool = False) -> dict[str, Any]:
    """The tokenizer.json, without special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    value: dict[str, Any] = json.loads(tokenizer.to_str())
    return value


def encoder(value: Mapping[str, Any], policy: TokenizerPolicy = BARE) -> Encoder:
    return Encoder(json.dumps(value).encode(), policy)


def fast_encoder(value: Mapping[str, Any], policy: TokenizerPolicy = BARE) -> Encoder:
    """An encoder that our kernels run."""
    made = encoder(value, policy)
    assert made.slow_because is None
    return made


def ids_of(made: Encoder, texts: Iterable[str | None]) -> list[list[int]]:
    batch = made.encode(pa.array(list(texts), pa.large_string()))
    return [part.tolist() for part in np.split(batch.tokens, batch.offsets[1:])][:-1]


def oracle_ids(value: Mapping[str, Any], texts: Iterable[str]) -> list[list[int]]:
    """Ids by `tokenizers`."""
    found = Tokenizer.from_str(json.dumps(value)).encode_batch_fast(list(texts), add_special_tokens=False)
    return [encoding.ids for encoding in found]
