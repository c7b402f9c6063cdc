"""Conversations ↔ rows of TURNS and the texts that their turns lie in."""

import json
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.turns import BRANCHES, ROLES, turn_spans
from tokenmill.manifests.schemas import TURN, TURNS
from tokenmill.pipeline.chat.conversation import Conversation, Turn
from tokenmill.pipeline.extraction.encoding import clean

#: Between the contents of two turns.
BETWEEN = "\n\n"
_NONE = Conversation((), None, "")


def text_of(conversation: Conversation) -> str:
    """What people read of a conversation: the contents of its turns."""
    return BETWEEN.join([turn.content for turn in conversation.turns])


def turns_batch(conversations: Sequence[Conversation | None]) -> pa.RecordBatch:
    """Rows of TURNS; null for None."""
    told = [conversation or _NONE for conversation in conversations]
    turns = [turn for conversation in told for turn in conversation.turns]
    lengths = [len(conversation.turns) for conversation in told]
    starts, ends = _spans(turns, lengths)
    fields = [None if turn.fields is None else written(turn.fields) for turn in turns]
    columns = [[turn.role for turn in turns], starts, ends, [turn.branch for turn in turns], fields]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, TURN, strict=True)]
    missing = np.array([conversation is None for conversation in conversations], np.bool_)
    lists = _lists(np.array([0, *accumulate(lengths)], np.int32), missing, arrays)
    tools = [None if conversation.tools is None else written(conversation.tools) for conversation in told]
    others = [tools, *([getattr(each, name) or None for each in told] for name in TURNS.names[2:])]
    rest = [pa.array(column, pa.string()) for column in others]
    return pa.RecordBatch.from_arrays([lists, *rest], schema=TURNS)


def _spans(turns: Sequence[Turn], lengths: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each turn's content lies in its text."""
    contents = (turn.content for turn in turns)
    sizes = np.array([len(text) if text.isascii() else len(text.encode()) for text in contents], np.int64)
    ends = np.cumsum(sizes + len(BETWEEN))
    firsts = np.cumsum([0, *lengths])[:-1]  # first turn of each conversation
    before = np.concatenate([[0], ends])[firsts]
    starts = ends - sizes - len(BETWEEN) - np.repeat(before, lengths)
    return starts, starts + sizes


def _lists(offsets: npt.NDArray[np.int32], missing: npt.NDArray[np.bool_], columns: Sequence[pa.Array]) -> pa.Array:
    items = pa.StructArray.from_arrays(columns, fields=list(TURN))
    mask = pa.array(missing) if missing.any() else None
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=pa.list_(TURN), mask=mask)


def written(value: Any) -> str:
    """JSON in which a field of a message, or its tools, are kept: the order of keys is part of what a model learns."""
    return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def without(turns: pa.RecordBatch, gone: npt.NDArray[np.bool_]) -> pa.RecordBatch:
    """The rows, those that are `gone` null in every column."""
    if not gone.any():
        return turns
    kept = pa.array(~gone)
    columns = [pc.if_else(kept, column, pa.scalar(None, column.type)) for column in turns.columns]
    return pa.RecordBatch.from_arrays(columns, schema=turns.schema)


def misplaced(texts: pa.LargeStringArray, turns: pa.RecordBatch) -> int:
    """Rows whose turns are not just their text, BETWEEN apart, or that have one of both alone."""
    spans = turn_spans(turns.column("turns"))
    counts = np.diff(spans.documents)
    firsts, lasts = spans.documents[:-1][counts > 0], spans.documents[1:][counts > 0] - 1
    expected = np.concatenate([[0], spans.ends[:-1] + len(BETWEEN)])[: len(spans.starts)]
    expected[firsts] = 0
    wrong = texts.is_valid().to_numpy(zero_copy_only=False) != (counts > 0)
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy()[counts > 0]
    wrong[counts > 0] |= spans.ends[lasts] != sizes
    of_turn = np.repeat(np.arange(len(counts)), counts)
    wrong[of_turn[(spans.starts != expected) | (spans.ends < spans.starts)]] = True
    return int(np.count_nonzero(wrong))


def differing(one: pa.RecordBatch, two: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Of n rows of TURNS each, bool [n]: where they are not the same."""
    differ = np.zeros(one.num_rows, np.bool_)
    for name in TURNS.names[1:]:
        differ |= _unequal(one.column(name), two.column(name))
    sizes = [pc.fill_null(pc.list_value_length(side.column("turns")), -1).to_numpy() for side in (one, two)]
    differ |= sizes[0] != sizes[1]
    alike = pa.array(sizes[0] == sizes[1])
    turns = [side.column("turns").filter(alike).flatten() for side in (one, two)]
    of_row = np.repeat(np.arange(len(differ)), np.where(sizes[0] == sizes[1], np.maximum(sizes[0], 0), 0))
    for field in TURN:
        differ[of_row[_unequal(*(each.field(field.name) for each in turns))]] = True
    return differ


def _unequal(one: pa.Array, two: pa.Array) -> npt.NDArray[np.bool_]:
    """Where values differ; null is like null alone."""
    both = pc.fill_null(pc.not_equal(one, two), False)
    found: npt.NDArray[np.bool_] = pc.or_(both, pc.xor(one.is_null(), two.is_null())).to_numpy(zero_copy_only=False)
    return found


def conversations_of(texts: pa.LargeStringArray, turns: pa.RecordBatch) -> list[Conversation | None]:
    """The conversations of rows of TURNS and their texts; None where there is no text or no turns."""
    spans = turn_spans(turns.column("turns"))
    starts, ends = spans.starts.tolist(), spans.ends.tolist()
    roles = [ROLES[code] for code in spans.roles.tolist()]
    branches = [BRANCHES[code] for code in spans.branches.tolist()]
    fields = _read(_items(turns.column("turns")).field("fields"), len(roles))
    columns = (turns.column(name).to_pylist() for name in TURNS.names[1:])
    found: list[Conversation | None] = []
    bounds = pairwise(spans.documents.tolist())
    for text, (first, end), tools, kind, answer, checker in zip(texts.to_pylist(), bounds, *columns, strict=True):
        if text is None or first == end:
            found.append(None)
            continue
        data = text if text.isascii() else text.encode()
        contents = [data[starts[at] : ends[at]] for at in range(first, end)]
        if data is not text:
            contents = [content.decode() for content in contents]
        each = map(Turn, roles[first:end], contents, branches[first:end], fields[first:end])
        found.append(Conversation(tuple(each), None if tools is None else json.loads(tools), kind, answer, checker))
    return found


def _items(turns: pa.ListArray) -> pa.StructArray:
    """The turns of all rows, one after another."""
    first, end = turns.offsets[0].as_py(), turns.offsets[-1].as_py()
    return turns.values.slice(first, end - first)


def _read(texts: pa.StringArray, count: int) -> list[Any]:
    """JSON values; None where there is no text."""
    if texts.null_count == count:
        return [None] * count
    return [None if text is None else json.loads(text) for text in texts.to_pylist()]
