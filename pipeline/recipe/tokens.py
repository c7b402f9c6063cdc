"""The tokenizer, and the rows that its tokens are packed into."""

from typing import Literal

from pydantic import ByteSize, Field, model_validator
from pydantic_core import PydanticCustomError

from tokenmill.manifests.shards import not_aligned
from tokenmill.pipeline.recipe.strict import Strict
from tokenmill.pipeline.tokens.piece_cache import CACHE_BYTES

#: Names of `byte_level.NAMED_PATTERNS`.
PatternName = Literal["gpt2", "llama3", "qwen2", "o200k"]


class TrainTokenizer(Strict):
    """Train a byte-level BPE on a sample of kept text."""

    vocab_size: int = Field(ge=300)
    sample_bytes: ByteSize = ByteSize(64 << 20)
    pattern: PatternName = "llama3"  # how text is cut before pairs are counted


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
        return tuple(token for token in (self.bos, self.eos, self.pad, self.mask) if token is not None)


class Sequences(Strict):
    """The packed rows."""

    length: int = Field(ge=8)
    packing: Literal["best_fit", "concat"] = "best_fit"
    whole_documents: bool = False
    align: int = Field(1, ge=1)
    unit_bytes: ByteSize = ByteSize(384 << 20)

    @model_validator(mode="after")
    def _whole_blocks(self) -> "Sequences":
        if self.length % self.align:
            raise PydanticCustomError("sequences", "{error}", {"error": not_aligned(self.length, self.align)})
        return self
