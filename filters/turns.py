"""The turns of a batch of conversations as flat arrays, and where edits of the text move them.

An edit belongs to the first turn that its span begins in, or that it touches where it only inserts; its replacement is
that turn's, the bytes it takes are gone from whichever turn they were in. So turns never overlap, a replacement is in
one turn or, where the edit begins between two turns, in none; and a turn that lost every byte is empty, not missing.

    text      user: "call 555-1234"   assistant: "555-1234 it is"
    edit      a span from the 555 of the first to the end of "1234" of the second → "<phone>"
    after     user: "call <phone>"    assistant: " it is"
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.edits import text_buffers
from tokenmill.filters.eight_bytes import copy_bytes
from tokenmill.filters.scan import I64, U8
from tokenmill.kernels import kernel

VERSION = 1

#: Codes of roles, by their names in TURNS.
ROLES = ("system", "user", "assistant", "tool")
SYSTEM, USER, ASSISTANT, TOOL = range(4)
#: Codes of branches: 0 is none.
BRANCHES = (None, "chosen", "rejected")


@dataclass(frozen=True, eq=False)
class TurnSpans:
    """The turns of d conversations, in order.

    Attributes:
        documents: int64[d + 1], first turn of each conversation, then n; one without text has none.
        roles: uint8[n], index into ROLES.
        branches: uint8[n], index into BRANCHES.
        starts: int64[n], first byte of each turn's content in its conversation's text.
        ends: int64[n], byte behind its last.
        fields: bool[n], whether the turn has other fields than its content, such as calls of tools.
    """

    documents: I64
    roles: U8
    branches: U8
    starts: I64
    ends: I64
    fields: npt.NDArray[np.bool_]


def turn_spans(turns: pa.ListArray) -> TurnSpans:
    """The turns of a column `turns` of TURNS."""
    offsets, values = _parts(turns)
    return TurnSpans(
        documents=offsets,
        roles=_codes(values.field("role"), ROLES),
        branches=_codes(values.field("branch"), BRANCHES),
        starts=_numbers(values.field("start")),
        ends=_numbers(values.field("end")),
        fields=values.field("fields").is_valid().to_numpy(zero_copy_only=False),
    )


def one_answer(texts: pa.LargeStringArray) -> TurnSpans:
    """The turns of texts that have none: each is one answer."""
    there = texts.is_valid().to_numpy(zero_copy_only=False)
    offsets, _ = text_buffers(texts)
    num = int(there.sum())
    return TurnSpans(
        documents=np.concatenate([[0], np.cumsum(there, dtype=np.int64)]),
        roles=np.full(num, ASSISTANT, np.uint8),
        branches=np.zeros(num, np.uint8),
        starts=np.zeros(num, np.int64),
        ends=np.diff(offsets)[there],
        fields=np.zeros(num, np.bool_),
    )


def role_texts(texts: pa.LargeStringArray, spans: TurnSpans, role: int) -> pa.LargeStringArray:
    """Of each conversation the turns of one role, two line ends between them; null where it has none."""
    of_role = np.flatnonzero(spans.roles == role)
    contents = turn_texts(texts, spans).take(pa.array(of_role))
    offsets = np.searchsorted(of_role, spans.documents).astype(np.int64)
    joined = pc.binary_join(pa.LargeListArray.from_arrays(offsets, contents), pa.scalar("\n\n", pa.large_string()))
    return pc.if_else(pa.array(np.diff(offsets) > 0), joined, pa.scalar(None, pa.large_string()))


def turn_texts(texts: pa.LargeStringArray, spans: TurnSpans) -> pa.LargeStringArray:
    """The contents of the turns, one after another; their bytes are copied."""
    offsets, data = text_buffers(texts)
    of_turn = np.repeat(offsets[:-1], np.diff(spans.documents))
    sizes = np.concatenate([[0], np.cumsum(spans.ends - spans.starts)])
    out = np.empty(sizes[-1], np.uint8)
    _gather(data, of_turn + spans.starts, of_turn + spans.ends, out)
    return pa.LargeStringArray.from_buffers(len(spans.starts), pa.py_buffer(sizes), pa.py_buffer(out))


@kernel
def _gather(data: U8, starts: I64, ends: I64, out: U8) -> None:
    size = 0
    for k in range(len(starts)):
        size = copy_bytes(data, starts[k], ends[k], out, size)


def moved_turns(turns: pa.RecordBatch, edits: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
    """Rows of TURNS as they lie in the edited texts.

    Args:
        turns: n rows; row i is row `first_row + i` of its part.
        edits: of EDITS, in rows of `turns`, as `apply_edits` takes them.
        first_row: row of the first of them.
    """
    if edits.num_rows == 0:
        return turns
    lists = turns.column("turns")
    offsets, values = _parts(lists)
    starts, ends = _numbers(values.field("start")), _numbers(values.field("end"))
    rows = edits.column("row").to_numpy().astype(np.int64) - first_row
    begins, stops = (_numbers(edits.column(name)) for name in ("start", "end"))
    sizes = _numbers(pc.binary_length(edits.column("replacement")))
    _move(offsets, starts, ends, rows, begins, stops, sizes)
    fields = [values.type.field(index) for index in range(values.type.num_fields)]
    columns = {"start": pa.array(starts), "end": pa.array(ends)}
    items = pa.StructArray.from_arrays([columns.get(f.name, values.field(f.name)) for f in fields], fields=fields)
    mask = lists.is_null() if lists.null_count else None
    moved = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type=lists.type, mask=mask)
    at = turns.schema.get_field_index("turns")
    return turns.set_column(at, turns.schema.field(at), moved)


@kernel
def _move(offsets: I64, starts: I64, ends: I64, rows: I64, begins: I64, stops: I64, sizes: I64) -> None:
    """Move `starts` and `ends` int64[n] of the turns at `offsets` int64[d + 1] by the edits, int64[m] each."""
    edit = 0
    for row in range(len(offsets) - 1):
        while edit < len(rows) and rows[edit] < row:
            edit += 1
        shift = reached = 0  # what is added to a place behind the edits so far, the last of which ends at `reached`
        for turn in range(offsets[row], offsets[row + 1]):
            start, end = starts[turn], ends[turn]
            while edit < len(rows) and rows[edit] == row and begins[edit] < start:
                shift += sizes[edit] - (stops[edit] - begins[edit])
                reached = stops[edit]
                edit += 1
            starts[turn] = max(start, reached) + shift
            while edit < len(rows) and rows[edit] == row and (begins[edit] < end or begins[edit] == stops[edit] == end):
                shift += sizes[edit] - (stops[edit] - begins[edit])
                reached = stops[edit]
                edit += 1
            ends[turn] = max(end, reached) + shift


def _parts(lists: pa.ListArray) -> tuple[I64, pa.StructArray]:
    """Offsets int64[n + 1] from 0, and the items between them."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    values = lists.values.slice(offsets[0], offsets[-1] - offsets[0])
    return offsets - offsets[0], values


def _numbers(column: pa.Array) -> I64:
    found: I64 = column.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _codes(column: pa.Array, names: tuple[str | None, ...]) -> U8:
    """Place of each value among `names`."""
    found = column.dictionary_encode(null_encoding="encode")
    place = np.array([names.index(name) for name in found.dictionary.to_pylist()], np.uint8)
    codes: U8 = place[found.indices.to_numpy()] if len(column) else np.zeros(0, np.uint8)
    return codes
