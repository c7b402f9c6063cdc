"""The documents that the page shows: kept and dropped ones of every reason, and the largest clusters of duplicates.

How many are shown is bounded for the whole page, and so are the characters of each. What is taken down is shown by its
identity alone, though its text may still be at rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.look import reason_counts, sample, seen_at
from tokenmill.pipeline.opened import OpenedRun
from tokenmill.pipeline.opened_units import OpenedUnits
from tokenmill.pipeline.report.measure import REMOVALS_SHOWN, Cluster, Found, Removal
from tokenmill.pipeline.scan import Opening, scan_soon
from tokenmill.pipeline.seen import KEPT, Seen, by_turns, explained
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table
from tokenmill.pipeline.units import Unit

#: Documents on the page at most, and of one reason of one source.
DOCUMENTS = 480
OF_A_REASON = 6
#: Documents of a cluster that are shown, its first one included.
OF_A_CLUSTER = 4
TAKEN_DOWN = "(taken down: its text is not shown)"


@dataclass(frozen=True)
class Shown:
    """A document on the page.

    Attributes:
        source: its source.
        reason: why it was dropped; "kept".
        name: its identity, "part:row".
        where: its URL, or its repository and path; "" where it has none.
        raw: its raw file, and the place in it.
        why: the reason in words, with the signal's value and the bound.
        text: as the rule that decided read it, of a conversation with its roles; None where it has none to be shown.
        remark: what stands there for a text.
    """

    source: str
    reason: str
    name: str
    where: str
    raw: str
    why: str
    text: str | None
    remark: str


@dataclass(frozen=True)
class _Of:
    """Documents of a source to be read: drawn from those of a reason, or known by name."""

    source: str
    reason: str
    count: int
    removals: tuple[Removal, ...] = ()


@dataclass(frozen=True)
class _Reading:
    """What tasks share: the run, and the takedown tables by part key."""

    run: OpenedRun
    takedown: Mapping[str, Output]


def reasons_of(run: OpenedRun, found: Found) -> dict[tuple[str, str], int | None]:
    """Every source and reason that has documents, and how many; None where only the balance sheet says so."""
    counts: dict[tuple[str, str], int | None] = {}
    for source, parts in run.parts.items():
        here = reason_counts(parts)
        for reason in sorted(here, key=lambda reason: (reason != KEPT, -here[reason], reason)):
            if here[reason]:
                counts[source, reason] = here[reason]
        counts |= dict.fromkeys(sorted(where for where in found.removals if where[0] == source))
    return counts


def sample_documents(run: OpenedRun, units: OpenedUnits, found: Found, opening: Opening) -> list[Shown]:
    """Documents of every source and reason, in the order of `reasons_of`, the same each time."""
    reasons = list(reasons_of(run, found))
    count = max(1, min(OF_A_REASON, DOCUMENTS // max(1, len(reasons))))
    items = [
        _Of(source, reason, count, tuple(found.removals.get((source, reason), ())[: min(count, REMOVALS_SHOWN)]))
        for source, reason in reasons[:DOCUMENTS]
    ]
    read = scan_soon(opening, "read the samples", _read, _Reading(run, takedowns(units)), items)
    return [shown for some in read for shown in some]


def takedowns(units: OpenedUnits) -> dict[str, Output]:
    """The takedown table that a part's documents may be in, by part key."""
    return {key: units.takedown[unit] for key, unit in units.unit_of.items() if unit in units.takedown}


def _read(shared: _Reading, item: _Of) -> list[Shown]:
    """A task: the documents of one source and reason."""
    run = shared.run
    if not item.removals:
        _, seen = sample(run, item.source, item.reason, item.count)
        return [_shown(shared, item.source, item.reason, one, _explained(one)) for one in seen]
    found = []
    for removal in item.removals:
        seen_one = seen_at(run, item.source, removal.part, removal.row)
        found.append(_shown(shared, item.source, item.reason, seen_one, _told(item.reason, removal)))
    return found


def _explained(seen: Seen) -> str:
    """The signal's value and the bound; its reason alone where there are none."""
    return explained(seen).removeprefix(f"{seen.reason}: ")


def _told(reason: str, removal: Removal) -> str:
    if not removal.keeper:
        return reason
    where = f" of the earlier run {removal.keeper_run}" if removal.keeper_run else ""
    return f"similarity {removal.similarity:.3f} to {removal.keeper}{where}, which was kept"


