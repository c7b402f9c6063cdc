"""Byte-level BPE as one pass over a batch's UTF-8: added pieces, segments, pieces, the cache, merges on a miss.

`read` takes what it knows from a tokenizer.json: byte-level BPE with one of the pre-tokenizers in use, NFC or no
normaliser. What it does not know it names; `tokenizers` then encodes. The ids are those of `tokenizers`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import normalizers, pre_tokenizers

from tokenmill.dedup.shingles import text_buffers
from tokenmill.kernels import helper, kernel
from tokenmill.pipeline.tokens.byte_pairs import ROOM_PER_BYTE, merge_piece, pair_table, table_shift
from tokenmill.pipeline.tokens.letter_classes import NFC_CHANGES, NUMBER, NUMERIC, letter_classes
from tokenmill.pipeline.tokens.piece_cache import (
    LONGEST,
    find_long,
    find_short,
    hash_bytes,
    keep_long,
    keep_short,
    piece_cache,
)
from tokenmill.pipeline.tokens.scanner import (
    CL100K,
    GPT2,
    O200K,
    WHOLE,
    Pattern,
    char_bytes,
    class_at,
    piece_end,
    segment_end,
)
from tokenmill.pipeline.tokens.whole_pieces import find_whole, whole_pieces

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]

CACHE_BYTES = 32 << 20
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


class Unknown(ValueError):
    """What of a tokenizer this path does not know."""


class Added(NamedTuple):
    """Added tokens that are pieces of text, by first byte and longest first.

    Attributes:
        begins: int64[257], where those of each first byte begin.
        bounds: int64[n+1], where each lies in `data`.
        data: uint8.
        ids: uint32[n].
    """

    begins: I64
    bounds: I64
    data: U8
    ids: U32


@dataclass(frozen=True, eq=False)
class ByteLevel:
    """What a byte-level BPE tokenizer is made of.

    Attributes:
        pattern: how text is cut.
        nfc: whether text is put in NFC first.
        prefix: whether a text begins with a blank.
        first_ids: uint32[256], the id of each byte.
        merges: (left, right, made), ids, in order of rank.
        whole: pieces that are tokens as they stand, if merges are ignored for these.
        added: added tokens that are pieces of text.
    """

    pattern: Pattern
    nfc: bool
    prefix: bool
    first_ids: U32
    merges: Sequence[tuple[int, int, int]]
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
    added = {}
    for token in value["added_tokens"]:
        if token.get("lstrip") or token.get("rstrip") or token.get("single_word") or not token["content"].isascii():
            raise Unknown(f"its added token {token['content']!r} is not plain")
        added[token["content"].encode()] = token["id"]
    if added and prefix:
        raise Unknown("a blank goes before each text, and text between added tokens")
    ids = bytes_of(model["vocab"])
    lacking = [byte for byte in range(256) if bytes([byte]) not in ids]
    if lacking:
        raise Unknown(f"its vocabulary lacks {len(lacking)} of 256 bytes")
    first_ids = np.array([ids[bytes([byte])] for byte in range(256)], np.uint32)
    whole = ids if model.get("ignore_merges") else {}
    return ByteLevel(pattern, _is_nfc(value.get("normalizer")), prefix, first_ids, _merges(model), whole, added)


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
    letters = dict(zip(_alphabet(), range(256), strict=True))
    return {bytes(map(letters.__getitem__, piece)): i for piece, i in vocab.items() if letters.keys() >= set(piece)}


def _alphabet() -> list[str]:
    """The character that stands for each byte: itself where it is printable in Latin-1, else from U+0100 on (GPT-2)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    found = [chr(byte if byte in printable else next(others)) for byte in range(256)]
    assert sorted(found) == sorted(pre_tokenizers.ByteLevel.alphabet())
    return found


