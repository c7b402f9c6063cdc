"""Rows of `documents`, as they come one by one or many at once → row groups, which end by the records alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tokenmill.manifests.schemas import DOCUMENTS, ROWS_PER_GROUP, TEXT_BYTES_PER_GROUP
from tokenmill.pipeline.chat.plain_rows import PlainRows
from tokenmill.pipeline.chat.turns import turns_batch
from tokenmill.pipeline.extraction.encoding import clean
from tokenmill.pipeline.readers.records import Record


@dataclass(frozen=True, slots=True)
class IngestBatch:
    """One row group of `documents`, and what else was met on the way.

    Attributes:
        documents: rows of DOCUMENTS.
        other: how many records of other kinds ("request", …).
        turns: rows of TURNS, of a reader that finds them.
        ids: of chat: what the data calls its documents, as far as it does.
    """

    documents: pa.RecordBatch
    other: dict[str, int]
    turns: pa.RecordBatch | None = None
    ids: tuple[str, ...] = ()


@dataclass(slots=True)
class Row:
    """A document, gated or failed: its record, and what was made of it."""

    raw_file: str
    record: Record
    text: str | None = None
    encoding: str | None = None


class RowGroup:
    """The rows of the row group being gathered, in order.

    Those that come one by one and those that come many at once lie apart until the group is taken.

    Attributes:
        other: records of other kinds met meanwhile.
    """

    def __init__(self, *, has_turns: bool) -> None:
        self._has_turns = has_turns
        self._begin()

    def _begin(self) -> None:
        self.other: Counter[str] = Counter()
        self._rows: list[Row] = []
        self._plain: list[PlainRows] = []
        self._runs: list[tuple[bool, int]] = []  # in order: whether the next rows are plain, and how many they are
        self._ids: list[str] = []
        self._count = self._text_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether it ends here."""
        return self._count >= ROWS_PER_GROUP or self._text_bytes >= TEXT_BYTES_PER_GROUP

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self._count or self.other)

    def add(self, row: Row) -> None:
        """One more row, of a group that is not full."""
        self._rows.append(row)
        if row.record.id is not None:
            self._ids.append(row.record.id)
        self._add_run(False, 1, 0 if row.text is None else len(row.text.encode()))

    def add_plain(self, rows: PlainRows) -> PlainRows | None:
        """As many of the rows as are its own, of a group that is not full; those that are left over."""
        first, texts = rows.first, rows.texts
        full = int(np.searchsorted(texts, texts[first] + TEXT_BYTES_PER_GROUP - self._text_bytes))
        end = min(rows.end, first + ROWS_PER_GROUP - self._count, full)
        self._ids += rows.part(first, end).ids
        before = self._plain[-1] if self._plain else None
        if before is not None and before.documents is rows.documents:  # the rows of a block follow one another
            self._plain[-1] = rows.part(before.first, end)
        else:
            self._plain.append(rows.part(first, end))
        self._add_run(True, end - first, int(texts[end] - texts[first]))
        return rows.part(end, rows.end) if end < rows.end else None

    def _add_run(self, is_plain: bool, count: int, text_bytes: int) -> None:
        self._runs.append((is_plain, count))
        self._count += count
        self._text_bytes += text_bytes

    def take(self) -> IngestBatch:
        """The group; the next one begins."""
        documents = [part.documents.slice(part.first, part.end - part.first) for part in self._plain]
        turns = [part.turns.slice(part.first, part.end - part.first) for part in self._plain]
        if self._rows or not self._plain:
            documents.insert(0, _documents(self._rows))
            if self._has_turns:
                told = [row.record.conversation if row.text is not None else None for row in self._rows]
                turns.insert(0, turns_batch(told))
        order = _order(self._runs) if self._rows and self._plain else None
        batch = IngestBatch(
            _one(documents, order),
            dict(sorted(self.other.items())),
            _one(turns, order) if self._has_turns else None,
            tuple(self._ids),
        )
        self._begin()
        return batch


def _order(runs: Sequence[tuple[bool, int]]) -> pa.Array:
    """Where each row lies when those that came one by one stand before the plain ones: int64."""
    is_plain = np.repeat(*np.array(runs, np.int64).T).astype(np.bool_)
    places = np.empty(len(is_plain), np.int64)
    ones = len(is_plain) - np.count_nonzero(is_plain)
    places[~is_plain] = np.arange(ones)
    places[is_plain] = np.arange(ones, len(is_plain))
    return pa.array(places)


def _one(batches: Sequence[pa.RecordBatch], order: pa.Array | None) -> pa.RecordBatch:
    """The batches as one, its rows in that order."""
    batch = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
    return batch if order is None else batch.take(order)


def _documents(rows: Sequence[Row]) -> pa.RecordBatch:
    columns = {
        "text": [row.text for row in rows],
        "raw_file": [row.raw_file for row in rows],
        "raw_offset": [row.record.offset for row in rows],
        "encoding": [row.encoding for row in rows],
        **{name: [getattr(row.record, name) for row in rows] for name in _SAME},
        **{name: [_clean(getattr(row.record, name)) for row in rows] for name in _NAMES},
    }
    arrays = [pa.array(columns[field.name], field.type) for field in DOCUMENTS]
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENTS)


#: Columns that are fields of `Record`; those of the second kind come from outside.
_SAME = ("gate", "failure", "raw_bytes", "http_status")
_NAMES = ("url", "mime", "date", "repository", "path", "licence")


def _clean(value: str | None) -> str | None:
    return None if value is None else clean(value)
