"""The texts of a part after edit rules, read row group by row group."""

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pyarrow as pa

from tokenmill.filters.edits import apply_edits
from tokenmill.filters.turns import moved_turns
from tokenmill.manifests.schemas import EDITS
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import GroupReader, open_groups

_NO_EDITS = pa.RecordBatch.from_pylist([], schema=EDITS)


def edits_of_rows(edits: pa.RecordBatch, first: int, end: int) -> pa.RecordBatch:
    """The edits of rows first … end."""
    start, stop = np.searchsorted(edits.column("row").to_numpy(), [first, end])
    return edits.slice(start, stop - start)


class EditReader:
    """Edits of one rule, read along with the texts. A row group of texts that has no edit has no row group here."""

    def __init__(self, groups: GroupReader) -> None:
        self._groups = groups
        self._next = 0
        self._waiting: pa.RecordBatch | None = None

    def before(self, row: int) -> pa.RecordBatch:
        """The edits of the next row group of texts, which ends before `row`."""
        if self._waiting is None and self._next < len(self._groups):
            self._waiting = self._groups.read(self._next)
            self._next += 1
        if self._waiting is None or self._waiting.column("row")[0].as_py() >= row:
            return _NO_EDITS
        found, self._waiting = self._waiting, None
        return found


def edited_texts(
    storage: Storage, documents: GroupReader, edit_paths: list[str]
) -> Iterator[tuple[pa.LargeStringArray, int]]:
    """The texts of a part, row group by row group, after edit rules; with the number of the first row of each.

    Args:
        storage: where the edits lie.
        documents: the part's open `documents`.
        edit_paths: one table of edits a rule, in the order in which the rules apply.
    """
    for texts, first_row, _ in edited_conversations(storage, documents, edit_paths):
        yield texts, first_row


def edited_conversations(
    storage: Storage, documents: GroupReader, edit_paths: list[str], turns_path: str | None = None
) -> Iterator[tuple[pa.LargeStringArray, int, pa.RecordBatch | None]]:
    """As `edited_texts`, and the rows of TURNS at `turns_path`, if any, with their spans in the edited texts."""
    with ExitStack() as stack:
        turns = stack.enter_context(open_groups(storage, turns_path)) if turns_path is not None else None
        rules = [EditReader(stack.enter_context(open_groups(storage, path))) for path in edit_paths]
        first_row = 0
        for index in range(len(documents)):
            texts = documents.read(index, ["text"]).column(0)
            spans = turns.read(index) if turns is not None else None
            for rule in rules:
                edits = rule.before(first_row + len(texts))
                texts = apply_edits(texts, edits, first_row)
                spans = None if spans is None else moved_turns(spans, edits, first_row)
            yield texts, first_row, spans
            first_row += len(texts)
