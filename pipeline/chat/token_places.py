"""Which bytes of a text each of its tokens stands for, and from that whose each token is."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.kernels import kernel
from tokenmill.pipeline.tokens.byte_level import byte_letters
from tokenmill.pipeline.tokens.tokenizer_json import token_ids

I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]
#: uint16 or uint32
Tokens = npt.NDArray[Any]


def token_bytes(value: Mapping[str, Any], vocab_size: int) -> I32:
    """int32[vocab_size]: bytes of text that each id of a tokenizer.json stands for; -1 where that is not known.

    Byte-level pieces stand for their letters, SentencePiece's for their UTF-8 with ▁ for a blank.
    """
    found = np.full(vocab_size, -1, np.int32)
    if value["model"].get("byte_fallback"):
        lengths = {piece: len(piece.replace("▁", " ").encode()) for piece in token_ids(value)}
        lengths |= {f"<0x{byte:02X}>": 1 for byte in range(256)}
    else:
        letters = set(byte_letters())
        lengths = {piece: len(piece) for piece in value["model"]["vocab"] if letters.issuperset(piece)}
        lengths |= {token["content"]: len(token["content"].encode()) for token in value["added_tokens"]}
    ids = token_ids(value)
    found[[ids[piece] for piece in lengths]] = list(lengths.values())
    return found


@kernel
def place_tokens(
    tokens: Tokens, bounds: I64, text_bounds: I64, lengths: I32, blank: bool, starts: I32, ends: I32, odd: BOOL
) -> None:
    """Which bytes of its text each token stands for, by the tokens' lengths.

    Args:
        tokens: of n texts, one after another.
        bounds: int64[n + 1], tokens of each text.
        text_bounds: int64[n + 1], bytes of each text.
        lengths: int32, of `token_bytes`.
        blank: a text may have got a blank in front.
        starts: int32 a token, to be filled: its first byte.
        ends: one past its last; a token that is only the blank in front has no byte.
        odd: bool[n], to be filled: the lengths do not add up, nothing is known.
    """
    for text in range(bounds.shape[0] - 1):
        first, end = bounds[text], bounds[text + 1]
        total = np.int64(0)
        for place in range(first, end):
            length = lengths[tokens[place]]
            total += length if length >= 0 else 1 << 40
        before = total - (text_bounds[text + 1] - text_bounds[text])
        odd[text] = before != 0 and not (before == 1 and blank)
        at = -before
        for place in range(first, end if not odd[text] else first):
            starts[place] = max(at, 0)
            at += lengths[tokens[place]]
            ends[place] = at


@kernel
def assemble(
    items: I32,
    item_bounds: I64,
    piece_bounds: I64,
    tokens: Tokens,
    token_bounds: I64,
    starts: I32,
    ends: I32,
    out: Tokens,
    roles: I8,
    answers: BOOL,
    bounds: I64,
) -> None:
    """Control tokens and texts' tokens in order, and whose each is.

    A token has the role of the first piece that is some turn's and that it has a byte of, and is an answer if it has a
    byte of one; one without a byte belongs to the piece that has the next.

    Args:
        items: int32[k, 3]: control id or -1 for a piece of text; role; whether an answer. Pieces side by side are one
            text.
        item_bounds: int64[n + 1], items of each conversation.
        piece_bounds: int64[pieces + 1], bytes of the pieces, which lie one after another.
        tokens: of all texts.
        token_bounds: int64[texts + 1].
        starts: int32 a token, its first byte within its text.
        ends: one past its last.
        out: to be filled: ids.
        roles: int8.
        answers: bool.
        bounds: int64[n + 1].
    """
    at, piece, text = np.int64(0), 0, 0
    bounds[0] = 0
    for conversation in range(item_bounds.shape[0] - 1):
        item, last = item_bounds[conversation], item_bounds[conversation + 1]
        while item < last:
            if items[item, 0] >= 0:
                out[at], roles[at], answers[at] = items[item, 0], items[item, 1], items[item, 2] != 0
                at += 1
                item += 1
                continue
            beyond = item
            while beyond < last and items[beyond, 0] < 0:
                beyond += 1
            base, near = piece_bounds[piece], item
            for place in range(token_bounds[text], token_bounds[text + 1]):
                while near < beyond - 1 and piece_bounds[piece + near - item + 1] - base <= starts[place]:
                    near += 1
                role, answer, other = items[near, 1], items[near, 2] != 0, near + 1
                while other < beyond and piece_bounds[piece + other - item] - base < ends[place]:
                    if piece_bounds[piece + other - item + 1] > piece_bounds[piece + other - item]:
                        role = items[other, 1] if role == 0 else role
                        answer = answer or items[other, 2] != 0
                    other += 1
                out[at], roles[at], answers[at] = tokens[place], role, answer
                at += 1
            piece += beyond - item
            item = beyond
            text += 1
        bounds[conversation + 1] = at
