"""The texts between control tokens, encoded as `tokenizers` encodes them within a whole rendering.

Our Encoder takes each text alone. In a rendering a text may follow a control token, and a tokenizer may treat it
otherwise: Metaspace's `prepend_scheme: first` puts a blank before the first text only, added tokens with `lstrip` or
`rstrip` take blanks away, `single_word` ones are not found within a word. So each control token that a template prints
is tried, in probes, against `tokenizers` with the tokenizer as it is; what comes out otherwise goes the slow way
(`WholeText`): `tokenizers` encodes the rendering, and tells which characters each token stands for.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from tokenmill.dedup.shingles import text_buffers
from tokenmill.pipeline.chat.token_places import place_tokens, token_bytes
from tokenmill.pipeline.chat.weaving import woven
from tokenmill.pipeline.tokens.byte_level_kernel import find_changes
from tokenmill.pipeline.tokens.encode import Encoder, TokenizerPolicy
from tokenmill.pipeline.tokens.letter_classes import letter_classes
from tokenmill.pipeline.tokens.piece_cache import CACHE_BYTES
from tokenmill.pipeline.tokens.tokenizer_json import hide, load, parse, token_ids, unknown_token

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]
#: A control token stands at each @: probes that tell whether it changes the texts around it.
_PROBES = ("@", "a@b", "a @ b", "a\n@\n\nb", " @  é", "@@", "@ @", "word@\nThe text, and 12 more.", "  @a", "数@学")


class Segments(NamedTuple):
    """Tokens of n texts, one after another.

    Attributes:
        tokens: uint16 or uint32.
        bounds: int64[n + 1].
        starts: int32 a token: the first byte of the text that it stands for.
        ends: one past the last.
        spelled_controls: how often the texts spell a control token.
    """

    tokens: npt.NDArray[Any]
    bounds: I64
    starts: I32
    ends: I32
    spelled_controls: int


class _Alone:
    """One tokenizer for texts that stand alone, or all behind a control token."""

    def __init__(
        self, tokenizer_json: bytes, value: Mapping[str, Any], policy: TokenizerPolicy, cache_bytes: int
    ) -> None:
        self.encoder = Encoder(tokenizer_json, policy, cache_bytes)
        size = self.encoder.vocab_size
        fast = self.encoder.slow_because is None
        self._lengths = token_bytes(value, size) if fast else np.full(size, -1, np.int32)
        self._json = tokenizer_json
        self._changes = bool(value.get("normalizer")) and not value["model"].get("byte_fallback")

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """The tokenizer in `tokenizers`, control tokens hidden; most units of conversations never need it."""
        value = parse(self._json)
        control_ids = set(self.encoder.control_ids.tolist())
        control = {name for name, i in token_ids(value).items() if i in control_ids}
        hide(value, control, control_ids, prefix=f"\U0010ffff{self.encoder.hash}:")
        return load(value)

    def encode(self, texts: pa.LargeStringArray, several: BOOL) -> Segments:
        """Tokens of texts; which bytes they stand for matters only in those of several pieces."""
        batch = self.encoder.encode(texts)
        data, bounds = text_buffers(texts)
        starts, ends = (np.zeros(len(batch.tokens), np.int32) for _ in range(2))
        odd = np.zeros(len(texts), np.bool_)
        place_tokens(batch.tokens, batch.offsets, bounds, self._lengths, True, starts, ends, odd)
        if self._changes:
            changed = np.zeros(len(texts), np.bool_)
            find_changes(data, bounds, np.ones(len(texts), np.bool_), *letter_classes(), changed)
            odd |= changed
        for text in np.flatnonzero(odd & several).tolist():
            at = slice(batch.offsets[text], batch.offsets[text + 1])
            self._ask(texts[text].as_py(), batch.tokens[at], starts[at], ends[at])
        return Segments(batch.tokens, batch.offsets, starts, ends, batch.spelled_controls)

    def _ask(self, text: str, tokens: npt.NDArray[Any], starts: I32, ends: I32) -> None:
        """Ask `tokenizers` which bytes the tokens of a text stand for."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if encoding.ids != tokens.tolist():
            raise ValueError(f"`tokenizers` gives other tokens of {text[:80]!r} than our kernels: report it")
        places = np.zeros(len(text) + 1, np.int64)
        np.cumsum([len(character.encode()) for character in text], out=places[1:])
        starts[:], ends[:] = places[np.array(encoding.offsets, np.int64).reshape(-1, 2)].T


