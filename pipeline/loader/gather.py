"""Rows of a batch, out of the record batches that hold them. One kernel call a record batch: a batch meets dozens."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.kernels import kernel
from tokenmill.pipeline.loader.order import Places
from tokenmill.pipeline.loader.stored_rows import Pieces, StoredRows

BOOL = npt.NDArray[np.bool_]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


class Sought(NamedTuple):
    """Rows of a batch by the record batch that holds them.

    Attributes:
        batches: their numbers in the shard table, ascending.
        borders: first entry of each in the arrays below, and their end.
        members: int64 [B], rows of the batch.
        rows: int64 [B], where each lies in its record batch.
    """

    batches: list[int]
    borders: list[int]
    members: I64
    rows: I64

    @classmethod
    def of(cls, places: Places) -> "Sought":
        """Of rows that lie at these places."""
        members = np.argsort(places.batch, kind="stable")
        numbers, firsts = np.unique(places.batch[members], return_index=True)
        return cls(numbers.tolist(), [*firsts.tolist(), members.size], members, places.row[members])


class Rows(NamedTuple):
    """Rows as they are stored; see `Gathered`, which has more."""

    clean: I64
    valid: I32
    pieces: Pieces | None
    answers: BOOL | None


def gather(sought: Sought, found: Sequence[StoredRows], length: int, *, pieces: bool, answers: bool) -> Rows:
    """The rows sought.

    Args:
        sought: which.
        found: the record batches `sought.batches`, in order.
        length: L.
        pieces: whether to tell where documents stand.
        answers: whether to tell which tokens are answers.
    """
    size = sought.members.size
    clean = np.empty((size, length), np.int64)
    valid = np.empty(size, np.int32)
    marked = np.zeros((size, length), np.bool_) if answers else None
    for stored, (first, end) in zip(found, pairwise(sought.borders), strict=True):
        part = (sought.rows, sought.members, first, end)
        _copy_rows(stored.tokens, stored.valid, *part, clean, valid)
        if marked is not None:
            _mark_answers(*stored.answer_runs, *stored.spans, *part, marked)
    return Rows(clean, valid, _pieces(sought, found) if pieces else None, marked)


def _pieces(sought: Sought, found: Sequence[StoredRows]) -> Pieces:
    """Where the rows' documents stand, row after row."""
    ends = np.zeros(sought.members.size + 1, np.int64)
    parts = [(sought.rows, sought.members, *border) for border in pairwise(sought.borders)]
    for stored, part in zip(found, parts, strict=True):
        _count_pieces(stored.spans.offsets, *part, ends[1:])
    np.cumsum(ends, out=ends)
    pieces = Pieces(*(np.empty(ends[-1], np.int64) for _ in Pieces._fields))
    for stored, part in zip(found, parts, strict=True):
        _copy_pieces(*stored.spans, *part, ends, *pieces)
    return pieces


@kernel
def _copy_rows(tokens, stored_valid, rows, members, first, end, clean, valid):  # type: ignore[no-untyped-def]
    for i in range(first, end):
        row, member = rows[i], members[i]
        valid[member] = stored_valid[row]
        for place in range(tokens.shape[1]):
            clean[member, place] = tokens[row, place]


@kernel
def _count_pieces(offsets, rows, members, first, end, counts):  # type: ignore[no-untyped-def]
    for i in range(first, end):
        counts[members[i]] = offsets[rows[i] + 1] - offsets[rows[i]]


@kernel
def _copy_pieces(  # type: ignore[no-untyped-def]
    offsets, starts, ends, rows, members, first, end, before, found_row, found_start, found_end
):
    for i in range(first, end):
        at = before[members[i]]
        for piece in range(offsets[rows[i]], offsets[rows[i] + 1]):
            found_row[at] = members[i]
            found_start[at] = starts[piece]
            found_end[at] = ends[piece]
            at += 1


@kernel
def _mark_answers(  # type: ignore[no-untyped-def]
    run_offsets, runs, offsets, starts, ends, rows, members, first, end, marked
):
    """Runs alternate, fixed tokens first, over a row's tokens from piece to piece."""
    for i in range(first, end):
        row, member = rows[i], members[i]
        run, is_answer = run_offsets[row], False
        left = np.int64(runs[run]) if run < run_offsets[row + 1] else np.int64(0)
        for piece in range(offsets[row], offsets[row + 1]):
            place = starts[piece]
            while place < ends[piece]:
                while left == 0 and run + 1 < run_offsets[row + 1]:
                    run, is_answer = run + 1, not is_answer
                    left = np.int64(runs[run])
                if left == 0:
                    break
                step = min(left, ends[piece] - place)
                if is_answer:
                    for answer in range(place, place + step):
                        marked[member, answer] = True
                place += step
                left -= step
