"""What our kernels know of a tokenizer.json: byte-level BPE, one of the pre-tokenizers in use, NFC or no normaliser.

What `read` does not know it names; `tokenizers` then encodes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import pre_tokenizers

from tokenmill.pipeline.tokens.added_pieces import Unknown, plain_added
from tokenmill.pipeline.tokens.letter_classes import NUMBER, NUMERIC
from tokenmill.pipeline.tokens.scanner import (
    CL100K,
    GPT2,
    O200K,
    WHOLE,
    Pattern,
)
from tokenmill.pipeline.tokens.tokenizer_json import merge_names

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]

_CONTRACTIONS = r"'s|'t|'re|'ve|'m|'ll|'d"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"


def _o200k(contraction: str, digits: str) -> str:
    words = f"{_BEFORE}{_UPPER}*{_LOWER}+{contraction}|{_BEFORE}{_UPPER}+{_LOWER}*{contraction}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"


def _cl100k(digits: str) -> str:
    return rf"(?i:{_CONTRACTIONS})|{_BEFORE}\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"


#: Patterns by the tokenizer that brought each; llama3's is cl100k's, too.
NAMED_PATTERNS = {
    "gpt2": rf"{_CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+",
    "llama3": _cl100k(r"\p{N}{1,3}"),
    "qwen2": _cl100k(r"\p{N}"),
    "o200k": _o200k(rf"(?i:{_CONTRACTIONS})?", r"\p{N}{1,3}"),
}
#: The patterns that `scanner` knows, as tokenizer.json files spell them.
PATTERNS = {
    NAMED_PATTERNS["gpt2"]: Pattern(GPT2),
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": Pattern(GPT2),
    NAMED_PATTERNS["llama3"]: Pattern(CL100K, 3),
    NAMED_PATTERNS["qwen2"]: Pattern(CL100K, 1),
    NAMED_PATTERNS["o200k"]: Pattern(O200K, 3, True, True),
    _o200k(rf"(?i:{_CONTRACTIONS})?", r"\p{N}"): Pattern(O200K, 1, True, True),
    _o200k("", r"\p{N}{1,3}"): Pattern(O200K, 3, False, True),
    _o200k("", r"\p{N}"): Pattern(O200K, 1, False, True),
}
#: Splits that come before the pattern: (digits a piece, class).
_DIGIT_SPLITS = {r"\p{N}": (1, NUMBER), r"\p{N}{1,3}": (3, NUMBER), r"\p{N}+": (-1, NUMBER)}


@dataclass(frozen=True, eq=False)
class ByteLevel:
    """What a byte-level BPE tokenizer is made of.

    Attributes:
        pattern: how text is cut.
        nfc: whether text is put in NFC first.
        prefix: whether a text begins with a blank.
        first_ids: uint32[256], the id of each byte.
        merges: (left, right, made), ids, in order of rank.
        pieces: ids of the vocabulary, by bytes.
        whole: those of them that are tokens as they stand: all, if merges are ignored for these, or none.
        added: added tokens that are pieces of text.
    """

    pattern: Pattern
    nfc: bool
    prefix: bool
    first_ids: U32
    merges: Sequence[tuple[int, int, int]]
    pieces: Mapping[bytes, int]
    whole: Mapping[bytes, int]
    added: Mapping[bytes, int]


def read(value: Mapping[str, Any]) -> ByteLevel:
    """Read a tokenizer.json whose control tokens are hidden. Raises Unknown, naming what is not known."""
    model, pattern, prefix = value["model"], *_pattern_of(value.get("pre_tokenizer"))
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise Unknown(f"its model is {model.get('type')}, not BPE")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name):
            raise Unknown(f"its model has {name}")
    added = plain_added(value["added_tokens"])
    if not all(piece.isascii() for piece in added):
        raise Unknown("one of its added tokens is not ASCII, and NFC may change it")
    if added and prefix:
        raise Unknown("a blank goes before each text, and text between added tokens")
    ids = bytes_of(model["vocab"])
    lacking = [byte for byte in range(256) if bytes([byte]) not in ids]
    if lacking:
        raise Unknown(f"its vocabulary lacks {len(lacking)} of 256 bytes")
    first_ids = np.array([ids[bytes([byte])] for byte in range(256)], np.uint32)
    whole = ids if model.get("ignore_merges") else {}
    vocab = model["vocab"]
    merges = [(vocab[left], vocab[right], vocab[made]) for left, right, made in map(merge_names, model["merges"])]
    return ByteLevel(pattern, _is_nfc(value.get("normalizer")), prefix, first_ids, merges, ids, whole, added)


def _pattern_of(pre: Mapping[str, Any] | None) -> tuple[Pattern, bool]:
    """The pattern, and whether a blank goes before each text."""
    steps = pre["pretokenizers"] if pre and pre["type"] == "Sequence" else [pre] if pre else []
    if not steps or steps[-1]["type"] != "ByteLevel":
        raise Unknown(f"its pre-tokenizer is {json.dumps(pre)[:200]}, which does not end in ByteLevel")
    *before, last = steps
    pattern = Pattern(GPT2 if last.get("use_regex", True) else WHOLE)
    if before and last.get("add_prefix_space"):
        raise Unknown("a blank goes before each piece")
    for step in reversed(before):
        cut = _split_of(step)
        if isinstance(cut, Pattern):
            if pattern.kind != WHOLE:
                raise Unknown("its pre-tokenizer has several patterns")
            pattern = cut
        elif pattern.group_digits:
            raise Unknown("its pre-tokenizer cuts digits out twice")
        else:
            pattern = pattern._replace(group_digits=cut[0], numbers=cut[1])
    return pattern, bool(last.get("add_prefix_space"))


def _split_of(step: Mapping[str, Any]) -> Pattern | tuple[int, int]:
    if step["type"] == "Digits":
        return (1 if step["individual_digits"] else -1, NUMERIC)
    regex = step.get("pattern", {}).get("Regex") if step["type"] == "Split" else None
    whole = (step.get("behavior"), step.get("invert", False)) in (("Isolated", False), ("Removed", True))
    if regex in PATTERNS and whole:
        return PATTERNS[regex]
    if regex in _DIGIT_SPLITS and step.get("behavior") == "Isolated" and not step.get("invert"):
        return _DIGIT_SPLITS[regex]
    raise Unknown(f"its pre-tokenizer has the step {json.dumps(step)[:200]}")


def _is_nfc(normalizer: Mapping[str, Any] | None) -> bool:
    steps = normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else [normalizer]
    names = [step["type"] for step in steps if step]
    if set(names) - {"NFC"}:
        raise Unknown(f"its normalizer is {' + '.join(names)}")
    return bool(names)


def bytes_of(vocab: Mapping[str, int]) -> dict[bytes, int]:
    """Ids by the bytes that a piece stands for; pieces that stand for none are left out: no text has them."""
    letters = dict(zip(byte_letters(), range(256), strict=True))
    return {bytes(map(letters.__getitem__, piece)): i for piece, i in vocab.items() if letters.keys() >= set(piece)}


def byte_letters() -> list[str]:
    """The character that stands for each byte: itself where it is printable in Latin-1, else from U+0100 on (GPT-2)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    found = [chr(byte if byte in printable else next(others)) for byte in range(256)]
    assert sorted(found) == sorted(pre_tokenizers.ByteLevel.alphabet())
    return found
