"""A `tokenizer.json` as we read it: what its tokens are, and which of them are hidden from text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

_WANTED = "asked for a Hugging Face tokenizer.json (a JSON object with `model` and `added_tokens`)"


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object with `added_tokens` present; ValueError saying what was found instead."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{_WANTED}, found {len(data)} bytes that are no JSON ({error}): {data[:40]!r}…") from None
    if not isinstance(value, dict):
        raise ValueError(f"{_WANTED}, found a JSON {type(value).__name__}")
    model = value.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list) or not model["vocab"]:
        keys = ", ".join(repr(key) for key in list(value)[:8])
        raise ValueError(
            f"{_WANTED}, found a JSON object without a model and its vocabulary; its keys: {keys or 'none'}"
        )
    value["added_tokens"] = value.get("added_tokens") or []
    return value


def token_ids(value: Mapping[str, Any]) -> dict[str, int]:
    """Id of every piece and added token, as the JSON states them; a Unigram vocabulary is a list, its index the id."""
    vocab = value["model"]["vocab"]
    try:
        ids = dict(vocab) if isinstance(vocab, dict) else {piece[0]: i for i, piece in enumerate(vocab)}
        ids |= {token["content"]: token["id"] for token in value["added_tokens"]}
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{_WANTED}, found one whose vocabulary or added_tokens is malformed: {error!r}") from None
    for name, i in ids.items():
        if not isinstance(name, str) or not isinstance(i, int) or i < 0:
            raise ValueError(f"{_WANTED}, found one whose token {name!r} has id {i!r}")
    return ids


def unknown_token(model: Mapping[str, Any]) -> str | None:
    """Content of the piece that stands for what the model cannot spell."""
    if isinstance(model["vocab"], list):
        return None if model.get("unk_id") is None else str(model["vocab"][model["unk_id"]][0])
    return model.get("unk_token") or None


def is_text(token: Mapping[str, Any]) -> bool:
    """Whether an added token is an ordinary piece of text: white space (▁ is SentencePiece's) not marked special."""
    return not token.get("special", False) and token["content"].replace("▁", " ").isspace()


def hide(value: dict[str, Any], control: set[str], control_ids: set[int], prefix: str) -> None:
    """Make control tokens unreachable from text, in place; every id stays what the JSON says.

    Their pieces are renamed to `prefix` (a noncharacter and the tokenizer's own hash) and the id; merges that make or
    use them go. Text pieces among the added tokens enter the vocabulary, where `tokenizers` reads their ids.
    """
    model = value["model"]
    value["added_tokens"] = [
        token for token in value["added_tokens"] if is_text(token) and token["content"] not in control
    ]
    value |= {"truncation": None, "padding": None, "post_processor": None}
    if isinstance(model["vocab"], list):
        model["vocab"] = [
            [f"{prefix}{i}", *piece[1:]] if piece[0] in control or i in control_ids else piece
            for i, piece in enumerate(model["vocab"])
        ]
        return
    hidden = {piece for piece, i in model["vocab"].items() if piece in control or i in control_ids}
    if letters := sorted(piece for piece in hidden if len(piece) == 1):
        raise ValueError(
            f"{letters[0]!r} cannot be a control token: the model needs it to spell text; name another token"
        )
    model["vocab"] = {f"{prefix}{i}" if piece in hidden else piece: i for piece, i in model["vocab"].items()}
    model["vocab"] |= {token["content"]: token["id"] for token in value["added_tokens"]}
    if "merges" in model:
        model["dropout"] = None  # a random choice of merges
        model["merges"] = [merge for merge in model["merges"] if hidden.isdisjoint(merge_names(merge))]


def merge_names(merge: str | Sequence[str]) -> tuple[str, str, str]:
    """Both sides of a merge and what it makes; older files write it as one string with a space between."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right, left + right


def load(value: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer; ValueError where `tokenizers` cannot read it, or gives an added token another id."""
    try:
        tokenizer = Tokenizer.from_str(json.dumps(value, ensure_ascii=False))
    except Exception as error:  # `tokenizers` raises plain Exception
        raise ValueError(f"this tokenizer.json cannot be read by `tokenizers`: {error}") from error
    for token in value["added_tokens"]:
        if (found := tokenizer.token_to_id(token["content"])) != token["id"]:
            raise ValueError(
                f"added token {token['content']!r} has id {token['id']} in the JSON, {found} in `tokenizers`"
            )
    return tokenizer
