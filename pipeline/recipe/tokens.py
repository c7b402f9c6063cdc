"""The tokenizer, the template of conversations, and the rows that their tokens are packed into."""

import datetime
import itertools
from typing import Literal

from pydantic import ByteSize, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from tokenmill.manifests.shards import DIALOGUE, PREFERENCE, PRETRAINING, PROMPTS, not_aligned
from tokenmill.pipeline.recipe.strict import Strict
from tokenmill.pipeline.tokens.piece_cache import CACHE_BYTES

#: Names of `byte_level.NAMED_PATTERNS`.
PatternName = Literal["gpt2", "llama3", "qwen2", "o200k"]


class TrainTokenizer(Strict):
    """Train a byte-level BPE on a sample of kept text."""

    vocab_size: int = Field(ge=300)
    sample_bytes: ByteSize = ByteSize(64 << 20)
    pattern: PatternName = "llama3"  # how text is cut before pairs are counted
    control_tokens: tuple[str, ...] = ()  # beside bos, eos, pad and mask: those of a chat template


class Tokenizer(Strict):
    """A `tokenizer.json` by path, or one trained here; the special tokens; room for pieces seen before."""

    path: str | None = None
    train: TrainTokenizer | None = None
    bos: str | None = None
    eos: str | None = "<|endoftext|>"
    pad: str | None = None
    mask: str | None = "<|mask|>"
    prepend_bos: bool = False
    append_eos: bool = True
    cache_bytes: ByteSize = ByteSize(CACHE_BYTES)

    @model_validator(mode="after")
    def _one_of(self) -> "Tokenizer":
        if (self.path is None) == (self.train is None):
            raise PydanticCustomError("tokenizer", "give either `path` (a tokenizer.json) or `train`, one of them")
        return self

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The special tokens this recipe names, in the order in which a trained tokenizer numbers them."""
        named = tuple(token for token in (self.bos, self.eos, self.pad, self.mask) if token is not None)
        more = self.train.control_tokens if self.train is not None else ()
        return (*named, *(token for token in more if token not in named))


class Template(Strict):
    """How conversations become text: Jinja by path or as it stands; neither: what lies beside the tokenizer.json.

    Attributes:
        name: of several templates in a tokenizer_config.json.
        variables: what the template sees beside messages and tools, such as `enable_thinking: false`.
        date: what a template that prints today's date prints: the same on every day.
    """

    path: str | None = None
    text: str | None = None
    name: str = "default"
    variables: dict[str, JsonValue] = Field(default_factory=dict)
    date: datetime.date | None = None

    @model_validator(mode="after")
    def _one_of(self) -> "Template":
        if self.path is not None and self.text is not None:
            raise PydanticCustomError("template", "give either `path` or `text`, or neither: the tokenizer's own")
        return self


class Sequences(Strict):
    """The packed rows.

    Attributes:
        length: tokens a row (L); with `buckets` the longest.
        buckets: shorter rows, rising, of those that have one for each: it goes into the shortest that holds it.
        layout: documents; or conversations, several a row (concat) or each in a row of its own (dialogue); or pairs
            of a chosen and a rejected one, a pair a row (preference); or prompts whose answers are checked (prompts).
        packing: how rows are filled.
        whole_documents: what is longer than a row is left out, and counted; by default conversations are, documents
            are cut.
    """

    length: int = Field(ge=8)
    layout: Literal["pretraining", "concat", "dialogue", "preference", "prompts"] = "pretraining"
    packing: Literal["best_fit", "concat"] = "best_fit"
    whole_documents: bool | None = None
    align: int = Field(1, ge=1)
    buckets: tuple[int, ...] = ()
    unit_bytes: ByteSize = ByteSize(384 << 20)

    @model_validator(mode="after")
    def _a_row_a_dialogue(self) -> "Sequences":
        if not self.one_a_row:
            return self
        if "packing" in self.model_fields_set:
            message = f"`packing` says nothing to `layout: {self.layout}`, which has a row for each: take it out"
            raise PydanticCustomError("sequences", "{error}", {"error": message})
        if self.whole_documents is False:
            message = f"each has one row: with `layout: {self.layout}` none can be cut"
            raise PydanticCustomError("sequences", "{error}", {"error": message})
        if self.layout == PREFERENCE and self.align > 1:
            raise PydanticCustomError("sequences", "`align` says nothing to `layout: preference`: take it out")
        return self

    @model_validator(mode="after")
    def _buckets_rise(self) -> "Sequences":
        if not self.buckets:
            return self
        if not self.one_a_row:
            message = f"`buckets` are for layouts with a row for each; `layout: {self.layout}` fills rows"
            raise PydanticCustomError("sequences", "{error}", {"error": message})
        if any(first >= second for first, second in itertools.pairwise((0, *self.lengths))):
            message = "`buckets` are row lengths above 0, rising, below `length` ({length}), such as [512, 1024, 2048]"
            raise PydanticCustomError("sequences", message, {"length": self.length})
        return self

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the rows that there may be, rising."""
        return (*self.buckets, self.length)

    @property
    def of_conversations(self) -> bool:
        """Whether rows hold conversations."""
        return self.layout != PRETRAINING

    @property
    def one_a_row(self) -> bool:
        """Whether each conversation, or pair, has a row of its own."""
        return self.layout in (DIALOGUE, PREFERENCE, PROMPTS)

    @property
    def leaves_out_long(self) -> bool:
        """Whether what is longer than a row is left out."""
        return self.of_conversations if self.whole_documents is None else self.whole_documents

    @property
    def method(self) -> Literal["best_fit", "concat", "one_a_row"]:
        """How rows are filled, as `PackingPolicy` has it."""
        return "one_a_row" if self.one_a_row else self.packing

    @model_validator(mode="after")
    def _whole_blocks(self) -> "Sequences":
        for length in self.lengths:
            if length % self.align:
                raise PydanticCustomError("sequences", "{error}", {"error": not_aligned(length, self.align)})
        return self
