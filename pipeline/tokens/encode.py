"""Encode documents with any Hugging Face `tokenizer.json`, so that no text can inject a control id.

`tokenizers` turns every added token that it meets in a text into that token's id, so a page that shows `<|endoftext|>`
or the mask token would inject one. Its switch `encode_special_tokens` is no cure (0.23.3, see test_encode.py): it
leaves added tokens not marked special, such as Qwen's `<tool_call>`; Unigram, WordLevel and BPE models find `<s>` in
their own vocabulary. So the JSON is changed before `tokenizers` reads it: control tokens leave the list of added tokens
and their pieces get names that no text has. Ids stay as they are.

*Control tokens* are all added tokens but those that are white space and not marked special (runs of spaces and
newlines, as in GPT-NeoX and Gemma, are ordinary pieces of text), plus whatever the policy names. Ids are those that the
JSON states; `tokenizers` alone numbers added tokens anew where the vocabulary has a hole.

Byte-level BPE with a known pre-tokenizer (`byte_level`) and BPE with byte fallback in SentencePiece's manner
(`sentence_pieces`) go through our own kernels, if these encode `probes.PROBES` as `tokenizers` does; everything else
goes to `tokenizers`, and `Encoder.slow_because` says why.

Memory: one call encodes texts of a few MiB together, or one longer text alone. Our kernels hold 4 bytes a byte of text
meanwhile, and 32 a byte of its longest piece; `tokenizers` about 100 a byte (measured: 3.4 GB for one document of
32 MiB). The result takes 0.5 to 1 bytes a byte of text, twice that while it is put together.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from tokenizers import Tokenizer

from tokenmill.dedup.shingles import text_buffers
from tokenmill.kernels import kernel
from tokenmill.manifests.shards import token_dtype
from tokenmill.pipeline.tokens import byte_level, sentence_pieces
from tokenmill.pipeline.tokens.added_pieces import Unknown, added_pieces, count_pieces
from tokenmill.pipeline.tokens.byte_level_encoder import ByteLevelEncoder
from tokenmill.pipeline.tokens.piece_cache import CACHE_BYTES
from tokenmill.pipeline.tokens.probes import PROBES
from tokenmill.pipeline.tokens.sentence_pieces_encoder import SentencePiecesEncoder
from tokenmill.pipeline.tokens.tokenizer_json import hide, is_text, load, parse, token_ids, unknown_token

# One task, one core. Set once, when this module is imported: `tokenizers` reads it at each call, and changing the
# environment around a call would race with other threads that read theirs.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]
#: uint16 or uint32
Tokens = npt.NDArray[Any]

#: Text of one call: `tokenizers` holds much a byte meanwhile, our kernels four bytes.
_SLOW_CALL_BYTES, _FAST_CALL_BYTES = 1 << 20, 8 << 20


@dataclass(frozen=True)
class TokenizerPolicy:
    """Which tokens of the vocabulary play which part, and what stands around each document.

    Attributes:
        bos: content of the token that begins a document, such as "<|begin_of_text|>"; None where there is none.
        eos: ends a document.
        pad: fills rows.
        mask: the absorbing token of masked diffusion; never appears in a shard.
        prepend_bos: every document begins with `bos`.
        append_eos: every document ends with `eos`.
    """

    bos: str | None
    eos: str | None
    pad: str | None
    mask: str | None
    prepend_bos: bool = False
    append_eos: bool = True

    def __post_init__(self) -> None:
        if self.prepend_bos and self.bos is None:
            raise ValueError("prepend_bos is on, but the tokenizer policy names no bos: name one, or turn it off")
        if self.append_eos and self.eos is None:
            raise ValueError("append_eos is on, but the tokenizer policy names no eos: name one, or turn it off")
        if self.mask is not None and self.mask in (self.bos, self.eos, self.pad):
            raise ValueError(f"mask {self.mask!r} is also bos, eos or pad: the mask must never appear in a shard")

    @property
    def names(self) -> dict[str, str | None]:
        """Content of each special token: bos, eos, pad, mask."""
        return {"bos": self.bos, "eos": self.eos, "pad": self.pad, "mask": self.mask}


@dataclass(frozen=True)
class EncodedBatch:
    """Token ids of n documents, one after another.

    Attributes:
        tokens: uint16 or uint32 [offsets[n]], BOS and EOS included.
        offsets: int64[n+1], first token of each document.
        spelled_controls: how often the documents spell a control token; it is encoded as the text that it is.
        answers: of conversations: bool [offsets[n]], tokens that an assistant gave and that are trained on.
        roles: of conversations: int8 [offsets[n]], whose each token is, as `pipeline.chat.plan` numbers them.
        chosen_lengths: of preference pairs: int64 [n], tokens of the chosen conversation, before the rejected one.
        checks: of prompts whose answers are checked: n rows of CHECKS.
    """

    tokens: Tokens
    offsets: I64
    spelled_controls: int = 0
    answers: BOOL | None = None
    roles: npt.NDArray[np.int8] | None = None
    chosen_lengths: I64 | None = None
    checks: pa.RecordBatch | None = None

    @property
    def lengths(self) -> I64:
        """int64[n], tokens of each document."""
        return np.diff(self.offsets)


def join(batches: Sequence[EncodedBatch]) -> EncodedBatch:
    """The documents of several batches (at least one, all of conversations or none) in order, as one, without roles."""
    lengths = np.concatenate([batch.lengths for batch in batches])
    tokens = np.concatenate([batch.tokens for batch in batches])
    marks = [batch.answers for batch in batches if batch.answers is not None]
    pairs = [batch.chosen_lengths for batch in batches if batch.chosen_lengths is not None]
    checks = [batch.checks for batch in batches if batch.checks is not None]
    return EncodedBatch(
        tokens,
        _offsets(lengths),
        answers=np.concatenate(marks) if marks else None,
        chosen_lengths=np.concatenate(pairs) if pairs else None,
        checks=pa.Table.from_batches(checks).combine_chunks().to_batches()[0] if checks else None,
    )


def chosen(batch: EncodedBatch, keep: BOOL) -> EncodedBatch:
    """The documents of a batch that are to be kept: bool [n]."""
    if keep.all():
        return batch
    inside = np.repeat(keep, batch.lengths)
    answers = None if batch.answers is None else batch.answers[inside]
    roles = None if batch.roles is None else batch.roles[inside]
    pairs = None if batch.chosen_lengths is None else batch.chosen_lengths[keep]
    checks = None if batch.checks is None else batch.checks.filter(pa.array(keep))
    offsets = _offsets(batch.lengths[keep])
    return EncodedBatch(batch.tokens[inside], offsets, batch.spelled_controls, answers, roles, pairs, checks)


class Encoder:
    """A tokenizer as a function from texts to token ids.

    Attributes:
        policy: as given.
        hash: xxh3-128 (hex) of the JSON's bytes.
        vocab_size: largest id + 1, added tokens included; ids between may be unused.
        dtype: `pa.uint16()` or `pa.uint32()`.
        special_ids: ids of bos, eos, pad and mask; -1 where the policy names none.
        control_ids: int64, sorted: ids that no text produces. The model's unknown token is not among them.
        slow_because: why `tokenizers` encodes; None where our own kernels do (see `byte_level`).
    """

    def __init__(self, tokenizer_json: bytes, policy: TokenizerPolicy, cache_bytes: int = CACHE_BYTES) -> None:
        """Read the bytes of a `tokenizer.json`; truncation, padding and dropout that it configures are turned off.

        Our kernels keep pieces seen before, and their ids, in `cache_bytes`: ids are the same whatever they keep.

        Raises:
            ValueError: the bytes are no tokenizer.json, or it lacks a token that the policy names.
        """
        value = parse(tokenizer_json)
        ids = token_ids(value)
        unknown = unknown_token(value["model"])
        named = {name for name in policy.names.values() if name is not None}
        for part, name in policy.names.items():
            if name is not None and name not in ids:
                raise ValueError(_missing(part, name, value["added_tokens"], ids))
        if policy.mask is not None and policy.mask == unknown:
            raise ValueError(f"mask {policy.mask!r} is the model's unknown token, which text can produce: name another")
        control = named | {token["content"] for token in value["added_tokens"] if not is_text(token)}
        control.discard(unknown or "")
        self.policy = policy
        self.hash = xxhash.xxh3_128_hexdigest(tokenizer_json)
        self.vocab_size = max(ids.values()) + 1
        self.dtype = token_dtype(self.vocab_size)
        self.special_ids = {part: -1 if name is None else ids[name] for part, name in policy.names.items()}
        self.control_ids: I64 = np.array(sorted({ids[name] for name in control}), dtype=np.int64)
        hide(value, control, set(self.control_ids.tolist()), prefix=f"\U0010ffff{self.hash}:")
        self._controls = added_pieces({name.encode(): ids[name] for name in control})
        self._tokenizer = load(value)
        self._fast, self.slow_because = _fast_path(value, self._tokenizer, cache_bytes)
        self._is_control = np.zeros(self.vocab_size, dtype=np.bool_)
        self._is_control[self.control_ids] = True

    @property
    def encoded_by(self) -> str:
        """Who encodes, in words: "our kernels" or "tokenizers, because …"."""
        return "our kernels" if self.slow_because is None else f"tokenizers, because {self.slow_because}"

    def encode(self, texts: pa.LargeStringArray) -> EncodedBatch:
        """Token ids of each text, BOS and EOS as the policy says; a null has none, an empty text only BOS and EOS.

        Raises:
            ValueError: a text produced a control id (a bug, or a model whose pieces cannot be hidden).
        """
        head = [self.special_ids["bos"]] if self.policy.prepend_bos else []
        tail = [self.special_ids["eos"]] if self.policy.append_eos else []
        tokens, lengths = [np.zeros(0, self.dtype.to_pandas_dtype())], [np.zeros(0, np.int64)]
        for start, stop in _calls(texts, _SLOW_CALL_BYTES if self._fast is None else _FAST_CALL_BYTES):
            part = texts.slice(start, stop - start)
            if self._fast is None:
                ids, counts = _encode_slowly(self._tokenizer, part, head, tail)
            else:
                ids, counts = self._fast.encode(part, head, tail)
            tokens.append(ids.astype(tokens[0].dtype))
            lengths.append(counts)
        spelled = count_pieces(texts, self._controls)
        ids = tokens[1] if len(tokens) == 2 else np.concatenate(tokens)
        batch = EncodedBatch(ids, _offsets(np.concatenate(lengths)), spelled)
        self._check(batch, texts)
        return batch

    def _check(self, batch: EncodedBatch, texts: pa.LargeStringArray) -> None:
        """Raise unless control ids stand exactly where the policy puts BOS and EOS, and nulls have no token."""
        present = np.asarray(pc.is_valid(texts))
        ends = []
        if self.policy.prepend_bos:
            ends.append((self.special_ids["bos"], batch.offsets[:-1][present]))
        if self.policy.append_eos:
            ends.append((self.special_ids["eos"], batch.offsets[1:][present] - 1))
        for token, places in ends:
            if np.any(batch.tokens[places] != token):
                raise ValueError(f"token {token}, due at one end of every document, is missing in at least one")
        around = (int(self.policy.prepend_bos), int(self.policy.append_eos))
        wrong = _first_control(batch.tokens, batch.offsets, present, *around, self._is_control)
        if wrong >= 0:
            document = int(np.searchsorted(batch.offsets, wrong, side="right")) - 1
            raise ValueError(
                f"text {document} of the batch produced control id {batch.tokens[wrong]} at its token "
                f"{wrong - batch.offsets[document]}; the tokenizer's model makes it from plain text: use another"
            )


@kernel
def _first_control(tokens: Tokens, offsets: I64, present: BOOL, before: int, behind: int, is_control: BOOL) -> int:
    """Place of the first control id between what stands before and behind each text, or -1."""
    least, largest = is_control.shape[0], -1
    for token in range(is_control.shape[0]):
        if is_control[token]:
            least, largest = min(least, token), token
    for text in range(present.shape[0]):
        if present[text]:
            first, end, found = offsets[text] + before, offsets[text + 1] - behind, 0
            for place in range(first, end):  # without a branch, so that many are looked at together
                found += (tokens[place] >= least) & (tokens[place] <= largest)
            for place in range(first, end if found else first):
                if is_control[tokens[place]]:
                    return place
    return -1


def _offsets(lengths: I64) -> I64:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


def _fast_path(
    value: Mapping[str, Any], tokenizer: Tokenizer, cache_bytes: int
) -> tuple[ByteLevelEncoder | SentencePiecesEncoder | None, str | None]:
    """The encoder of our own kernels, or why there is none: what they don't know, or a probe that comes out otherwise.

    Args:
        value: the tokenizer.json, its control tokens hidden.
        tokenizer: the same in `tokenizers`.
        cache_bytes: of the kernels' pieces seen before.
    """
    try:
        fast = _kernels_for(value, cache_bytes)
    except Unknown as unknown:
        return None, str(unknown)
    ids, lengths = fast.encode(pa.array(PROBES, pa.large_string()), (), ())
    ends = np.cumsum(lengths)
    expected = tokenizer.encode_batch_fast(list(PROBES), add_special_tokens=False)
    for probe, encoding, end, length in zip(PROBES, expected, ends.tolist(), lengths.tolist(), strict=True):
        found = ids[end - length : end].tolist()
        if found != encoding.ids:
            return None, f"its own ids of {probe[:40]!r} are {encoding.ids[:8]}…, those of our kernels {found[:8]}…"
    return fast, None


def _kernels_for(value: Mapping[str, Any], cache_bytes: int) -> ByteLevelEncoder | SentencePiecesEncoder:
    """Raises Unknown, naming what neither knows."""
    if value["model"].get("byte_fallback"):
        return SentencePiecesEncoder(sentence_pieces.read(value), cache_bytes)
    return ByteLevelEncoder(byte_level.read(value), cache_bytes)


def _encode_slowly(
    tokenizer: Tokenizer, texts: pa.LargeStringArray, head: Sequence[int], tail: Sequence[int]
) -> tuple[npt.NDArray[np.uint32], I64]:
    """`ByteLevelEncoder.encode` by `tokenizers`."""
    rows = np.flatnonzero(np.asarray(pc.is_valid(texts)))
    found = tokenizer.encode_batch_fast(texts.take(pa.array(rows)).to_pylist(), add_special_tokens=False)
    lengths = np.zeros(len(texts), np.int64)
    ids: list[int] = []
    for row, encoding in zip(rows.tolist(), found, strict=True):
        before = len(ids)
        ids += head
        ids += encoding.ids
        ids += tail
        lengths[row] = len(ids) - before
    return np.array(ids, np.uint32), lengths


def _calls(texts: pa.LargeStringArray, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Ranges of texts that one call encodes: as many as fit in `most_bytes`, at least one."""
    _, bounds = text_buffers(texts)
    start = 0
    while start < len(texts):
        stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + most_bytes, side="right")) - 1)
        yield start, stop
        start = stop


def _missing(part: str, name: str, added: Sequence[Mapping[str, Any]], ids: Mapping[str, int]) -> str:
    contents = [token["content"] for token in added]
    near = difflib.get_close_matches(name, contents, n=5, cutoff=0.4) or contents[:8]
    hint = f"nearest added tokens: {', '.join(repr(token) for token in near)}" if near else "it has no added tokens"
    return f"the tokenizer policy names {part} {name!r}, which is not among the tokenizer's {len(ids)} tokens; {hint}"
