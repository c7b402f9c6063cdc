"""Where a global row comes from: its place in the shards, its documents, and what is known of each of them.

    k ─▶ order ─▶ component, epoch, stored row ─▶ shard, record batch, row in it ─▶ pieces ─▶ documents, signals, …

Of the shards one record batch a row is read, and of the parts' tables the row groups of its documents. Where a piece
may not be all of its document (it begins within that, or ends with the row), the unit's shards are read for the others.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from tokenmill.manifests.receipts import Output
from tokenmill.manifests.shards import SequenceFormat, places_in_rows
from tokenmill.pipeline.erase import tombstones
from tokenmill.pipeline.loader.opening import OpenedOrder, open_order
from tokenmill.pipeline.opened import OpenedRun, open_run
from tokenmill.pipeline.opened_units import OpenedUnits, open_units
from tokenmill.pipeline.packed import packed_pieces, read_batches, shards_in
from tokenmill.pipeline.sheet import published_or_error
from tokenmill.pipeline.steps.publish import Published, read_version, versions
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import GroupReader, open_groups, read_table
from tokenmill.pipeline.traced import TracedPiece, TracedRow

_PLACE = ["raw_file", "raw_offset", "url", "repository", "path"]
Identity = tuple[str, int]


@dataclass(frozen=True)
class Opened:
    """A run opened to trace rows of.

    Attributes:
        mixture: its order and shard table.
        run: the newest version that was published with that mixture.
        units: of that version.
        removed: units of the newest version, which knows of all takedowns; None where there was none.
        tokenizer: None where no text is wanted.
    """

    mixture: OpenedOrder
    run: OpenedRun
    units: OpenedUnits
    removed: OpenedUnits | None
    tokenizer: Tokenizer | None


def open_trace(
    folder: str,
    mixture: str | None = None,
    *,
    total_rows: int | None = None,
    window_bytes: int | None = None,
    split: str = "train",
    with_text: bool = False,
) -> Opened:
    """Open the run in `folder`.

    Args:
        folder: its root, a folder or a URL.
        mixture: path of one of its mixtures, under the root or with it; by default that of its newest version.
        total_rows: as `open_mixture` was given.
        window_bytes: as `open_mixture` was given.
        split: "train" or "validation".
        with_text: whether pieces are decoded.

    Raises:
        ValueError: no version was published with that mixture, or all that were are erased; says which.
        FileNotFoundError: no such mixture.
    """
    storage = Storage(folder)
    newest = published_or_error(storage)
    path = newest.value["mixture"] if mixture is None else mixture.removeprefix(f"{storage.root}/")
    if path is None:
        raise ValueError(f"{storage.url(newest.path)} has no mixture: nothing was kept for training")
    published = _published_with(storage, newest, path)
    order = open_order(storage.url(path), total_rows=total_rows, window_bytes=window_bytes, split=split)
    run = open_run(storage, published)
    units = open_units(storage, published, run.recipe_file.recipe)
    removed = None
    if newest.value.get("removals"):
        removed = open_units(storage, newest, open_run(storage, newest).recipe_file.recipe)
    tokenizer = None
    if with_text:
        tokenizer = Tokenizer.from_buffer(storage.read(order.order.plan.mixture.tokenizer_path))
    return Opened(order, run, units, removed, tokenizer)


def _published_with(storage: Storage, newest: Published, mixture: str) -> Published:
    """The newest version that names the mixture."""
    for path in reversed(versions(storage)):
        published = newest if path == newest.path else read_version(storage, path)
        if published.value["mixture"] == mixture:
            return published
    erased = [str(stone["version"]) for stone in tombstones(storage)]
    raise ValueError(
        f"no published version of {storage.root!r} has mixture {mixture}, the newest has {newest.value['mixture']}"
        + (f"; after takedowns these were erased: {', '.join(erased)}" if erased else "")
    )


def trace(opened: Opened, rows: Sequence[int]) -> Iterator[TracedRow]:
    """Where global rows come from, in the order they are asked for.

    Raises:
        ValueError: the plan has no such row; says how many it has.
        CorruptShardError: a record batch is not what the shard table says.
    """
    order, shards = opened.mixture.order, opened.mixture.shards
    total = order.plan.total_rows
    for k in rows:
        if not 0 <= k < total:
            raise ValueError(
                f"the plan has rows 0 … {total - 1}, none numbered {k}: trace with the --total-rows and --window-bytes "
                "that the mixture was trained with, if they were given"
            )
    found = order.order(rows)
    places = order.places(found)
    first_batch = np.concatenate([[0], np.cumsum(pc.list_value_length(shards.column("batch_rows")).to_numpy())])
    for i, k in enumerate(rows):
        index = int(np.searchsorted(first_batch, places.batch[i], side="right")) - 1
        component, unit, path = (shards.column(name)[index].as_py() for name in ("component", "unit", "path"))
        record_batch, batch_row = int(places.batch[i] - first_batch[index]), int(places.row[i])
        yield TracedRow(
            k=int(k),
            component=component,
            epoch=int(found.epoch[i]),
            stored_row=int(found.row[i]),
            unit=unit,
            shard=path,
            record_batch=record_batch,
            batch_row=batch_row,
            length=order.plan.mixture.sequence_length,
            pieces=tuple(_pieces(opened, component, unit, path, (record_batch, batch_row))),
        )


def _pieces(opened: Opened, component: str, unit: str, path: str, place: tuple[int, int]) -> Iterator[TracedPiece]:
    """What is in a row; `place` is its record batch, and its row there."""
    storage, mixture = opened.run.storage, opened.mixture.order.plan.mixture
    source, _, stratum = component.partition("/")
    shards = shards_in(opened.units.packed[unit], stratum)
    (batch,) = read_batches(storage, next(shard for shard in shards if shard.path == path), [place[0]])
    row, parts = batch.slice(place[1], 1).to_pylist()[0], SequenceFormat.of(batch.schema).parts
    sizes, starts = row["document_lengths"], row["document_starts"]
    names = list(zip((parts[index] for index in row["document_parts"]), row["document_rows"], strict=True))
    ats = places_in_rows(np.array(sizes, np.int32), np.array([0, len(sizes)]), mixture.sequence_align).tolist()
    pieces = list(zip(names, ats, starts, sizes, strict=True))
    cut = {name for name, at, start, tokens in pieces if start or at + tokens == mixture.sequence_length}
    whole = dict(zip(names, sizes, strict=True)) | _document_tokens(storage, shards, cut)
    known = _known(opened, source, unit, names)
    for name, at, start, tokens in pieces:
        yield TracedPiece(
            document=f"{name[0]}:{name[1]}",
            source=source,
            at=at,
            start=start,
            tokens=tokens,
            document_tokens=whole[name],
            text=_decoded(opened.tokenizer, row["tokens"][at : at + tokens]),
            **known[name],
        )


def _decoded(tokenizer: Tokenizer | None, ids: list[int]) -> str | None:
    return None if tokenizer is None else str(tokenizer.decode(ids, skip_special_tokens=False))


def _document_tokens(storage: Storage, shards: Sequence[Output], names: set[Identity]) -> dict[Identity, int]:
    """Tokens of each document in all rows: its pieces lie in these shards, of its unit and stratum, alone."""
    found: dict[Identity, int] = defaultdict(int)
    for some in (pieces for shard in shards if names for pieces in packed_pieces(storage, shard)):
        for at in np.flatnonzero(np.isin(some.document, [row for _, row in names])).tolist():
            name = (some.parts[some.part[at]], int(some.document[at]))
            if name in names:
                found[name] += int(some.tokens[at])
    return found


def _known(opened: Opened, source: str, unit: str, names: Sequence[Identity]) -> dict[Identity, dict[str, Any]]:
    """What the run's tables say of each document."""
    storage, removed = opened.run.storage, opened.removed
    clusters = _rows_of(storage, opened.units.clusters.get(unit), names)
    found: dict[Identity, dict[str, Any]] = {}
    for part in dict.fromkeys(part for part, _ in names):
        table = None if removed is None else removed.takedown.get(removed.unit_of.get(part, ""))
        takedowns = _rows_of(storage, table, names)
        rows = sorted({row for of, row in names if of == part})
        for row, recorded in _recorded(storage, opened.run.parts[source][part].tables, rows):
            name = (part, row)
            found[name] = {**recorded, "cluster": clusters.get(name), "takedown": takedowns.get(name)}
    return found


