"""What our kernels know of a tokenizer.json: SentencePiece's BPE with byte fallback (Gemma, Llama 2, Mistral).

What `read` does not know it names; `tokenizers` then encodes. Known is that a blank is written ▁, by the normalizer or
by the pre-tokenizer, one perhaps put in front, and that every byte is a piece: no text then makes the unknown token.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.pipeline.tokens.added_pieces import Unknown, plain_added
from tokenmill.pipeline.tokens.tokenizer_json import merge_names

U32 = npt.NDArray[np.uint32]

_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_MARK = "▁"
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": _MARK}
_PREPEND = {"type": "Prepend", "prepend": _MARK}
#: When a text gets a blank in front: never, if it is not empty, or if it does not begin with one.
NEVER, ALWAYS, WITHOUT = range(3)


@dataclass(frozen=True, eq=False)
class SentencePieces:
    """What such a tokenizer is made of.

    Attributes:
        prefix: when a text gets a blank in front: NEVER, ALWAYS or WITHOUT.
        characters: ids of the pieces that are one character.
        byte_ids: uint32[256], the id of each byte.
        merges: (left, right, made), ids, in order of rank.
        joined: the characters on both sides of each merge.
        added: added tokens that are pieces of text.
    """

    prefix: int
    characters: Mapping[str, int]
    byte_ids: U32
    merges: Sequence[tuple[int, int, int]]
    joined: frozenset[tuple[str, str]]
    added: Mapping[bytes, int]


def read(value: Mapping[str, Any]) -> SentencePieces:
    """Read a tokenizer.json whose control tokens are hidden. Raises Unknown, naming what is not known."""
    model = value["model"]
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise Unknown(f"its model is {model.get('type')}, not BPE")
    if not model.get("byte_fallback"):
        raise Unknown("its model has no byte_fallback")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(name):
            raise Unknown(f"its model has {name}")
    vocab = model["vocab"]
    if lacking := [piece for piece in (*_BYTES, _MARK) if piece not in vocab]:
        raise Unknown(f"its vocabulary lacks {lacking[0]!r}")
    prefix, words = _blanks_of(value.get("normalizer"), value.get("pre_tokenizer"))
    if value["added_tokens"] and prefix != NEVER:
        raise Unknown("a blank goes before each text, and text between added tokens")
    if any(token.get("normalized") and set(token["content"]) & {" ", _MARK} for token in value["added_tokens"]):
        raise Unknown("its added tokens are normalized and hold blanks")
    if len({bool(token.get("normalized")) for token in value["added_tokens"]}) > 1:
        raise Unknown("some of its added tokens are normalized, some are not")
    merges = _merges(model, words)
    return SentencePieces(
        prefix,
        {piece: i for piece, i in vocab.items() if len(piece) == 1},
        np.array([vocab[piece] for piece in _BYTES], np.uint32),
        [(vocab[left], vocab[right], vocab[made]) for left, right, made in merges],
        frozenset((left[-1], right[0]) for left, right, _ in merges),
        plain_added(value["added_tokens"]),
    )


def _blanks_of(normalizer: Mapping[str, Any] | None, pre: Mapping[str, Any] | None) -> tuple[int, bool]:
    """When a blank goes in front, and whether every ▁ begins a piece."""
    steps = normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else [normalizer]
    steps = [step for step in steps if step]
    if steps in ([_REPLACE], [_PREPEND, _REPLACE], [_REPLACE, _PREPEND]):
        # Behind the normalizer there is no blank to split at: Gemma's pre-tokenizer does nothing.
        if pre is None or (pre["type"] == "Split" and pre["pattern"] == {"String": " "} and not pre.get("invert")):
            return ALWAYS if _PREPEND in steps else NEVER, False
    elif not steps and pre is not None and pre["type"] == "Metaspace" and pre["replacement"] == _MARK:
        known = {"always": WITHOUT, "first": WITHOUT, "never": NEVER}
        scheme = pre.get("prepend_scheme", "always")
        if scheme in known and pre.get("add_prefix_space", scheme != "never") == (scheme != "never"):
            return known[scheme], pre.get("split", True)
    found = json.dumps([normalizer, pre], ensure_ascii=False)[:300]
    raise Unknown(f"its normalizer and pre-tokenizer are {found}, not SentencePiece's")


def _merges(model: Mapping[str, Any], words: bool) -> list[tuple[str, str, str]]:
    """What is merged with what to what; where every ▁ begins a piece, none with a ▁ behind it."""
    merges = [merge_names(merge) for merge in model["merges"]]
    spelled = set(_BYTES)
    for left, right, _ in merges:
        if left in spelled or right in spelled:
            raise Unknown(f"it merges {left!r} with {right!r}, one of which spells a byte")
    return [merge for merge in merges if not (words and merge[1].startswith(_MARK))]
