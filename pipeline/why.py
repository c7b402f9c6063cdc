"""What became of a document: dropped by which bound, removed for which other one, taken down, or packed, and where.

A document is asked for by its identity, "part:row", or by its URL or path; of those one column a part is read, all of
them over the run. The rest is read of the document's own part and unit alone.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.urls import url_key
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.pipeline.copies import stratum_with_copies
from tokenmill.pipeline.look import seen_at
from tokenmill.pipeline.opened import OpenedRun
from tokenmill.pipeline.opened_units import OpenedUnits
from tokenmill.pipeline.packed import packed_pieces, shards_in
from tokenmill.pipeline.removals import host_of, rows_near
from tokenmill.pipeline.scan import Opening, scan_soon
from tokenmill.pipeline.seen import Seen, explained, visible
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import open_groups, read_table

IDENTITY = re.compile(r"(?P<part>[0-9a-f]{16}):(?P<row>\d+)")
_PIECES_SHOWN = 8


@dataclass(frozen=True)
class Fate:
    """What became of a document.

    Attributes:
        source: its source.
        seen: where it is from, and what *ingest* and *select* decided.
        known_as: URL, or repository and path, as people know it; "" where it has none.
        removal: its row of the ledger, when deduplication removed it; where the keeper is of this run with
            `keeper_place` and `keeper_erased`.
        takedown: its row of the takedown table.
        erased: it had a text, which was erased after its takedown.
        cluster: its row of the clusters table, when it is like others.
        unit: where it is packed, or would be.
        stratum: of a kept document.
        pieces: where its tokens lie: path of the shard, row, start (first token within the document), tokens.
        left_out: why *pack* put a kept document in no row: reason, text_bytes, tokens.
    """

    source: str
    seen: Seen
    known_as: str
    removal: Mapping[str, Any] | None
    takedown: Mapping[str, Any] | None
    erased: bool
    cluster: Mapping[str, Any] | None
    unit: str
    stratum: str | None
    pieces: tuple[Mapping[str, Any], ...]
    left_out: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Its identity."""
        return f"{self.seen.part}:{self.seen.row}"


def find_documents(run: OpenedRun, asked: str, opening: Opening) -> list[tuple[str, str, int]]:
    """Source, part and row of every document that is meant.

    Args:
        run: the run.
        asked: "part:row", a URL (scheme, port, "www." and fragment do not count), a path inside a repository,
            "repository/path".
        opening: opens what the parts are looked into by where that takes long; an identity needs none.

    Raises:
        ValueError: there is none; the message says what was looked for, and where.
    """
    match = IDENTITY.fullmatch(asked)
    if match:
        for source, parts in run.parts.items():
            if match["part"] in parts:
                return [(source, match["part"], int(match["row"]))]
        raise ValueError(f"no part {match['part']} in this run, so no document {asked}")
    names = [(source, key) for source, parts in run.parts.items() for key in parts]
    documents = [run.parts[source][key].tables["documents"] for source, key in names]
    rows = scan_soon(opening, "look for it", rows_named, (run.storage, asked), documents)
    found = [(*name, row) for name, some in zip(names, rows, strict=True) for row in some]
    if not found:
        raise ValueError(
            f"no document {asked!r}: it is no identity (such as 0123456789abcdef:17), and no document of the "
            f"{len(names)} parts has it as its URL, its path or its repository/path"
        )
    return found


def rows_named(asked: tuple[Storage, str], documents: Output) -> list[int]:
    """Rows with that URL, or with that path where it can be no URL; a row group in memory at a time."""
    storage, name = asked
    columns = ["url"] if "://" in name else ["url", "repository", "path"]
    rows: list[int] = []
    first_row = 0
    with open_groups(storage, documents.path) as groups:
        for index in range(len(groups)):
            batch = groups.read(index, columns)
            hits = _with_url(batch, name) if len(columns) == 1 else _with_path(batch, name)
            rows += [first_row + row for row in hits]
            first_row += batch.num_rows
    return rows


