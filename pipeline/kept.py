"""The documents of a part that are kept, with their edits applied: what *tokenizer* and *pack* read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.edited import edited_conversations
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import open_groups, read_table

NONE_REMOVED: npt.NDArray[np.int32] = np.zeros(0, np.int32)


@dataclass(frozen=True)
class KeptBatch:
    """Kept documents of one row group.

    Attributes:
        texts: after every edit.
        rows: int32[n], rows in the part.
        strata: stratum of each.
        turns: of conversations: rows of TURNS, as they lie in the edited texts.
    """

    texts: pa.LargeStringArray
    rows: npt.NDArray[np.int32]
    strata: pa.StringArray
    turns: pa.RecordBatch | None = None

    def take(self, places: npt.NDArray[np.int64]) -> "KeptBatch":
        """Some of them."""
        if len(places) == len(self.rows):
            return self
        at = pa.array(places)
        turns = None if self.turns is None else self.turns.take(at)
        return KeptBatch(self.texts.take(at), self.rows[places], self.strata.take(at), turns)


def edit_outputs(tables: Mapping[str, Output], order: list[str]) -> list[Output]:
    """The edit tables of a part in the order in which their rules apply (the recipe's)."""
    return [tables[f"edits/{group}"] for group in order if f"edits/{group}" in tables]


def kept_documents(
    storage: Storage, tables: Mapping[str, Output], edits: list[Output], removed: npt.NDArray[np.int32]
) -> Iterator[KeptBatch]:
    """Documents of a part that *select* kept and that are not removed; nor those whose text was erased.

    Args:
        storage: the run's folder.
        tables: the part's outputs by name.
        edits: from `edit_outputs`.
        removed: int32, rows that deduplication removed, or that are taken down.
    """
    decisions = read_table(storage, tables["decisions"].path, ["kept", "stratum"]).combine_chunks()
    keep = decisions.column("kept").to_numpy().copy() if decisions.num_rows else np.zeros(0, np.bool_)
    keep[removed] = False
    with open_groups(storage, tables["documents"].path) as documents:
        paths = [output.path for output in edits]
        turns = tables["turns"].path if "turns" in tables else None
        for texts, first_row, spans in edited_conversations(storage, documents, paths, turns):
            here = keep[first_row : first_row + len(texts)]
            if texts.null_count:  # else all are there: a kept document has a text until it is erased
                here = here & texts.is_valid().to_numpy(zero_copy_only=False)
            inside = np.flatnonzero(here)
            if len(inside):
                rows = pa.array(inside)
                strata = pc.take(decisions.column("stratum"), pa.array(inside + first_row))
                mine = None if spans is None else spans.take(rows)
                yield KeptBatch(texts.take(rows), (inside + first_row).astype(np.int32), strata.combine_chunks(), mine)


def removed_rows(ledger: pa.Table) -> dict[str, npt.NDArray[np.int32]]:
    """Removed rows of a unit's ledger, by part key."""
    parts = np.array(ledger.column("removed_part").to_pylist(), object)
    rows = ledger.column("removed_row").to_numpy()
    return {part: rows[parts == part] for part in dict.fromkeys(parts)}