class SegmentEncoder:
    """Encodes the texts between control tokens.

    Attributes:
        ids: of the control tokens, by name.
        slow_because: why it cannot; None: it can.
    """

    def __init__(self, tokenizer_json: bytes, policy: TokenizerPolicy, cache_bytes: int = CACHE_BYTES) -> None:
        """Raises ValueError where Encoder does."""
        value = parse(tokenizer_json)
        policy = replace(policy, prepend_bos=False, append_eos=False)
        self._first = self._rest = _Alone(tokenizer_json, value, policy, cache_bytes)
        self.encoder = self._first.encoder
        unknown = unknown_token(value["model"])
        control_ids = set(self.encoder.control_ids.tolist())
        self.ids = {name: i for name, i in token_ids(value).items() if i in control_ids and name != unknown}
        self.slow_because = self.encoder.slow_because
        self.whole = WholeText(value)
        self._tried: dict[str, bool] = {}
        pre = value.get("pre_tokenizer") or {}
        if pre.get("type") == "Metaspace" and pre.get("prepend_scheme") == "first":
            rest = copy.deepcopy(value)
            rest["pre_tokenizer"]["prepend_scheme"] = "never"
            rest["pre_tokenizer"].pop("add_prefix_space", None)
            self._rest = _Alone(json.dumps(rest).encode(), rest, policy, cache_bytes)

    def encode(self, texts: pa.LargeStringArray, first: BOOL, several: BOOL) -> Segments:
        """Tokens of texts.

        Args:
            texts: n of them.
            first: bool[n], no control token stands before it.
            several: bool[n], which bytes its tokens stand for matters.
        """
        if self._first is self._rest or first.all():
            return self._first.encode(texts, several)
        halves = (
            self._first.encode(texts.filter(pa.array(first)), several[first]),
            self._rest.encode(texts.filter(pa.array(~first)), several[~first]),
        )
        return _in_order(halves, first)

    def knows(self, names: Sequence[str]) -> bool:
        """Whether texts between these control tokens come out as `tokenizers` has them."""
        for name in names if self.slow_because is None else ():
            if name not in self._tried:
                self._tried[name] = all(self._agrees(name, probe) for probe in _PROBES)
        return self.slow_because is None and all(map(self._tried.__getitem__, names))

    def _agrees(self, name: str, probe: str) -> bool:
        parts = probe.split("@")
        texts = pa.array(parts, pa.large_string())
        found = self.encode(texts, np.arange(len(parts)) == 0, np.zeros(len(parts), np.bool_))
        ids: list[int] = []
        for at in range(len(parts)):
            ids += [self.ids[name]] if at else []
            ids += found.tokens[found.bounds[at] : found.bounds[at + 1]].tolist()
        return ids == self.whole.encode(probe.replace("@", name))[0]


class WholeText:
    """A tokenizer as it is, control tokens and all."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        """`value` is the tokenizer.json; truncation, padding and what goes around a text are left out."""
        model = value["model"] | ({"dropout": None} if "dropout" in value["model"] else {})
        left_out = {"truncation": None, "padding": None, "post_processor": None}
        self._tokenizer: Tokenizer = load({**value, **left_out, "model": model})

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and the characters that each stands for."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets


def _in_order(halves: tuple[Segments, Segments], first: BOOL) -> Segments:
    """Texts of two encoders, in order."""
    one, two = halves
    columns = [(getattr(one, name), getattr(two, name)) for name in ("tokens", "starts", "ends")]
    bounds, (tokens, starts, ends) = woven(first, (one.bounds, two.bounds), columns)
    return Segments(tokens, bounds, starts, ends, one.spelled_controls + two.spelled_controls)
