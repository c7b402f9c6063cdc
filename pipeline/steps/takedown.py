"""takedown: the removal list → the rows of a unit that are taken down. Reads no text; runs where there is such a list.

It comes after *deduplicate* and changes nothing there: a document that is taken down still takes part as what it was,
so what was removed as a duplicate of it stays out, and so do the copies that a later generation brings.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.manifests.schemas import TAKEDOWN
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.kept import NONE_REMOVED, removed_rows
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.removals import Request, Rows, named_rows, read_requests
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import one_chunk, read_table, write_table
from tokenmill.pipeline.units import Unit

VERSION = 1
REASON = "removed.takedown"
_READ = ("documents", "signals/hashes", "decisions")


def run_takedown(run: TaskRun, recipe: Recipe, unit: Unit) -> Receipt:
    """Find what the removal list names in one unit."""
    inputs = {"ledger": unit.ledger.hash}
    for part in unit.parts:
        inputs |= {f"{part.key}/{name}": unit.tables[part.key][name].hash for name in _READ}
    params = {"removals": list(unit.removals)}  # their names hold the hashes of what is in them
    task = Task("takedown", VERSION, unit.source, unit.name, params, inputs)

    def work(key: str) -> Work:
        table = _taken_down(run.storage, unit)
        standing = table.filter(table.column("standing"))
        output = write_table(run.storage, "takedown", f"takedown/{unit.name}.{key}.parquet", table)
        detail = {"rows": table.num_rows, "standing": standing.num_rows, "standing_hash": _rows_hash(standing)}
        return Work((Output(output.name, output.path, output.bytes, output.hash, detail),))

    return run.once(task, work)


def _rows_hash(table: pa.Table) -> str:
    """Hash of which documents a table names; *pack* depends on nothing else of it."""
    names = zip(table.column("part").to_pylist(), table.column("row").to_pylist(), strict=True)
    return xxhash.xxh3_128_hexdigest("\n".join(f"{part}:{row}" for part, row in names).encode())


def standing_hash(takedown: Output) -> str | None:
    """What *pack* depends on: hash of which documents it leaves out; None for none."""
    return takedown.detail["standing_hash"] if takedown.detail["standing"] else None


def standing_rows(taken: pa.Table) -> dict[str, npt.NDArray[np.int32]]:
    """Of a takedown table, the rows that would be packed otherwise, by part key."""
    standing = taken.filter(taken.column("standing"))
    return removed_rows(standing.select(["part", "row"]).rename_columns(["removed_part", "removed_row"]))


def _taken_down(storage: Storage, unit: Unit) -> pa.Table:
    requests = read_requests(storage, unit.removals)
    ledger = read_table(storage, unit.ledger.path)
    of_part = [ledger.filter(pc.equal(ledger.column("removed_part"), part.key)) for part in unit.parts]
    found = [
        taken_down_in(storage, part.key, unit.tables[part.key], requests, removals)
        for part, removals in zip(unit.parts, of_part, strict=True)
    ]
    return pa.concat_tables([TAKEDOWN.empty_table(), *found])


def taken_down_in(
    storage: Storage,
    part: str,
    tables: Mapping[str, Output],
    requests: tuple[Request, ...],
    ledger: pa.Table,
) -> pa.Table:
    """The rows of a part that requests name, of TAKEDOWN; `ledger` holds its own removals."""
    standing = read_table(storage, tables["decisions"].path, ["kept"]).column(0).to_numpy().copy()
    standing[ledger.column("removed_row").to_numpy()] = False
    urls = None
    if any(request.names_urls for request in requests):
        urls = one_chunk(read_table(storage, tables["documents"].path, ["url"]).column(0))
    hashes = None
    if any(len(request.hashes) for request in requests):
        hashes = one_chunk(read_table(storage, tables["signals/hashes"].path, ["content_hash"]).column(0))
    why = np.full(len(standing), None, object)
    by = np.full(len(standing), -1, np.int32)
    for number, request in enumerate(requests):
        named = _named(part, request, urls, hashes, ledger, len(standing))
        new = (by < 0) & np.array([kind is not None for kind in named], np.bool_)
        why[new], by[new] = named[new], number
    rows = np.flatnonzero(by >= 0)
    asked = [requests[number] for number in by[rows]]
    return pa.table(
        [
            [part] * len(rows),
            rows.astype(np.int32),
            standing[rows],
            why[rows],
            [request.reason for request in asked],
            [request.requested for request in asked],
        ],
        schema=TAKEDOWN,
    )


def of_own_keepers(ledger: pa.Table) -> pa.Table:
    """Of a ledger, the removals in favour of this run's documents; a ledger of format 2 knows no others."""
    return ledger.filter(ledger.column("keeper_run").is_null()) if "keeper_run" in ledger.column_names else ledger


def copies_in(ledger: pa.Table, documents: Rows) -> pa.Table:
    """Of a ledger, the removals in favour of these documents."""
    ledger = of_own_keepers(ledger)
    keeper = ledger.column("keeper_row").to_numpy()
    copy = np.zeros(len(keeper), np.bool_)
    for key in pc.unique(ledger.column("keeper_part")).to_pylist():
        if key in documents:
            copy |= pc.equal(ledger.column("keeper_part"), key).to_numpy() & np.isin(keeper, documents[key])
    return ledger.filter(pa.array(copy))


def _named(
    part: str, request: Request, urls: pa.StringArray | None, hashes: pa.Array | None, ledger: pa.Table, rows: int
) -> npt.NDArray[np.object_]:
    """For each row of a part what of it the request names; None where it names nothing."""
    named = np.full(rows, None, object)
    copied = copies_in(ledger, request.documents).column("removed_row").to_numpy()
    for copies in (copied, request.copies.get(part, NONE_REMOVED)):
        named[copies[copies < rows]] = "copy"
    if hashes is not None and len(request.hashes):
        named[pc.is_in(hashes, request.hashes).to_numpy(zero_copy_only=False)] = "copy"
    own = request.documents.get(part, NONE_REMOVED)
    named[own[own < rows]] = "document"
    if urls is not None and request.names_urls:
        for row, kind in named_rows(urls, request).items():
            named[row] = kind
    return named