def _with_url(batch: pa.RecordBatch, url: str) -> list[int]:
    urls, key = batch.column("url"), url_key(url)
    rows = rows_near(urls, [host_of(url)]).tolist()
    return [row for row in rows if url_key(urls[row].as_py()) == key]


def _with_path(batch: pa.RecordBatch, name: str) -> list[int]:
    joined = pc.binary_join_element_wise(batch.column("repository"), batch.column("path"), "/")
    columns = (batch.column("url"), batch.column("path"), joined)
    hits = [pc.fill_null(pc.equal(column, name), False).to_numpy(zero_copy_only=False) for column in columns]
    return [int(row) for row in np.flatnonzero(np.logical_or.reduce(hits))]


def fate_of(run: OpenedRun, units: OpenedUnits, source: str, part: str, row: int) -> Fate:
    """What became of one document. Raises ValueError when the part has no such row."""
    seen = seen_at(run, source, part, row)
    left_out = None
    name = units.unit_of[part]
    unit = units.units[name]
    removal = _row_of(run.storage, unit.ledger, ("removed_part", "removed_row"), part, row)
    takedown = _row_of(run.storage, units.takedown.get(name), ("part", "row"), part, row)
    cluster = _row_of(run.storage, units.clusters.get(name), ("part", "row"), part, row)
    stratum = pieces = None
    if seen.reason is None:
        decisions = run.parts[source][part].tables["decisions"]
        stratum = read_table(run.storage, decisions.path, ["stratum"]).column(0)[row].as_py()
        stratum = stratum_with_copies(stratum, cluster, run.recipe_file.recipe.strata.copies_bounds)
        if removal is None and takedown is None:
            left_out = _left_out(run.storage, units.packed[name], part, row)
            shards = shards_in(units.packed[name], stratum)
            found = [(piece, shard) for shard in shards for piece in _pieces(run.storage, shard, part, row)]
            pieces = tuple(sorted((piece for piece, _ in found), key=lambda piece: piece["start"]))
            # of rows of several lengths, the one that it is in
            stratum = next((shard.name.removeprefix("sequences/") for _, shard in found), stratum)
    if removal is not None and removal.get("keeper_run") is None:
        removal = {**removal, **_of_keeper(run, units, removal["keeper_part"], removal["keeper_row"])}
    return Fate(
        source,
        seen,
        known_as(seen.place),
        removal,
        takedown,
        seen.reason is None and seen.text is None,
        cluster,
        name,
        stratum,
        pieces or (),
        left_out,
    )


def _of_keeper(run: OpenedRun, units: OpenedUnits, part: str, row: int) -> dict[str, Any]:
    """Where a keeper of this run is from, and whether its text was erased: then signatures decided, not texts."""
    keeper = seen_at(run, units.units[units.unit_of[part]].source, part, row)
    return {"keeper_place": place_of(run, units, part, row), "keeper_erased": keeper.text is None}


def _row_of(
    storage: Storage, table: Output | None, identity: tuple[str, str], part: str, row: int
) -> dict[str, Any] | None:
    if table is None:
        return None
    rows = read_table(storage, table.path)
    mine = pc.and_(pc.equal(rows.column(identity[0]), part), pc.equal(rows.column(identity[1]), row))
    found = rows.filter(mine).to_pylist()
    return found[0] if found else None


def _left_out(storage: Storage, packed: Receipt, part: str, row: int) -> dict[str, Any] | None:
    table = next((output for output in packed.outputs if output.name == "left_out"), None)
    found = _row_of(storage, table, ("part", "row"), part, row)
    return None if found is None else {name: found[name] for name in ("reason", "text_bytes", "tokens")}


def place_of(run: OpenedRun, units: OpenedUnits, part: str, row: int) -> str:
    """URL, or repository and path, of a document; its raw file and offset where it has neither."""
    source = units.units[units.unit_of[part]].source
    documents = run.parts[source][part].tables["documents"]
    columns = ["url", "repository", "path", "raw_file", "raw_offset"]
    place = read_table(run.storage, documents.path, columns).slice(row, 1).to_pylist()[0]
    return known_as(place) or f"{place['raw_file']} at {place['raw_offset']}"