def _rows_of(storage: Storage, table: Output | None, names: Sequence[Identity]) -> dict[Identity, dict[str, Any]]:
    """Rows of a table that has one a document, in its columns `part` and `row`."""
    if table is None:
        return {}
    rows = read_table(storage, table.path)
    near = rows.filter(pc.is_in(rows.column("row"), pa.array([row for _, row in names], pa.int32())))
    found = {(row["part"], row["row"]): row for row in near.to_pylist()}
    return {name: found[name] for name in names if name in found}


def _recorded(
    storage: Storage, tables: Mapping[str, Output], rows: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Place, decision and signals of documents of one part; of each table their row groups are read."""
    signals = sorted(name for name in tables if name.startswith("signals/"))
    with ExitStack() as stack:
        names = ["documents", "decisions", *signals]
        readers = {name: stack.enter_context(open_groups(storage, tables[name].path)) for name in names}
        ends = np.cumsum(readers["decisions"].group_rows)
        for row in rows:
            group = int(np.searchsorted(ends, row, side="right"))
            at = row - (int(ends[group - 1]) if group else 0)
            yield (
                row,
                {
                    "place": _present(readers["documents"], group, at, _PLACE),
                    "decision": readers["decisions"].read(group).slice(at, 1).to_pylist()[0],
                    "signals": {
                        f"{name.removeprefix('signals/')}.{column}": value
                        for name in signals
                        for column, value in _present(readers[name], group, at, _readable(readers[name])).items()
                    },
                },
            )


def _present(reader: GroupReader, group: int, at: int, columns: list[str]) -> dict[str, Any]:
    """What a row of a row group has in some columns, nulls left out."""
    values = reader.read(group, columns).slice(at, 1).to_pylist()[0] if columns else {}
    return {name: value for name, value in values.items() if value is not None}


def _readable(reader: GroupReader) -> list[str]:
    """Columns that say something to people: hashes and signatures do not."""
    fields = [field for field in reader.schema]
    return [
        field.name for field in fields if not pa.types.is_binary(field.type) | pa.types.is_fixed_size_binary(field.type)
    ]
