"""A decoded record batch: its rows, and where documents stand in them."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.manifests.shards import places_in_rows
from tokenmill.pipeline.loader.memory import address_of


class Pieces(NamedTuple):
    """Where tokens stand in rows: three int64 arrays, one entry a piece of a document, by row and place.

    Attributes:
        row: the piece's row.
        start: place of its first token in that row.
        end: place after its last one.
    """

    row: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


class Spans(NamedTuple):
    """Where the tokens of a record batch stand, row after row: int64 each.

    Attributes:
        offsets: [rows + 1], first piece of each row.
        start: [pieces], place of its first token in its row.
        end: [pieces], place after its last one.
    """

    offsets: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


@dataclass(frozen=True)
class StoredRows:
    """A decoded record batch.

    Attributes:
        tokens: uint16 or uint32 [rows, L], a view of Arrow's buffer.
        valid: int32 [rows], tokens that are not padding: the row's first, where pieces are not aligned.
        table: the whole batch, documents included.
        align: pieces begin at multiples of so many tokens.
        is_skipped: whether it is corrupt, and all padding for that.
    """

    tokens: npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
    valid: npt.NDArray[np.int32]
    table: pa.RecordBatch
    align: int = 1
    is_skipped: bool = False

    @cached_property
    def spans(self) -> Spans:
        """Where the tokens of its rows stand."""
        offsets, sizes = _lists(self.table.column("document_lengths"))
        start = places_in_rows(sizes, offsets, self.align)
        return Spans(offsets, start, start + sizes)

    @cached_property
    def rows_at(self) -> tuple[int, int]:
        """Where `tokens` and `valid` lie in memory, for kernels; as long as this object lives."""
        return address_of(self.tokens), address_of(self.valid)

    @cached_property
    def spans_at(self) -> tuple[int, int, int]:
        """Where the arrays of `spans` lie."""
        offsets, start, end = map(address_of, self.spans)
        return offsets, start, end

    @cached_property
    def answer_runs_at(self) -> tuple[int, int]:
        """Where the arrays of `answer_runs` lie."""
        offsets, sizes = self.answer_runs
        return address_of(offsets), address_of(sizes)

    @cached_property
    def answer_runs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """First run of each row, int64 [rows + 1], and each one's length; in SFT's layouts, see `sequence_schema`."""
        return _lists(self.table.column("maskable"))

    def pieces(self, rows: npt.NDArray[np.int64]) -> Pieces:
        """Where the tokens of some rows stand; `Pieces.row` counts these rows from 0."""
        offsets, start, end = self.spans
        counts = np.diff(offsets)[rows]
        first = np.repeat(offsets[rows] - (np.cumsum(counts) - counts), counts)
        chosen = first + np.arange(len(first))
        return Pieces(np.repeat(np.arange(len(rows)), counts), start[chosen], end[chosen])


def _lists(column: pa.ListArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """First value of each row's list, and their end; and all values."""
    offsets = column.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], column.flatten().to_numpy()
