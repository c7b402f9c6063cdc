"""What differs between two versions, of one run or of two: recipes, documents, tokens, and what became of documents.

A document is the same one where it has the same identity (part, row); it is changed where its content hash is another,
or of a conversation its turns: their roles, calls, tools or answer.
Parts are compared by tasks, those of a unit of one version that lie in one unit of the other at a time; a part whose
tables are the same bytes in both is not read.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.balance import Balance
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.diff_contents import compare_contents
from tokenmill.pipeline.opened import OpenedRun, open_run
from tokenmill.pipeline.opened_units import OpenedUnits, open_units
from tokenmill.pipeline.outcomes import PACKED, UnitFiles, UnitOutcomes, unit_files
from tokenmill.pipeline.scan import Opening, scan_each
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table
from tokenmill.pipeline.why import known_as

EXAMPLES = 3
_PLACE = ("url", "repository", "path", "raw_file", "raw_offset")
Move = tuple[str, str, str]


@dataclass(frozen=True)
class Side:
    """One of the two versions, opened."""

    storage: Storage
    published: Published
    run: OpenedRun
    units: OpenedUnits

    @property
    def name(self) -> str:
        """As people name it."""
        return f"{self.storage.root}@{self.published.number}"

    @property
    def tokenizer(self) -> str:
        """Hash of the tokenizer."""
        return next(receipt for receipt in self.units.receipts if receipt.step == "tokenizer").outputs[0].hash


@dataclass(frozen=True)
class Pair:
    """Parts that lie in one unit of each version."""

    before: UnitFiles
    after: UnitFiles
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Alone:
    """Parts of a unit that one side alone has: 0, the version before, or 1."""

    side: int
    files: UnitFiles
    parts: tuple[str, ...]


@dataclass
class Documents:
    """How the documents (raw records) of a source differ, in numbers."""

    before: int = 0
    after: int = 0
    same: int = 0
    changed: int = 0
    removed: int = 0
    added: int = 0


@dataclass
class Packed:
    """How the packed documents of a source differ, in numbers; of a dataset of conversations these are its samples."""

    before: int = 0
    after: int = 0
    same: int = 0
    changed: int = 0
    dropped: int = 0
    added: int = 0


@dataclass
class Found:
    """What differs among the documents.

    Attributes:
        documents: by source.
        packed: by source; tasks count what is dropped, added and changed.
        moves: how many documents of a source went from one outcome to another.
        examples: identity and place of the first of each move, sorted.
    """

    documents: dict[str, Documents] = field(default_factory=lambda: defaultdict(Documents))
    packed: dict[str, Packed] = field(default_factory=lambda: defaultdict(Packed))
    moves: Counter[Move] = field(default_factory=Counter)
    examples: dict[Move, list[tuple[str, int, str]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, source: str, other: "Found") -> None:
        """Take in what a task found in a source."""
        for mine, theirs in (
            (self.documents[source], other.documents[source]),
            (self.packed[source], other.packed[source]),
        ):
            for name, value in vars(theirs).items():
                setattr(mine, name, getattr(mine, name) + value)
        self.moves += other.moves
        for move, some in other.examples.items():
            self.examples[move] = sorted([*self.examples[move], *some])[:EXAMPLES]


def open_side(storage: Storage, published: Published) -> Side:
    """Open a version to be compared."""
    run = open_run(storage, published)
    return Side(storage, published, run, open_units(storage, published, run.recipe_file.recipe))


def document_differences(before: Side, after: Side, opening: Opening) -> Found:
    """What differs among the documents; a part of one version alone is removed or added as a whole."""
    found = Found()
    parts = [
        {
            key: (source, part.balances["ingest"].taken.documents)
            for source, some in side.run.parts.items()
            for key, part in some.items()
        }
        for side in (before, after)
    ]
    for key in {*parts[0]} | {*parts[1]}:
        source, _ = parts[0].get(key) or parts[1][key]
        counts = found.documents[source]
        if key not in parts[1]:
            counts.before += parts[0][key][1]
            counts.removed += parts[0][key][1]
        elif key not in parts[0]:
            counts.after += parts[1][key][1]
            counts.added += parts[1][key][1]
    pairs = _pairs(before, after)
    storages = (before.storage, after.storage)
    for index, one in scan_each(opening, "compare documents", compare_units, storages, pairs):
        found.add(pairs[index].before.source, one)
    alone = _alone(before, after)
    for index, count in scan_each(opening, "count documents", count_packed, storages, alone):
        samples = found.packed[alone[index].files.source]
        samples.added += count * alone[index].side
        samples.dropped += count * (1 - alone[index].side)
    for source, side, count in _packed_in_all(before, after):
        setattr(found.packed[source], ("before", "after")[side], count)
    for samples in found.packed.values():
        samples.same = samples.before - samples.dropped - samples.changed
    return found


def _packed_in_all(*sides: Side) -> Iterator[tuple[str, int, int]]:
    """Source, side and packed documents, as the balance sheets have them."""
    for index, side in enumerate(sides):
        for source, sheet in side.published.value["balance"].items():
            yield source, index, Balance.from_json(sheet["steps"]["pack"]).out.documents


def _alone(*sides: Side) -> list[Alone]:
    """Units of parts that one side alone has."""
    found = []
    for index, side in enumerate(sides):
        parts: dict[str, list[str]] = defaultdict(list)
        for part, unit in side.units.unit_of.items():
            if part not in sides[1 - index].units.unit_of:
                parts[unit].append(part)
        files = unit_files(side.units)
        found += [Alone(index, files[unit], tuple(sorted(some))) for unit, some in sorted(parts.items())]
    return found


def count_packed(storages: tuple[Storage, Storage], alone: Alone) -> int:
    """Documents of the parts that are packed."""
    outcomes = UnitOutcomes(storages[alone.side], alone.files)
    return sum(int(np.count_nonzero(_is_packed(outcomes.of_part(part)))) for part in alone.parts)


def _is_packed(reasons: pa.StringArray) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pc.equal(reasons, PACKED).to_numpy(zero_copy_only=False)
    return found


def _pairs(before: Side, after: Side) -> list[Pair]:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for part, unit in before.units.unit_of.items():
        if part in after.units.unit_of:
            groups[unit, after.units.unit_of[part]].append(part)
    one, two = unit_files(before.units), unit_files(after.units)
    return [Pair(one[a], two[b], tuple(sorted(parts))) for (a, b), parts in sorted(groups.items())]


def compare_units(storages: tuple[Storage, Storage], pair: Pair) -> Found:
    """What differs in the parts of a pair."""
    found, source = Found(), pair.before.source
    sides = (UnitOutcomes(storages[0], pair.before), UnitOutcomes(storages[1], pair.after))
    units_agree = _later_tables(pair.before) == _later_tables(pair.after)
    for part in pair.parts:
        tables = (pair.before.parts[part], pair.after.parts[part])
        decided = [table["decisions"].hash for table in tables]
        rows, changed = compare_contents(storages, tables)
        _count(found.documents[source], rows, changed)
        agree = units_agree and decided[0] == decided[1]
        if agree and not changed.any():
            continue
        one, two = (side.of_part(part) for side in sides)
        common = min(len(one), len(two))
        _count_packed(found.packed[source], _is_packed(one), _is_packed(two), changed)
        if agree:
            continue
        moved = np.flatnonzero(pc.not_equal(one[:common], two[:common]).to_numpy(zero_copy_only=False))
        _enter_moves(found, storages[1], source, (part, tables[1]["documents"]), moved, one, two)
    return found


def _later_tables(files: UnitFiles) -> list[str]:
    """Hashes of the tables that decide on what *select* kept."""
    left_out = [output.hash for output in files.packed.outputs if output.name == "left_out"]
    takedown = [] if files.takedown is None else [str(files.takedown.detail.get("standing_hash"))]
    return [files.ledger.hash, *left_out, "takedown", *takedown]


def _count(counts: Documents, rows: tuple[int, int], changed: npt.NDArray[np.bool_]) -> None:
    different = int(np.count_nonzero(changed))
    counts.before += rows[0]
    counts.after += rows[1]
    counts.changed += different
    counts.same += len(changed) - different
    counts.removed += rows[0] - len(changed)
    counts.added += rows[1] - len(changed)


def _count_packed(
    counts: Packed, one: npt.NDArray[np.bool_], two: npt.NDArray[np.bool_], changed: npt.NDArray[np.bool_]
) -> None:
    both = np.count_nonzero(one[: len(changed)] & two[: len(changed)])
    counts.dropped += int(np.count_nonzero(one) - both)
    counts.added += int(np.count_nonzero(two) - both)
    counts.changed += int(np.count_nonzero(one[: len(changed)] & two[: len(changed)] & changed))


def _enter_moves(
    found: Found,
    storage: Storage,
    source: str,
    documents: tuple[str, Output],
    moved: npt.NDArray[np.int64],
    one: pa.Array,
    two: pa.Array,
) -> None:
    if not len(moved):
        return
    part, table = documents
    wanted: list[tuple[Move, int]] = []
    for row in moved.tolist():
        move = (source, str(one[row]), str(two[row]))
        found.moves[move] += 1
        if found.moves[move] <= EXAMPLES:
            wanted.append((move, row))
    if wanted:
        places = read_table(storage, table.path, list(_PLACE)).take(pa.array([row for _, row in wanted])).to_pylist()
        for (move, row), place in zip(wanted, places, strict=True):
            found.examples[move].append((part, row, known_as(place) or f"{place['raw_file']} at {place['raw_offset']}"))