def _shown(shared: _Reading, source: str, reason: str, seen: Seen, why: str) -> Shown:
    place = seen.place
    where = " ".join(str(place[name]) for name in ("url", "repository", "path") if name in place)
    raw = f"{place.get('raw_file')} at {place.get('raw_offset')}"
    taken = is_taken(shared.run.storage, shared.takedown.get(seen.part), seen.part, seen.row)
    if taken:
        return Shown(source, reason, f"{seen.part}:{seen.row}", "", raw, reason, None, TAKEN_DOWN)
    remark = "" if seen.text is not None else _without_text(seen)
    text = seen.text if seen.conversation is None else by_turns(seen.conversation)
    return Shown(source, reason, f"{seen.part}:{seen.row}", where, raw, why, text, remark)


def _without_text(seen: Seen) -> str:
    kind = (seen.reason or KEPT).split(".")[0]
    return {"failed": "(a record that failed has no text)", "gates": "(the text of a gated row is not kept)"}.get(
        kind, "(its text was erased after a takedown)"
    )


def is_taken(storage: Storage, takedown: Output | None, part: str, row: int) -> bool:
    """Whether a document is on the removal list, whatever else became of it."""
    if takedown is None:
        return False
    rows = read_table(storage, takedown.path, ["part", "row"])
    return bool(pc.any(pc.and_(pc.equal(rows.column(0), part), pc.equal(rows.column(1), row))).as_py())


@dataclass(frozen=True)
class Member:
    """A document of a large cluster: what became of it, and its text."""

    name: str
    fate: str
    where: str
    text: str | None
    remark: str


def cluster_members(
    run: OpenedRun, units: OpenedUnits, clusters: Sequence[Cluster], opening: Opening
) -> list[list[Member]]:
    """Of each cluster its first document and some others, in order of identity."""
    if not clusters:
        return []
    first = {(cluster.part, cluster.row): index for index, cluster in enumerate(clusters)}
    items = [unit for unit in units.units.values() if unit.clusters is not None]
    rows: list[list[tuple[str, int, str]]] = [[] for _ in clusters]
    for some in scan_soon(opening, "read the clusters", members_in, (run.storage, first), items):
        for index, part, row, fate in some:
            rows[index].append((part, row, fate))
    reading = _Reading(run, takedowns(units))
    return [
        [_member(reading, units, *member) for member in _some(cluster, found)]
        for cluster, found in zip(clusters, rows, strict=True)
    ]


def _some(cluster: Cluster, rows: Sequence[tuple[str, int, str]]) -> Iterator[tuple[str, int, str]]:
    """The cluster's first document, then others in order of identity."""
    first = (cluster.part, cluster.row)
    yield from sorted(rows, key=lambda row: (row[:2] != first, row))[:OF_A_CLUSTER]


def members_in(shared: tuple[Storage, Mapping[tuple[str, int], int]], unit: Unit) -> list[tuple[int, str, int, str]]:
    """A task: of each cluster some documents that lie in a unit, and what became of them."""
    storage, first = shared
    assert unit.clusters is not None
    clusters = read_table(storage, unit.clusters.path)
    found: list[tuple[int, str, int]] = []
    for (part, row), index in first.items():
        inside = pc.and_(pc.equal(clusters.column("cluster_part"), part), pc.equal(clusters.column("cluster_row"), row))
        members = clusters.filter(inside).select(["part", "row"])
        # the first document need not be among the first rows: clusters are named in survivor order
        is_first = pc.and_(pc.equal(members.column("part"), part), pc.equal(members.column("row"), row))
        some = {*_identities(members.filter(is_first)), *_identities(members.slice(0, OF_A_CLUSTER))}
        found += [(index, *identity) for identity in sorted(some)]
    ledger = read_table(storage, unit.ledger.path) if found else None
    return [(index, part, row, _fate(ledger, part, row)) for index, part, row in found]


def _identities(rows: pa.Table) -> list[tuple[str, int]]:
    return list(zip(rows.column("part").to_pylist(), rows.column("row").to_pylist(), strict=True))


def _fate(ledger: Any, part: str, row: int) -> str:
    mine = pc.and_(pc.equal(ledger.column("removed_part"), part), pc.equal(ledger.column("removed_row"), row))
    removals = ledger.filter(mine).to_pylist()
    if not removals:
        return KEPT
    return f"removed, {removals[0]['kind']}: similarity {removals[0]['similarity']:.3f}"


def _member(reading: _Reading, units: OpenedUnits, part: str, row: int, fate: str) -> Member:
    source = units.units[units.unit_of[part]].source
    shown = _shown(reading, source, "", seen_at(reading.run, source, part, row), "")
    return Member(f"{source} {shown.name}", fate, shown.where or shown.raw, shown.text, shown.remark)
