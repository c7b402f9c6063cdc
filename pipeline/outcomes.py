"""What became of every row of a part, in the words of the balance sheet, from tables at rest; no text is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.audit import shards_of
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.manifests.schemas import LEDGER, LEFT_OUT
from tokenmill.pipeline.opened_units import OpenedUnits
from tokenmill.pipeline.packed import packed_pieces
from tokenmill.pipeline.steps.takedown import REASON, standing_rows
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table

#: What became of a document that is in the shards.
PACKED = "packed"


@dataclass(frozen=True)
class UnitFiles:
    """Files of a unit, as a task takes them.

    Attributes:
        source: of the unit.
        parts: outputs of each of its parts, by part key and name.
        ledger: its ledger.
        packed: receipt of *pack*.
        takedown: its takedown table, if there is one.
    """

    source: str
    parts: Mapping[str, Mapping[str, Output]]
    ledger: Output
    packed: Receipt
    takedown: Output | None


def unit_files(units: OpenedUnits) -> dict[str, UnitFiles]:
    """The files of every unit, by its name."""
    return {
        name: UnitFiles(unit.source, unit.tables, unit.ledger, units.packed[name], units.takedown.get(name))
        for name, unit in units.units.items()
    }


@dataclass(frozen=True)
class UnitOutcomes:
    """What became of the rows of a unit's parts; its own tables are read once, those of a part when it is asked for."""

    storage: Storage
    files: UnitFiles

    def of_part(self, part: str) -> pa.StringArray:
        """For each row the reason it is not packed ("gates.…", "dedup.near", "removed.takedown", …), or "packed"."""
        table = read_table(self.storage, self.files.parts[part]["decisions"].path, ["reason"])
        reasons = pc.fill_null(table.column("reason"), PACKED).to_numpy().astype(object)
        for rows, reason in self._later.get(part, []):
            # what is removed twice keeps the reason that came first, as the steps do
            here = reasons[rows] == PACKED
            reasons[rows[here]] = reason[here]
        return pa.array(reasons, pa.string())

    def tokens_of(self, part: str, rows: int) -> npt.NDArray[np.int64]:
        """Tokens packed of each of the part's rows."""
        found = np.zeros(rows, np.int64)
        for document, tokens in self._tokens.get(part, []):
            np.add.at(found, document, tokens)
        return found

    @cached_property
    def _later(self) -> dict[str, list["_Reasons"]]:
        """Rows and reasons of *deduplicate*, *takedown* and *pack*, in that order, by part."""
        files = self.files
        found: dict[str, list[_Reasons]] = {part: [] for part in files.parts}
        ledger = read_table(self.storage, files.ledger.path, [*LEDGER.names[:2], "kind"])
        kinds = pc.binary_join_element_wise("dedup", pc.replace_substring(ledger.column("kind"), " ", "_"), ".")
        _enter(found, ledger.column("removed_part"), ledger.column("removed_row"), kinds)
        if files.takedown is not None:
            for part, rows in standing_rows(read_table(self.storage, files.takedown.path)).items():
                found[part].append((rows, np.full(len(rows), REASON, object)))
        for output in files.packed.outputs:
            if output.name == "left_out":
                table = read_table(self.storage, output.path, LEFT_OUT.names[:3])
                _enter(found, *table.columns)
        return found

    @cached_property
    def _tokens(self) -> dict[str, list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]]:
        """Documents and tokens of all pieces, by part."""
        found: dict[str, list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]] = {}
        for shard in shards_of(self.files.packed):
            for some in packed_pieces(self.storage, shard):
                for index in np.unique(some.part).tolist():
                    mine = some.part == index
                    found.setdefault(some.parts[index], []).append((some.document[mine], some.tokens[mine]))
        return found


#: Rows, and the reason of each.
_Reasons = tuple[npt.NDArray[np.int32], npt.NDArray[np.object_]]


def _enter(
    found: Mapping[str, list[_Reasons]],
    parts: pa.ChunkedArray,
    rows: pa.ChunkedArray,
    reasons: pa.ChunkedArray,
) -> None:
    of_part = parts.to_numpy()
    numbers, texts = rows.to_numpy(), reasons.to_numpy().astype(object)
    for part in pc.unique(parts).to_pylist():
        mine = of_part == part
        found[part].append((numbers[mine], texts[mine]))
