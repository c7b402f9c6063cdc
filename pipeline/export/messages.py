"""Conversations of packed rows as messages: from `documents` and `turns`, after every edit, in stored order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tokenmill.pipeline.chat.coder import sample_of
from tokenmill.pipeline.chat.conversation import Conversation
from tokenmill.pipeline.chat.turns import conversations_of
from tokenmill.pipeline.edited import edited_conversations
from tokenmill.pipeline.export.rows import I32
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import open_groups

Made = TypeVar("Made")


@dataclass(frozen=True)
class PartTables:
    """Where the conversations of a part lie.

    Attributes:
        key: of the part.
        documents: path of their texts.
        turns: path of their turns.
        edits: paths of the edits, in the order in which they apply.
    """

    key: str
    documents: str
    turns: str
    edits: tuple[str, ...]


def read_messages(
    storage: Storage, tables: Sequence[PartTables], parts: I32, rows: I32, make: Callable[[Conversation], Made]
) -> list[Made]:
    """What `make` makes of each of n conversations: of a preference pair, as in *pack*, of the chosen one.

    Args:
        storage: the run's folder.
        tables: of the unit's parts.
        parts: int32 [n], which of them each is of.
        rows: int32 [n], its row there.
        make: of a conversation.

    Raises:
        ValueError: a conversation that was packed has no text any more.
    """
    found: dict[int, Made] = {}
    for index in np.unique(parts).tolist():
        places = np.flatnonzero(parts == index)
        places = places[np.argsort(rows[places], kind="stable")]
        _read_part(storage, tables[index], rows[places], places, make, found)
    return [found[place] for place in range(len(rows))]


def _read_part(
    storage: Storage,
    table: PartTables,
    wanted: I32,
    places: np.ndarray[tuple[int], np.dtype[np.int64]],
    make: Callable[[Conversation], Made],
    found: dict[int, Made],
) -> None:
    """Enter what is made of the wanted rows, which rise, by their places."""
    with open_groups(storage, table.documents) as documents:
        for texts, first, turns in edited_conversations(storage, documents, list(table.edits), table.turns):
            begin, end = np.searchsorted(wanted, [first, first + len(texts)])
            inside = pa.array(wanted[begin:end] - first)
            assert turns is not None
            conversations = conversations_of(texts.take(inside), turns.take(inside))
            for place, row, conversation in zip(
                places[begin:end].tolist(), wanted[begin:end].tolist(), conversations, strict=True
            ):
                sample = sample_of(conversation)
                if sample is None:
                    raise ValueError(
                        f"document {table.key}:{row} was packed and has no text any more; run the recipe again"
                    )
                found[place] = make(sample)
