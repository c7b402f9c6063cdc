"""Rows of a batch, out of the record batches that hold them: one call of a kernel for all of these."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.kernels import helper, kernel
from tokenmill.pipeline.loader.memory import array_at
from tokenmill.pipeline.loader.order import Places
from tokenmill.pipeline.loader.stored_rows import Pieces, StoredRows

BOOL = npt.NDArray[np.bool_]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


class Sought(NamedTuple):
    """Rows of a batch by the record batch that holds them.

    Attributes:
        batches: their numbers in the shard table, ascending.
        borders: int64 [batches + 1], first entry of each in the arrays below, and their end.
        members: int64 [B], rows of the batch.
        rows: int64 [B], where each lies in its record batch.
    """

    batches: list[int]
    borders: I64
    members: I64
    rows: I64

    @classmethod
    def of(cls, places: Places) -> "Sought":
        """Of rows that lie at these places."""
        members = np.argsort(places.batch, kind="stable")
        numbers, firsts = np.unique(places.batch[members], return_index=True)
        return cls(numbers.tolist(), np.append(firsts, members.size), members, places.row[members])


class Rows(NamedTuple):
    """Rows as they are stored; see `Gathered`, which has more."""

    clean: I64
    valid: I32
    pieces: Pieces | None
    answers: BOOL | None
    checks: list[tuple[str, str | None]] | None


def gather(
    sought: Sought, found: Sequence[StoredRows], length: int, *, pieces: bool, answers: bool, checks: bool = False
) -> Rows:
    """The rows sought.

    Args:
        sought: which.
        found: the record batches `sought.batches`, in order.
        length: L.
        pieces: whether to tell where documents stand.
        answers: whether to tell which tokens are answers.
        checks: whether to tell what answers are checked against, and how.
    """
    size = sought.members.size
    clean = np.empty((size, length), np.int64)
    valid = np.empty(size, np.int32)
    marked = np.zeros((size, length), np.bool_) if answers else None
    spans = np.array([one.spans_at for one in found if pieces or answers], np.int64).reshape(-1, 3)
    if size:
        part = (sought.rows, sought.members, sought.borders)
        _copy_rows(np.array([one.rows_at for one in found]), found[0].tokens[:0], *part, clean, valid)
        if marked is not None:
            _mark_answers(np.array([one.answer_runs_at for one in found]), spans, *part, marked)
    told = _checks(sought, found) if checks else None
    return Rows(clean, valid, _pieces(sought, spans) if pieces else None, marked, told)


def _checks(sought: Sought, found: Sequence[StoredRows]) -> list[tuple[str, str | None]]:
    """Answer and checker of each row."""
    told: list[tuple[str, str | None]] = [("", None)] * sought.members.size
    for index, stored in enumerate(found):
        span = slice(sought.borders[index], sought.borders[index + 1])
        rows = pa.array(sought.rows[span])
        columns = (stored.table.column(name).take(rows).to_pylist() for name in ("answer", "checker"))
        for member, *check in zip(sought.members[span].tolist(), *columns, strict=True):
            told[member] = (check[0], check[1])
    return told


def _pieces(sought: Sought, spans: I64) -> Pieces:
    """Where the rows' documents stand, row after row; `spans`: where those of each record batch lie in memory."""
    part = (sought.rows, sought.members, sought.borders)
    ends = np.zeros(sought.members.size + 1, np.int64)
    _count_pieces(spans, *part, ends[1:])
    np.cumsum(ends, out=ends)
    pieces = Pieces(*(np.empty(ends[-1], np.int64) for _ in Pieces._fields))
    _copy_pieces(spans, *part, ends, *pieces)
    return pieces


# Below, `at` has where the arrays of each record batch lie, and `borders` which entries of `rows`, its rows that are
# sought, and `members`, the rows of the batch that they become, are its.


@kernel
def _copy_rows(at, like, rows, members, borders, clean, valid):  # type: ignore[no-untyped-def]
    length = clean.shape[1]
    for batch in range(at.shape[0]):
        first, end = borders[batch], borders[batch + 1]
        rows_there = _greatest(rows, first, end) + 1
        tokens = array_at(at[batch, 0], rows_there * length, like)
        stored_valid = array_at(at[batch, 1], rows_there, valid)
        for i in range(first, end):
            row, member = rows[i], members[i]
            valid[member] = stored_valid[row]
            stored, out = tokens[row * length : (row + 1) * length], clean[member]
            for place in range(length):
                out[place] = stored[place]


@kernel
def _count_pieces(at, rows, members, borders, counts):  # type: ignore[no-untyped-def]
    for batch in range(at.shape[0]):
        first, end = borders[batch], borders[batch + 1]
        offsets = array_at(at[batch, 0], _greatest(rows, first, end) + 2, counts)
        for i in range(first, end):
            counts[members[i]] = offsets[rows[i] + 1] - offsets[rows[i]]


@kernel
def _copy_pieces(at, rows, members, borders, before, found_row, found_start, found_end):  # type: ignore[no-untyped-def]
    for batch in range(at.shape[0]):
        first, end = borders[batch], borders[batch + 1]
        offsets = array_at(at[batch, 0], _greatest(rows, first, end) + 2, before)
        starts = array_at(at[batch, 1], offsets[-1], before)
        ends = array_at(at[batch, 2], offsets[-1], before)
        for i in range(first, end):
            place = before[members[i]]
            for piece in range(offsets[rows[i]], offsets[rows[i] + 1]):
                found_row[place] = members[i]
                found_start[place] = starts[piece]
                found_end[place] = ends[piece]
                place += 1


@kernel
def _mark_answers(runs_at, spans_at, rows, members, borders, marked):  # type: ignore[no-untyped-def]
    for batch in range(runs_at.shape[0]):
        first, end = borders[batch], borders[batch + 1]
        size = _greatest(rows, first, end) + 2
        run_offsets, offsets = array_at(runs_at[batch, 0], size, rows), array_at(spans_at[batch, 0], size, rows)
        runs = array_at(runs_at[batch, 1], run_offsets[-1], _INT32)
        starts = array_at(spans_at[batch, 1], offsets[-1], rows)
        ends = array_at(spans_at[batch, 2], offsets[-1], rows)
        for i in range(first, end):
            row = rows[i]
            row_runs = runs[run_offsets[row] : run_offsets[row + 1]]
            piece, last = offsets[row], offsets[row + 1]
            _mark_row(row_runs, starts[piece:last], ends[piece:last], marked[members[i]])


@helper
def _greatest(values, first, end):  # type: ignore[no-untyped-def]
    found = values[first]
    for i in range(first + 1, end):
        found = max(found, values[i])
    return found


@helper
def _mark_row(runs, starts, ends, marked):  # type: ignore[no-untyped-def]
    """Runs alternate, fixed tokens first, over a row's tokens from piece to piece."""
    run, is_answer = 0, False
    left = np.int64(runs[0]) if len(runs) else np.int64(0)
    for piece in range(len(starts)):
        place = starts[piece]
        while place < ends[piece]:
            while left == 0 and run + 1 < len(runs):
                run, is_answer = run + 1, not is_answer
                left = np.int64(runs[run])
            if left == 0:
                break
            step = min(left, ends[piece] - place)
            if is_answer:
                for answer in range(place, place + step):
                    marked[answer] = True
            place += step
            left -= step


_INT32 = np.zeros(0, np.int32)
