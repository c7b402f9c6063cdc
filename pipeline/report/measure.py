"""What the tables of a run's units hold, counted in one pass that reads no text: a task a few units.

Each part's decisions and signals are read once; of the unit, its ledger, clusters and takedowns. What a task hands back
is small whatever it read: counts by bin, by language and by size of cluster, the largest clusters, and a few removals.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.bounds import as_float64
from tokenmill.manifests.keyed import key64, mix64
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.kept import NONE_REMOVED, removed_rows
from tokenmill.pipeline.opened_units import OpenedUnits
from tokenmill.pipeline.report.histograms import Histogram, shape_of
from tokenmill.pipeline.scan import Opening, scan_soon
from tokenmill.pipeline.steps.select import GROUPS_AT_ONCE
from tokenmill.pipeline.steps.takedown import standing_rows
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import GroupReader, one_chunk, open_groups, read_table
from tokenmill.pipeline.units import Unit

#: Tasks at most; each takes as many units, so what all of them hand back stays small.
TASKS = 256
LARGEST_CLUSTERS = 10
REMOVALS_SHOWN = 6
#: Language of a document of which none was told.
UNTOLD = "not told"
_UNREAD = ("signals/minhash",)


@dataclass(frozen=True)
class InUnit:
    """A unit to be read.

    Attributes:
        unit: the unit.
        takedown: its takedown table, where there is one.
        left_out: what *pack* left out of it, where it did.
    """

    unit: Unit
    takedown: Output | None
    left_out: Output | None


@dataclass(frozen=True, order=True)
class Removal:
    """A document that *deduplicate* or *pack* took out, drawn by hash: those of the least `draw` are shown.

    Attributes:
        draw: hash of its identity.
        part: its part.
        row: its row.
        keeper: "part:row" of the document that stayed for it; "" where *pack* left it out.
        keeper_run: the earlier run that the keeper is of; "" for this one.
        similarity: of the two; 0 where *pack* left it out.
    """

    draw: int
    part: str
    row: int
    keeper: str = ""
    keeper_run: str = ""
    similarity: float = 0.0


@dataclass(frozen=True, order=True)
class Cluster:
    """A cluster of duplicates, named by its first document."""

    documents: int
    part: str
    row: int


@dataclass
class Found:
    """What some units hold.

    Attributes:
        histograms: by source, signal group and signal.
        languages: [documents, bytes of text] that are left after deduplication and takedowns, by source and language.
        clusters: how many clusters there are of each size; those whose first document is an earlier run's are not here.
        largest: the largest of them, at most LARGEST_CLUSTERS.
        of_earlier_runs: documents in clusters whose first document is an earlier run's.
        removals: some of each reason of a source, at most REMOVALS_SHOWN, by `draw`.
    """

    histograms: dict[tuple[str, str, str], Histogram] = field(default_factory=dict)
    languages: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(_nothing))
    clusters: Counter[int] = field(default_factory=Counter)
    largest: list[Cluster] = field(default_factory=list)
    of_earlier_runs: int = 0
    removals: dict[tuple[str, str], list[Removal]] = field(default_factory=dict)

    def __iadd__(self, other: "Found") -> "Found":
        for name, histogram in other.histograms.items():
            self.histogram(name, histogram.shape).__iadd__(histogram)
        for key, (documents, text_bytes) in other.languages.items():
            self.languages[key][0] += documents
            self.languages[key][1] += text_bytes
        self.clusters.update(other.clusters)
        self.add_clusters(other.largest)
        self.of_earlier_runs += other.of_earlier_runs
        for where, removals in other.removals.items():
            self.add_removals(where, removals)
        return self

    def histogram(self, name: tuple[str, str, str], shape: str) -> Histogram:
        """The histogram of that name, made when it is new."""
        if name not in self.histograms:
            self.histograms[name] = Histogram.empty(shape)
        return self.histograms[name]

    def add_clusters(self, clusters: Sequence[Cluster]) -> None:
        """Take the largest of these in."""
        self.largest = heapq.nsmallest(
            LARGEST_CLUSTERS,
            [*self.largest, *clusters],
            key=lambda cluster: (-cluster.documents, cluster.part, cluster.row),
        )

    def add_removals(self, where: tuple[str, str], removals: Sequence[Removal]) -> None:
        """Take those of the least draw in."""
        self.removals[where] = heapq.nsmallest(REMOVALS_SHOWN, [*self.removals.get(where, []), *removals])


def _nothing() -> list[int]:
    return [0, 0]


def measure_run(storage: Storage, units: OpenedUnits, opening: Opening) -> Found:
    """What all units hold; see `Found`."""
    items = [InUnit(unit, units.takedown.get(name), _left_out(units, name)) for name, unit in units.units.items()]
    at_once = -(-len(items) // TASKS)
    batches = [items[start : start + at_once] for start in range(0, len(items), max(1, at_once))]
    total = Found()
    for found in scan_soon(opening, "read the signals", measure_units, storage, batches):
        total += found
    return total


def _left_out(units: OpenedUnits, name: str) -> Output | None:
    packed = units.packed.get(name)
    return next((output for output in packed.outputs if output.name == "left_out"), None) if packed else None


def measure_units(storage: Storage, items: Sequence[InUnit]) -> Found:
    """What these units hold; a task."""
    found = Found()
    for item in items:
        _measure_unit(storage, item, found)
    return found


def _measure_unit(storage: Storage, item: InUnit, found: Found) -> None:
    unit = item.unit
    ledger = read_table(storage, unit.ledger.path)
    _draw_removals(unit.source, ledger, found)
    if item.left_out is not None:
        _draw_left_out(unit.source, read_table(storage, item.left_out.path), found)
    if unit.clusters is not None:
        _count_clusters(read_table(storage, unit.clusters.path), found)
    removed = removed_rows(ledger)
    taken = standing_rows(read_table(storage, item.takedown.path)) if item.takedown is not None else {}
    for part in unit.parts:
        gone = np.union1d(removed.get(part.key, NONE_REMOVED), taken.get(part.key, NONE_REMOVED))
        _measure_part(storage, unit.source, unit.tables[part.key], gone, found)


def _measure_part(
    storage: Storage, source: str, tables: Mapping[str, Output], gone: npt.NDArray[np.int32], found: Found
) -> None:
    names = [name for name in tables if name.startswith("signals/") and name not in _UNREAD]
    with ExitStack() as stack:
        decisions = stack.enter_context(open_groups(storage, tables["decisions"].path))
        readers = {name: stack.enter_context(open_groups(storage, tables[name].path)) for name in names}
        first_row = 0
        for start in range(0, len(decisions), GROUPS_AT_ONCE):
            groups = range(start, min(start + GROUPS_AT_ONCE, len(decisions)))
            kept = decisions.read(groups, ["kept"]).column(0).to_numpy(zero_copy_only=False)
            left = kept.copy()
            left[gone[(gone >= first_row) & (gone < first_row + len(kept))] - first_row] = False
            _count_signals(source, readers, groups, kept, found)
            _count_languages(source, readers, groups, left, found)
            first_row += len(kept)


def _count_signals(
    source: str, readers: Mapping[str, GroupReader], groups: range, kept: npt.NDArray[np.bool_], found: Found
) -> None:
    for name, reader in readers.items():
        numeric = [column.name for column in reader.schema if _is_number(column.type)]
        if numeric:
            batch = reader.read(groups, numeric)
            for signal in numeric:
                shape = shape_of(signal, batch.schema.field(signal).type)
                histogram = found.histogram((source, name.removeprefix("signals/"), signal), shape)
                histogram.count(as_float64(batch.column(signal)), kept)


def _is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


def _count_languages(
    source: str, readers: Mapping[str, GroupReader], groups: range, left: npt.NDArray[np.bool_], found: Found
) -> None:
    chosen = pa.array(left)
    sizes = readers["signals/hashes"].read(groups, ["text_bytes"]).column(0).filter(chosen)
    if "signals/language" in readers:
        labels = pc.fill_null(readers["signals/language"].read(groups, ["language"]).column(0).filter(chosen), UNTOLD)
    else:
        labels = pa.array([UNTOLD] * len(sizes), pa.string())
    sums = pa.table({"label": labels, "bytes": sizes}).group_by("label")
    for row in sums.aggregate([("bytes", "sum"), ([], "count_all")]).to_pylist():
        tally = found.languages[source, row["label"]]
        tally[0] += row["count_all"]
        tally[1] += row["bytes_sum"] or 0


def _count_clusters(clusters: pa.Table, found: Found) -> None:
    own = clusters
    if "cluster_run" in clusters.column_names:
        own = clusters.filter(pc.is_null(clusters.column("cluster_run")))
        found.of_earlier_runs += clusters.num_rows - own.num_rows
    is_first = pc.and_(
        pc.equal(own.column("part"), own.column("cluster_part")), pc.equal(own.column("row"), own.column("cluster_row"))
    )
    firsts = own.filter(is_first).select(["cluster_documents", "part", "row"])
    sizes, counts = np.unique(firsts.column(0).to_numpy(), return_counts=True)
    found.clusters.update(dict(zip(sizes.tolist(), counts.tolist(), strict=True)))
    order = [("cluster_documents", "descending"), ("part", "ascending"), ("row", "ascending")]
    largest = firsts.take(pc.select_k_unstable(firsts, LARGEST_CLUSTERS, order)) if firsts.num_rows else firsts
    found.add_clusters([Cluster(*row.values()) for row in largest.to_pylist()])


def _draw_removals(source: str, ledger: pa.Table, found: Found) -> None:
    for kind in pc.unique(ledger.column("kind")).to_pylist():
        rows = ledger.filter(pc.equal(ledger.column("kind"), kind))
        drawn, draws = _least(rows, "removed_part", "removed_row")
        reason = f"dedup.{kind.replace(' ', '_')}"
        found.add_removals((source, reason), [_removal(*one) for one in zip(drawn, draws, strict=True)])


def _removal(row: Mapping[str, Any], draw: int) -> Removal:
    keeper = f"{row['keeper_part']}:{row['keeper_row']}"
    return Removal(
        draw, row["removed_part"], row["removed_row"], keeper, row.get("keeper_run") or "", row["similarity"]
    )


def _draw_left_out(source: str, left_out: pa.Table, found: Found) -> None:
    for reason in pc.unique(left_out.column("reason")).to_pylist():
        drawn, draws = _least(left_out.filter(pc.equal(left_out.column("reason"), reason)), "part", "row")
        removals = [Removal(draw, row["part"], row["row"]) for row, draw in zip(drawn, draws, strict=True)]
        found.add_removals((source, reason), removals)


def _least(rows: pa.Table, part: str, row: str) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows of the least hashes of (part, row), and these."""
    codes = one_chunk(rows.column(part)).dictionary_encode()
    keys = np.array([key64("report", name) for name in codes.dictionary.to_pylist()], np.uint64)
    draws = mix64(rows.column(row).to_numpy().astype(np.uint64), keys[codes.indices.to_numpy()])
    least = np.argsort(draws, kind="stable")[:REMOVALS_SHOWN]
    return rows.take(pa.array(least)).to_pylist(), draws[least].tolist()