def _merges(model: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    vocab, found = model["vocab"], []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        found.append((vocab[left], vocab[right], vocab[left + right]))
    return found


class ByteLevelEncoder:
    """Encodes batches with a `ByteLevel`; its cache makes it one thread's."""

    def __init__(self, tokenizer: ByteLevel, cache_bytes: int = CACHE_BYTES) -> None:
        """Make the tables; the cache takes at most `cache_bytes`."""
        self._pattern, self._nfc, self._prefix = tokenizer.pattern, tokenizer.nfc, tokenizer.prefix
        pairs = pair_table(tokenizer.merges)
        self._tables = (tokenizer.first_ids, pairs, table_shift(pairs))
        self._whole, self._added = whole_pieces(tokenizer.whole), _added_table(tokenizer.added)
        self._cache = piece_cache(cache_bytes)
        self._room = np.empty(ROOM_PER_BYTE << 12, np.uint64)

    def encode(self, texts: pa.LargeStringArray, head: Sequence[int], tail: Sequence[int]) -> tuple[U32, I64]:
        """Ids of all texts, uint32, and how many each has, int64[n]; none of a null.

        Args:
            texts: one a row.
            head: ids before each text.
            tail: ids behind each.
        """
        texts = self._prepared(texts)
        data, bounds = text_buffers(texts)
        out = np.empty(int(bounds[-1] - bounds[0]) + (len(head) + len(tail)) * len(texts), np.uint32)
        lengths = np.zeros(len(texts), np.int64)
        state = np.array([0, -1, 0, 0, 0], np.int64)
        present = texts.is_valid().to_numpy(zero_copy_only=False)
        ends = (np.array(head, np.uint32), np.array(tail, np.uint32))
        fixed = (*self._added, *self._pattern, *letter_classes(), *self._tables, *self._whole, *self._cache)
        while need := _encode(data, bounds, present, *ends, *fixed, self._room, state, lengths, out):
            self._room = np.empty(ROOM_PER_BYTE * need, np.uint64)
        return out[: state[4]], lengths

    def _prepared(self, texts: pa.LargeStringArray) -> pa.LargeStringArray:
        if self._nfc:
            data, bounds = text_buffers(texts)
            changes = np.zeros(len(texts), np.bool_)
            _find_changes(data, bounds, *letter_classes(), changes)
            if changes.any():
                nfc, rows = normalizers.NFC(), np.flatnonzero(changes)
                changed = pa.array([nfc.normalize_str(texts[row].as_py()) for row in rows.tolist()], texts.type)
                texts = pc.replace_with_mask(texts, pa.array(changes), changed)
        if self._prefix:
            texts = pc.if_else(pc.starts_with(texts, " "), texts, pc.binary_join_element_wise(" ", texts, ""))
        return texts


def _added_table(added: Mapping[bytes, int]) -> Added:
    ordered = sorted(added, key=lambda piece: (piece[0], -len(piece)))
    begins = np.searchsorted([piece[0] for piece in ordered], np.arange(257)).astype(np.int64)
    bounds = np.zeros(len(ordered) + 1, np.int64)
    np.cumsum([len(piece) for piece in ordered], out=bounds[1:])
    ids = np.array([added[piece] for piece in ordered], np.uint32)
    return Added(begins, bounds, np.frombuffer(b"".join(ordered), np.uint8), ids)


@kernel
def _find_changes(data: U8, bounds: I64, block: U16, of_block: U8, changes: BOOL) -> None:
    """Which texts NFC may change."""
    for i in range(changes.shape[0]):
        at, end = bounds[i], bounds[i + 1]
        while at < end and not changes[i]:
            if data[at] < 0x80:
                at += 1
            else:
                changes[i] = class_at(data, at, block, of_block) & NFC_CHANGES != 0
                at += char_bytes(data[at])


@helper
def _find_added(data: U8, at: int, end: int, begins: I64, bounds: I64, pieces: U8) -> tuple[int, int]:
    """Place of the first added piece from `at` on, the longest there, and which it is; (end, -1): none."""
    while at < end:
        for which in range(begins[data[at]], begins[data[at] + 1]):
            size = bounds[which + 1] - bounds[which]
            same = 0
            while same < size and at + same < end and pieces[bounds[which] + same] == data[at + same]:
                same += 1
            if same == size:
                return at, which
        at += 1
    return end, -1


@kernel
def _encode(
    data: U8,
    bounds: I64,
    present: BOOL,
    head: U32,
    tail: U32,
    added_begins: I64,
    added_bounds: I64,
    added_data: U8,
    added_ids: U32,
    kind: int,
    digits: int,
    contractions: bool,
    slashes: bool,
    group_digits: int,
    numbers: int,
    block: U16,
    of_block: U8,
    first_ids: U32,
    pairs: U64,
    shift: np.uint64,
    whole_rows: U64,
    whole_bounds: I64,
    whole_data: U8,
    whole_ids: U32,
    short: U64,
    long: U64,
    kept: U32,
    used: I64,
    room: U64,
    state: I64,
    lengths: I64,
    out: U32,
) -> int:
    """Encode from `state` (text, place in it or -1, next added piece, end of the segment, place in `out`) on.

    Returns 0 when all is done, or for how many bytes there must be room to go on.
    """
    text, at, stop, segment, to = state[0], state[1], state[2], state[3], state[4]
    while text < present.shape[0]:
        end = bounds[text + 1]
        if at < 0:  # it begins
            at = stop = segment = bounds[text]
            lengths[text] = -to
            if present[text]:
                for k in range(head.shape[0]):
                    out[to] = head[k]
                    to += 1
            else:
                at = end
        while at < end:
            if at == stop:
                stop = end
                if added_ids.shape[0]:
                    stop, which = _find_added(data, at, end, added_begins, added_bounds, added_data)
                    if stop == at:
                        out[to] = added_ids[which]
                        to += 1
                        at += added_bounds[which + 1] - added_bounds[which]
                        stop = segment = at
                        continue
            if at == segment:
                segment = segment_end(data, at, stop, group_digits, numbers, block, of_block)
            behind = piece_end(data, at, segment, kind, digits, contractions, slashes, block, of_block)
            number = behind - at
            if number * ROOM_PER_BYTE > room.shape[0]:
                state[0], state[1], state[2], state[3], state[4] = text, at, stop, segment, to
                return number
            to = _encode_piece(
                data, at, number, first_ids, pairs, shift, whole_rows, whole_bounds, whole_data, whole_ids,
                short, long, kept, used, room, out, to,
            )  # fmt: skip
            at = behind
        if present[text]:
            for k in range(tail.shape[0]):
                out[to] = tail[k]
                to += 1
        lengths[text] += to
        text, at = text + 1, -1
    state[0], state[1], state[4] = text, at, to
    return 0


@helper
def _encode_piece(
    data: U8,
    at: int,
    number: int,
    first_ids: U32,
    pairs: U64,
    shift: np.uint64,
    whole_rows: U64,
    whole_bounds: I64,
    whole_data: U8,
    whole_ids: U32,
    short: U64,
    long: U64,
    kept: U32,
    used: I64,
    room: U64,
    out: U32,
    to: int,
) -> int:
    """Write the ids of one piece: where they end."""
    mixed = np.uint64(0)
    if number <= 15:
        behind = find_short(data, at, number, short, out, to)
        if behind >= 0:
            return behind
    if number <= LONGEST:
        mixed = hash_bytes(data, at, number)
        behind = find_long(data, at, number, mixed, long, kept, out, to)
        if behind >= 0:
            return behind
    behind = -1
    if whole_rows.shape[0] > 1:
        if number > LONGEST:
            mixed = hash_bytes(data, at, number)
        one = find_whole(data, at, number, mixed, whole_rows, whole_bounds, whole_data, whole_ids)
        if one >= 0:
            out[to] = np.uint32(one)
            behind = to + 1
    if behind < 0:
        behind = merge_piece(data, at, at + number, first_ids, pairs, shift, room, out, to)
    count = behind - to
    if number <= 15 and count <= 3:
        keep_short(data, at, number, short, out, to, count)
    elif number <= LONGEST:
        keep_long(data, at, number, mixed, long, kept, used, out, to, count)
    return behind
