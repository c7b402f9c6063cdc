"""How the documents that *pack* reads become tokens: as texts, or as conversations.

A process keeps what it has last made of a tokenizer and a template: the next unit mostly asks for the same, which takes
a second to make, and finds the cache of pieces full.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from tokenmill.pipeline.chat.coder import ChatCoder
from tokenmill.pipeline.kept import KeptBatch
from tokenmill.pipeline.steps.template import of_json
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tokens.encode import EncodedBatch, Encoder, TokenizerPolicy
from tokenmill.pipeline.tokens.round_trip import Decoder, PartRoundTrip
from tokenmill.pipeline.units import Unit


class Coder(Protocol):
    """How kept documents become tokens.

    Attributes:
        encoder: of their texts, which knows the tokenizer.
    """

    encoder: Encoder

    def encode(self, part: str, batch: KeptBatch) -> tuple[EncodedBatch, Sequence[str | None]]:
        """Tokens of the documents, and why each is left out; None: it is not."""

    def notes(self) -> dict[str, int]:
        """What was noticed on the way, by the names of PACK_NOTES."""


class TextCoder:
    """Documents are their texts. Some are decoded again and compared."""

    def __init__(self, tokenizer_json: bytes, encoder: Encoder) -> None:
        self.encoder, self._decoder = encoder, Decoder(tokenizer_json, encoder)
        self._parts: dict[str, PartRoundTrip] = {}

    def encode(self, part: str, batch: KeptBatch) -> tuple[EncodedBatch, Sequence[str | None]]:
        """Tokens of the texts; none is left out."""
        encoded = self.encoder.encode(batch.texts)
        if part not in self._parts:
            self._parts[part] = PartRoundTrip(self._decoder, part)
        self._parts[part].check(batch.rows, batch.texts, encoded)
        return encoded, [None] * len(batch.rows)

    def notes(self) -> dict[str, int]:
        """How many were decoded again, and of how many another text came."""
        return {
            "round_trip_documents": sum(trip.documents for trip in self._parts.values()),
            "round_trip_differing": sum(trip.differing for trip in self._parts.values()),
        }


class ConversationCoder:
    """Documents are conversations."""

    def __init__(self, coder: ChatCoder) -> None:
        self._coder, self.encoder = coder, coder.encoder

    def encode(self, part: str, batch: KeptBatch) -> tuple[EncodedBatch, Sequence[str | None]]:
        """Tokens of the conversations; see `ChatCoder.encode`."""
        if batch.turns is None:
            raise ValueError(f"part {part} has no turns: its documents are no conversations; delete its receipts")
        return self._coder.encode(batch.texts, batch.turns)

    def notes(self) -> dict[str, int]:
        """Nothing."""
        return {}


def coder_of(
    storage: Storage, unit: Unit, tokenizer_json: bytes, policy: TokenizerPolicy, cache_bytes: int, layout: str
) -> Coder:
    """How the documents of a unit become tokens of rows of that layout."""
    if unit.template is None:
        return TextCoder(tokenizer_json, _encoder(tokenizer_json, policy, cache_bytes))
    template = storage.read(unit.template.path)
    return ConversationCoder(_chat_coder(tokenizer_json, template, policy, layout, cache_bytes))


@lru_cache(maxsize=1)
def _encoder(tokenizer_json: bytes, policy: TokenizerPolicy, cache_bytes: int) -> Encoder:
    return Encoder(tokenizer_json, policy, cache_bytes)


@lru_cache(maxsize=1)
def _chat_coder(
    tokenizer_json: bytes, template: bytes, policy: TokenizerPolicy, layout: str, cache_bytes: int
) -> ChatCoder:
    return ChatCoder(tokenizer_json, of_json(template), policy, layout, cache_bytes)