def known_as(place: Mapping[str, Any]) -> str:
    """URL, or repository and path, as people know a document; "" where it has none."""
    return " ".join(str(place[name]) for name in ("url", "repository", "path") if place.get(name) is not None)


def _pieces(storage: Storage, shard: Output, part: str, row: int) -> Iterator[dict[str, Any]]:
    """Where in a shard the document's tokens lie."""
    for some in packed_pieces(storage, shard):
        for at in np.flatnonzero((some.part == some.parts.index(part)) & (some.document == row)).tolist():
            place = {"shard": shard.path, "row": int(some.row[at])}
            yield {**place, "start": int(some.start[at]), "tokens": int(some.tokens[at])}


def told(fate: Fate) -> str:
    """A fate in a few lines, for people."""
    raw = f"{fate.seen.place['raw_file']} at {fate.seen.place['raw_offset']}"
    lines = [
        f"{fate.name}  {visible(fate.known_as, 400)}".rstrip(),
        f"  source {fate.source}, raw file {visible(raw, 400)}",
    ]
    lines += [f"  {line}" for line in _verdict(fate)]
    if fate.cluster is not None:
        cluster = fate.cluster
        lines.append(
            f"  seen {cluster['cluster_documents']:,} times: it belongs to the cluster of "
            f"{cluster['cluster_part']}:{cluster['cluster_row']}"
            + (f" of the earlier run {cluster['cluster_run']}" if cluster.get("cluster_run") else "")
        )
    return "\n".join(lines)


def _verdict(fate: Fate) -> Iterator[str]:
    if fate.seen.reason is not None:
        kind, _, failure = fate.seen.reason.partition(".")
        yield f"failed: {failure}" if kind == "failed" else f"dropped: {explained(fate.seen)}"
    if fate.removal is not None:
        yield _removed(fate.removal)
    if fate.takedown is not None:
        reason = fate.takedown["reason"]
        yield (
            f"taken down on {fate.takedown['requested']}, named as {fate.takedown['why']}"
            + (f": {visible(reason, 400)}" if reason else "")
            + ("; its text was erased" if fate.erased else "")
        )
    if fate.seen.reason is None and fate.removal is None and fate.takedown is None:
        yield f"kept: stratum {fate.stratum}, unit {fate.unit}"
        if fate.left_out is not None:
            yield f"  in no row: {fate.left_out['reason']}, {fate.left_out['tokens']:,} tokens"
        for piece in fate.pieces[:_PIECES_SHOWN]:
            yield (
                f"  tokens {piece['start']:,} … {piece['start'] + piece['tokens'] - 1:,} in row {piece['row']:,} of "
                f"{piece['shard']}"
            )
        if len(fate.pieces) > _PIECES_SHOWN:
            yield f"  and {len(fate.pieces) - _PIECES_SHOWN:,} rows more; `--json` names them"


def _removed(removal: Mapping[str, Any]) -> str:
    if removal.get("keeper_run") is not None:
        keeper = f"{removal['keeper_part']}:{removal['keeper_row']}"
        return (
            f"removed as a duplicate, similarity {removal['similarity']:.3f}, of {keeper} of the earlier run "
            f"{removal['keeper_run']} (`tokenmill why {removal['keeper_run']} {keeper}`)"
        )
    keeper = f"{removal['keeper_part']}:{removal['keeper_row']}  {visible(removal['keeper_place'], 400)}"
    if removal["kind"] == "exact":
        return f"removed as an exact duplicate of {keeper}"
    erased = "; its text was erased, so the signatures decided" if removal["keeper_erased"] else ""
    return f"removed as a {removal['kind']} duplicate, similarity {removal['similarity']:.3f}, of {keeper}{erased}"


def as_json(fate: Fate) -> dict[str, Any]:
    """A fate as plain values; the text is left out."""
    seen = asdict(fate.seen)
    del seen["text"], seen["conversation"]
    return {**{name: value for name, value in vars(fate).items() if name != "seen"}, **seen}
