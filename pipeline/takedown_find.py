"""What `tokenmill remove` looks up, a unit at a time: the documents meant, their keepers, their copies.

Each function is a task (see `scan`): it reads URLs a row group at a time, and hands back what it found and no more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.urls import url_key
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.kept import NONE_REMOVED, removed_rows
from tokenmill.pipeline.removals import Entry, Request, Rows, named_rows, question, urls_named
from tokenmill.pipeline.steps.takedown import copies_in, of_own_keepers
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import open_groups, read_table
from tokenmill.pipeline.units import Unit

#: Rows by part key.
RowSets = Mapping[str, set[int]]


@dataclass(frozen=True)
class InUnit:
    """A unit to look into.

    Attributes:
        unit: the unit.
        rows: of it, named by their identity.
        takedown: its takedown table, if there is one.
    """

    unit: Unit
    rows: RowSets
    takedown: Output | None = None


@dataclass(frozen=True)
class Named:
    """What a unit holds of what is asked for.

    Attributes:
        rows: by part key.
        entries: of them.
        keepers: of which some were removed as duplicates.
        hits: the URLs, as `url_key`, and the domains that a page answers to.
    """

    rows: RowSets
    entries: list[Entry]
    keepers: RowSets
    hits: frozenset[str]


def named_in(asked: tuple[Storage, Request], item: InUnit) -> Named:
    """The documents of a unit that are meant: by their identity, or by a URL or a domain."""
    storage, page = asked
    rows = {part.key: set(item.rows.get(part.key, ())) for part in item.unit.parts}
    hits: set[str] = set()
    if page.names_urls:
        for part in item.unit.parts:
            rows[part.key] |= _of_page(storage, item.unit.tables[part.key]["documents"], page, hits)
    rows = {key: found for key, found in rows.items() if found}
    keepers = _keepers(storage, item.unit, rows) if rows else {}
    return Named(rows, entries_of(storage, item.unit, rows), keepers, frozenset(hits))


def _of_page(storage: Storage, documents: Output, page: Request, hits: set[str]) -> set[int]:
    """Rows whose URL is named; what of `page` names them is added to `hits`."""
    rows: set[int] = set()
    first_row = 0
    with open_groups(storage, documents.path) as groups:
        for index in range(len(groups)):
            urls = groups.read(index, ["url"]).column(0)
            named = list(named_rows(urls, page))
            found = urls.take(pa.array(named, pa.int64())).to_pylist()
            hits |= page.urls & {url_key(url) for url in found}
            for domain in page.domains:
                if domain not in hits and any(urls_named(found, question(domains=(domain,)))):
                    hits.add(domain)
            rows |= {first_row + row for row in named}
            first_row += len(urls)
    return rows


def entries_of(storage: Storage, unit: Unit, rows: RowSets) -> list[Entry]:
    """Entries of documents of a unit; with their content hash when *pack* would take them."""
    entries: list[Entry] = []
    for key, wanted in rows.items():
        tables = unit.tables[key]
        standing = read_table(storage, tables["decisions"].path, ["kept"]).column(0).to_numpy().copy()
        standing[removed_rows(read_table(storage, unit.ledger.path)).get(key, NONE_REMOVED)] = False
        hashes = read_table(storage, tables["signals/hashes"].path, ["content_hash"]).column(0)
        for row in sorted(wanted):
            entries.append(("document", f"{key}:{row}", hashes[row].as_py() if standing[row] else None))
    return entries


def _keepers(storage: Storage, unit: Unit, rows: RowSets) -> dict[str, set[int]]:
    """The documents of which some of a unit's rows were removed as duplicates."""
    keepers: dict[str, set[int]] = {}
    ledger = of_own_keepers(read_table(storage, unit.ledger.path))
    for key, wanted in rows.items():
        mine = ledger.filter(pc.equal(ledger.column("removed_part"), key))
        asked = pc.is_in(mine.column("removed_row"), pa.array(wanted, pa.int32()))
        for row in mine.filter(asked).select(["keeper_part", "keeper_row"]).to_pylist():
            keepers.setdefault(row["keeper_part"], set()).add(row["keeper_row"])
    return keepers


def not_taken_down(storage: Storage, item: InUnit) -> list[Entry]:
    """Entries of those of a unit's rows that are not taken down yet."""
    left = {key: set(rows) for key, rows in item.rows.items()}
    if item.takedown is not None:
        for row in read_table(storage, item.takedown.path, ["part", "row"]).to_pylist():
            left.get(row["part"], set()).discard(row["row"])
    return entries_of(storage, item.unit, {key: rows for key, rows in left.items() if rows})


def copies_of(asked: tuple[Storage, Rows], item: InUnit) -> list[Entry]:
    """What a unit's ledger removed for some documents: it stays out, whatever later runs make of their duplicates."""
    storage, documents = asked
    copies = removed_rows(copies_in(read_table(storage, item.unit.ledger.path), documents))
    return [
        ("copy", f"{part}:{row}", None)
        for part, rows in copies.items()
        for row in np.setdiff1d(rows, documents.get(part, NONE_REMOVED)).tolist()
    ]


def union_of(found: Iterable[RowSets]) -> dict[str, set[int]]:
    """All rows of several."""
    union: dict[str, set[int]] = {}
    for rows in found:
        for key, some in rows.items():
            union.setdefault(key, set()).update(some)
    return union
