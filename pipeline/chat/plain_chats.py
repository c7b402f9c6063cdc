"""Plain conversations, of which Python sees one of a shape: a kernel lays their items and pieces out.

A conversation is plain when its turns have roles and contents alone, when the template takes one way for all of its
roles, looking at no content, and when all that it prints are literals and contents, whole or stripped. So are those of
most sets under most templates: Qwen2.5's, Llama 3's, Gemma's, Mistral's and LLaDA's of tests/pipeline/chat/layouts.py.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.dedup.shingles import text_buffers
from tokenmill.filters.turns import TurnSpans, turn_spans
from tokenmill.pipeline.chat.conversation import Conversation
from tokenmill.pipeline.chat.plain_chats_kernel import Contents, Plans, lay_out, measure, shape_keys
from tokenmill.pipeline.chat.plan import ASSISTANT, Plan
from tokenmill.pipeline.chat.turns import conversations_of
from tokenmill.pipeline.tokens.added_pieces import added_pieces

I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]
_EMPTY = np.zeros((0, 3), np.int32)


class LaidOut(NamedTuple):
    """Plain conversations of a batch.

    Attributes:
        plain: bool [n], which of the batch they are.
        items: int32[k, 3], theirs, as a Plan has them, but that tokens which assistants spell are items of their own.
        item_bounds: int64[conversations + 1].
        pieces: the pieces of text, in order.
    """

    plain: BOOL
    items: npt.NDArray[np.int32]
    item_bounds: I64
    pieces: pa.LargeStringArray


class PlainChats:
    """Finds plain conversations and lays them out."""

    def __init__(self, plan_of: Callable[[Conversation], Plan | None], answer_tokens: Mapping[str, int]) -> None:
        """Take what knows the plan of all conversations of one's roles, and ids of the tokens that assistants spell."""
        self._plan_of = plan_of
        self._names = added_pieces({name.encode(): token for name, token in answer_tokens.items()})
        self._none_are = any(name[0] in string.ascii_letters for name in answer_tokens)  # `find_added` seeks no such
        self._plans: dict[int, Plan | None] = {}

    def lay_out(self, texts: pa.LargeStringArray, turns: pa.RecordBatch) -> LaidOut:
        """Lay out the plain ones of n conversations.

        Args:
            texts: n.
            turns: n rows of TURNS.
        """
        spans = turn_spans(turns.column("turns"))
        data, bounds = text_buffers(texts)
        contents = Contents(data, bounds, spans.documents, spans.starts, spans.ends)
        plan_of, plans = self._planned(texts, turns, spans)
        sizes = np.zeros((len(texts), 3), np.int64)
        measure(contents, plans, plan_of, ASSISTANT, self._names, sizes)
        plain = plan_of >= 0
        count, pieces, size = sizes.sum(axis=0).tolist()
        items, piece_bounds = np.empty((count, 3), np.int32), np.empty(pieces + 1, np.int64)
        out = np.empty(size, np.uint8)
        lay_out(contents, plans, plan_of, ASSISTANT, self._names, items, piece_bounds, out)
        item_bounds = np.zeros(int(plain.sum()) + 1, np.int64)
        np.cumsum(sizes[plain, 0], out=item_bounds[1:])
        buffers = [None, pa.py_buffer(piece_bounds), pa.py_buffer(out)]
        return LaidOut(plain, items, item_bounds, pa.Array.from_buffers(pa.large_string(), pieces, buffers))

    def _planned(
        self, texts: pa.LargeStringArray, turns: pa.RecordBatch, spans: TurnSpans
    ) -> tuple[npt.NDArray[np.int32], Plans]:
        """The plan of each conversation, int32[n], and the plans; -1: it is not plain."""
        keys = np.zeros(len(texts), np.uint64)
        shape_keys(spans.documents, spans.roles, spans.fields | (spans.branches > 0), keys)
        alone = pc.and_(pc.equal(turns.column("kind"), "conversation"), turns.column("tools").is_null())
        keys[~np.asarray(pc.fill_null(alone, False)) | self._none_are] = 0
        shapes, first, shape_of = np.unique(keys, return_index=True, return_inverse=True)
        found: list[Plan] = []
        number = np.full(len(shapes), -1, np.int32)
        for at, (key, row) in enumerate(zip(shapes.tolist(), first.tolist(), strict=True)):
            if key and key not in self._plans:
                (one,) = conversations_of(texts.slice(row, 1), turns.slice(row, 1))
                self._plans[key] = None if one is None else self._plan_of(one)
            plan = self._plans.get(key)
            if plan is not None:
                number[at] = len(found)
                found.append(plan)
        return number[shape_of], _tables(found)


def _tables(plans: Sequence[Plan]) -> Plans:
    """Plans whose prints are known, as arrays."""
    literals = bytearray()
    prints = []
    for plan in plans:
        assert plan.prints is not None
        mine = np.full((len(plan.items), 3), -1, np.int64)
        told = []
        for turn, stripped, literal in plan.prints:
            start = len(literals)
            literals += literal.encode()
            told.append((turn, int(stripped), 0) if turn >= 0 else (-1, start, len(literals)))
        mine[plan.items[:, 0] < 0] = np.array(told, np.int64).reshape(-1, 3)
        prints.append(mine)
    bounds = np.zeros(len(plans) + 1, np.int64)
    np.cumsum([len(plan.items) for plan in plans], out=bounds[1:])
    items = np.concatenate([_EMPTY, *[plan.items for plan in plans]])
    all_prints = np.concatenate([_EMPTY.astype(np.int64), *prints])
    return Plans(bounds, items, all_prints, np.frombuffer(bytes(literals), np.uint8))
