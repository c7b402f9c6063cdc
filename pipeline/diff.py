"""What differs between two versions, of one run or of two: recipes, documents, tokens, and what became of documents.

A document is the same one where it has the same identity (part, row); it is changed where its content hash is another.
Parts are compared by tasks, those of a unit of one version that lie in one unit of the other at a time; a part whose
tables are the same bytes in both is not read.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from tokenmill.manifests.audit import strata_tokens
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.opened import OpenedRun, open_run
from tokenmill.pipeline.opened_units import OpenedUnits, open_units
from tokenmill.pipeline.outcomes import UnitFiles, UnitOutcomes, unit_files
from tokenmill.pipeline.scan import Opening, scan_each
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table
from tokenmill.pipeline.why import known_as

EXAMPLES = 3
#: What stands for a key that one of two recipes does not have.
ABSENT = "(absent)"
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
class Found:
    """What differs among the documents.

    Attributes:
        documents: by source.
        moves: how many documents of a source went from one outcome to another.
        examples: identity and place of the first of each move, sorted.
    """

    documents: dict[str, Documents] = field(default_factory=lambda: defaultdict(Documents))
    moves: Counter[Move] = field(default_factory=Counter)
    examples: dict[Move, list[tuple[str, int, str]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, source: str, other: "Found") -> None:
        """Take in what a task found in a source."""
        mine, theirs = self.documents[source], other.documents[source]
        for name, value in vars(theirs).items():
            setattr(mine, name, getattr(mine, name) + value)
        self.moves += other.moves
        for move, some in other.examples.items():
            self.examples[move] = sorted([*self.examples[move], *some])[:EXAMPLES]


def open_side(storage: Storage, published: Published) -> Side:
    """Open a version to be compared."""
    run = open_run(storage, published)
    return Side(storage, published, run, open_units(storage, published, run.recipe_file.recipe))


def recipe_differences(before: str, after: str) -> list[tuple[str, Any, Any]]:
    """Keys of two recipes (YAML) that differ, with both values; sources and filters are told by their names."""
    one, two = (dict(_flat("", yaml.safe_load(text))) for text in (before, after))
    both = [(key, one.get(key, ABSENT), two.get(key, ABSENT)) for key in {**one, **two}]
    return [(key, a, b) for key, a, b in both if a != b]


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if key.rpartition(".")[2] in ("sources", "filters") and isinstance(value, list):
        named = [_named(entry) for entry in value]
        yield f"{key} (order)", [name for name, _ in named]
        value = dict(named)
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}" if key else str(name), inner)
    else:
        yield key, value


def _named(entry: Any) -> tuple[str, Any]:
    """An entry of a list of sources or filters: its name, and what is said of it."""
    if not isinstance(entry, dict):
        return str(entry), {}
    return (str(entry["name"]), entry) if "name" in entry else (str(next(iter(entry))), next(iter(entry.values())))


def tokens_of(before: Side, after: Side) -> list[tuple[str, int, int]]:
    """Tokens of each component ("source/stratum") in both."""
    one, two = (strata_tokens(side.units.receipts) for side in (before, after))
    return [
        (name, *(found.get(name, {"tokens": 0})["tokens"] for found in (one, two)))  # type: ignore[misc]
        for name in sorted({*one, *two})
    ]


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
        hashes = [_hashes(side.storage, table) for side, table in zip(sides, tables, strict=True)]
        _count(found.documents[source], *hashes)
        if units_agree and decided[0] == decided[1]:
            continue
        one, two = (side.of_part(part) for side in sides)
        common = min(len(one), len(two))
        moved = np.flatnonzero(pc.not_equal(one[:common], two[:common]).to_numpy(zero_copy_only=False))
        _enter_moves(found, storages[1], source, (part, tables[1]["documents"]), moved, one, two)
    return found


def _later_tables(files: UnitFiles) -> list[str]:
    """Hashes of the tables that decide on what *select* kept."""
    left_out = [output.hash for output in files.packed.outputs if output.name == "left_out"]
    takedown = [] if files.takedown is None else [str(files.takedown.detail.get("standing_hash"))]
    return [files.ledger.hash, *left_out, "takedown", *takedown]


def _hashes(storage: Storage, tables: Mapping[str, Output]) -> pa.Array:
    return read_table(storage, tables["signals/hashes"].path, ["content_hash"]).column(0).combine_chunks()


def _count(counts: Documents, one: pa.Array, two: pa.Array) -> None:
    common = min(len(one), len(two))
    a, b = one[:common], two[:common]
    # gated in one of them, it has no hash there; that is told by what became of it
    changed = int(pc.sum(pc.not_equal(a, b)).as_py() or 0)
    counts.before += len(one)
    counts.after += len(two)
    counts.changed += changed
    counts.same += common - changed
    counts.removed += len(one) - common
    counts.added += len(two) - common


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
