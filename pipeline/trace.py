"""Where a global row comes from: its place in the shards, its documents, and what is known of each of them.

    k ─▶ order ─▶ component, epoch, stored row ─▶ shard, record batch, row in it ─▶ pieces ─▶ documents, signals, …

Of the shards one record batch a row is read, and of the parts' tables the row groups of its documents. Where a piece
may not be all of its document (it begins within that, or ends with the row), the unit's shards are read for the others.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.receipts import Output
from tokenmill.manifests.shards import PREFERENCE, SequenceFormat, places_in_rows
from tokenmill.pipeline.loader.groups import groups
from tokenmill.pipeline.loader.opening import open_order
from tokenmill.pipeline.loader.order import OrderedRows
from tokenmill.pipeline.loader.published import find_mix
from tokenmill.pipeline.packed import packed_pieces, read_batches, shards_in
from tokenmill.pipeline.sheet import published_or_error
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import GroupReader, open_groups, read_table
from tokenmill.pipeline.traced import TracedPiece, TracedRow
from tokenmill.pipeline.traced_runs import Opened, TracedRun, open_traced, published_with

_PLACE = ["raw_file", "raw_offset", "url", "repository", "path"]
Identity = tuple[str, int]


def open_trace(
    folder: str,
    mixture: str | None = None,
    *,
    total_rows: int | None = None,
    window_bytes: int | None = None,
    split: str = "train",
    with_text: bool = False,
) -> Opened:
    """Open a mixture.

    Args:
        folder: the run's root, a folder or a URL; or what `tokenmill mix` wrote, its path or folder.
        mixture: path of one of the run's mixtures, under its root or with it; by default its newest version's.
        total_rows: as `open_mixture` was given.
        window_bytes: as `open_mixture` was given.
        split: "train" or "validation".
        with_text: whether pieces are decoded.

    Raises:
        ValueError: no version was published with that mixture, or all that were are erased; says which.
        FileNotFoundError: no such mixture.
    """
    ordered = partial(open_order, total_rows=total_rows, window_bytes=window_bytes, split=split)
    own = None
    if mixture is None and (folder.endswith(".json") or find_mix(folder) is not None):
        order = ordered(folder)
        first = order.stages[0]
        if not first.mixture.runs:
            found = published_with(first.storage, published_or_error(first.storage), first.mixture.path)
            own = open_traced(first.storage, found.path)
    else:
        storage = Storage(folder)
        newest = published_or_error(storage)
        path = newest.value["mixture"] if mixture is None else mixture.removeprefix(f"{storage.root}/")
        if path is None:
            raise ValueError(f"{storage.url(newest.path)} has no mixture: nothing was kept for training")
        own = open_traced(storage, published_with(storage, newest, path).path)
        order = ordered(storage.url(path))
    tokenizer = None
    if with_text:
        first = order.stages[0]
        tokenizer = Tokenizer.from_buffer(first.storage.read(first.mixture.tokenizer_path))
    return Opened(order, own, tokenizer)


def trace(opened: Opened, rows: Sequence[int]) -> Iterator[TracedRow]:
    """Where global rows come from, in the order they are asked for.

    Raises:
        ValueError: the plan has no such row; says how many it has.
        CorruptShardError: a record batch is not what the shard table says.
    """
    order, plan = opened.mixture.order, opened.mixture.order.plan
    for k in rows:
        if not 0 <= k < plan.total_rows:
            raise ValueError(
                f"the plan has rows 0 … {plan.total_rows - 1}, none numbered {k}: trace with the --total-rows and "
                "--window-bytes that the mixture was trained with, if they were given"
            )
    found, stages = order.order(rows), plan.stage_of(rows)
    batches, inside = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for stage, members in groups(stages):
        some = OrderedRows(found.component[members], found.epoch[members], found.row[members])
        batches[members], inside[members] = order.places(some, stage)
    shards = [opened.mixture.stages[stage.index].shards for stage in plan.stages]
    firsts = [np.concatenate([[0], np.cumsum(pc.list_value_length(one["batch_rows"]).to_numpy())]) for one in shards]
    for i, k in enumerate(rows):
        stage = int(stages[i])
        index = int(np.searchsorted(firsts[stage], batches[i], side="right")) - 1
        component, unit, path = (shards[stage].column(name)[index].as_py() for name in ("component", "unit", "path"))
        run, place = opened.run_of(stage, path)
        source, _, stratum = component.partition("/")
        at = _Place(
            source=source if place is None else place.sources[source],
            stratum=stratum,
            unit=unit,
            shard=path if place is None else path.partition("/")[2],
            record_batch=int(batches[i] - firsts[stage][index]),
            row=int(inside[i]),
        )
        mixture = plan.stages[stage].mixture
        yield TracedRow(
            k=int(k),
            component=component,
            epoch=int(found.epoch[i]),
            stored_row=int(found.row[i]),
            run="" if place is None else run.run.storage.url(place.manifest),
            unit=unit,
            shard=at.shard,
            record_batch=at.record_batch,
            batch_row=at.row,
            length=mixture.sequence_length,
            pieces=tuple(_pieces(run, at, mixture, opened.tokenizer)),
        )


class _Place(NamedTuple):
    """Where a row lies in its run."""

    source: str
    stratum: str
    unit: str
    shard: str
    record_batch: int
    row: int


def _pieces(run: TracedRun, at: _Place, mixture: Mixture, tokenizer: Tokenizer | None) -> Iterator[TracedPiece]:
    """What is in a row."""
    storage = run.run.storage
    shards = shards_in(run.units.packed[at.unit], at.stratum)
    (batch,) = read_batches(storage, next(shard for shard in shards if shard.path == at.shard), [at.record_batch])
    row, parts = batch.slice(at.row, 1).to_pylist()[0], SequenceFormat.of(batch.schema).parts
    sizes, starts = row["document_lengths"], row["document_starts"]
    names = list(zip((parts[index] for index in row["document_parts"]), row["document_rows"], strict=True))
    begins = places_in_rows(np.array(sizes, np.int32), np.array([0, len(sizes)]), mixture.sequence_align).tolist()
    pieces = list(zip(names, begins, starts, sizes, strict=True))
    cut = {name for name, begin, start, tokens in pieces if start or begin + tokens == mixture.sequence_length}
    whole = dict(zip(names, sizes, strict=True)) | _document_tokens(storage, shards, cut)
    known = _known(run, at.source, at.unit, names)
    for name, begin, start, tokens in pieces:
        yield TracedPiece(
            document=f"{name[0]}:{name[1]}",
            source=at.source,
            at=begin,
            start=start,
            tokens=tokens,
            document_tokens=whole[name],
            text=_decoded(tokenizer, row["tokens"][begin : begin + tokens]),
            branch=("rejected" if start else "chosen") if mixture.layout == PREFERENCE else None,
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


def _known(run: TracedRun, source: str, unit: str, names: Sequence[Identity]) -> dict[Identity, dict[str, Any]]:
    """What the run's tables say of each document."""
    storage, removed = run.run.storage, run.removed
    clusters = _rows_of(storage, run.units.clusters.get(unit), names)
    found: dict[Identity, dict[str, Any]] = {}
    for part in dict.fromkeys(part for part, _ in names):
        table = None if removed is None else removed.takedown.get(removed.unit_of.get(part, ""))
        takedowns = _rows_of(storage, table, names)
        rows = sorted({row for of, row in names if of == part})
        for row, recorded in _recorded(storage, run.run.parts[source][part].tables, rows):
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
