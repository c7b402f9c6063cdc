"""`tokenmill remove`: a new version of a run without some documents, made of what is at rest alone.

The request is written first, so whatever comes after keeps them out. Then *takedown* finds its documents in every unit,
and only units that were to pack one of them are packed again; of everything else the new version names what the old one
named. No raw file and no model is looked at.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from tokenmill.filters.urls import url_key
from tokenmill.pipeline.opened import OpenedRun
from tokenmill.pipeline.opened_units import OpenedUnits
from tokenmill.pipeline.removals import (
    Entry,
    entry_key,
    listed,
    question,
    request_paths,
    rows_of,
    write_request,
)
from tokenmill.pipeline.run import Run
from tokenmill.pipeline.scan import scan
from tokenmill.pipeline.steps.pack import run_pack
from tokenmill.pipeline.steps.publish import Published, publish
from tokenmill.pipeline.steps.takedown import run_takedown, standing_hash
from tokenmill.pipeline.takedown_find import InUnit, Named, RowSets, copies_of, named_in, not_taken_down, union_of
from tokenmill.pipeline.why import IDENTITY

#: What is unknown, of which so many are named in a message.
_SHOWN = 20


@dataclass(frozen=True)
class Asked:
    """What someone wants out.

    Attributes:
        ids: documents, "part:row".
        urls: URLs of single pages; scheme, port, "www." and fragment do not count.
        domains: with everything below them.
        reason: in their words.
        copies: of a document that is out already as a duplicate, the one it is a duplicate of goes too.
    """

    ids: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    reason: str = ""
    copies: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a removal came to.

    Attributes:
        documents: that went on the list now; with `copies`, keepers too.
        keepers: documents that stay, of which named ones were removed as duplicates: identities, sorted.
        request: path of the request; None when all was asked for before.
        packed: units packed again.
        units: units of the run.
        published: the version without them.
    """

    documents: int
    keepers: tuple[str, ...]
    request: str | None
    packed: tuple[str, ...]
    units: int
    published: Published


def ids_in(text: str) -> tuple[str, ...]:
    """Documents in a file of ids, one a line; blank lines and lines that begin with `#` say nothing.

    Raises:
        ValueError: lines that are no identity, listed.
    """
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    wrong = [line for line in found if not IDENTITY.fullmatch(line)]
    if wrong:
        raise ValueError(f"no identities of documents, which are part:row as `tokenmill sample` prints: {_list(wrong)}")
    return tuple(dict.fromkeys(f"{line.split(':')[0]}:{int(line.split(':')[1])}" for line in found))


def remove(run: Run, opened: OpenedRun, units: OpenedUnits, asked: Asked) -> Outcome:
    """Put what is asked for on the removal list and publish a version without it; asked again, it changes nothing.

    Args:
        run: on the folder of the run, with the recipe that the newest version was run with.
        opened: that version.
        units: its units.
        asked: what has to go; with nothing in it, what is on the list already is put into effect.

    Raises:
        ValueError: documents, URLs or domains that the run does not have, listed; nothing was written.
    """
    storage = run.storage
    entries, keepers = _looked_up(run, opened, units, asked)
    if asked.copies:
        entries += keepers
    copies = (storage, rows_of(name for _, name, _ in entries))
    for found in _scan(run, "look for copies", copies_of, copies, _units_of(units, {}, everywhere=True)):
        entries += found
    entries += [*(("url", url, None) for url in asked.urls), *(("domain", name, None) for name in asked.domains)]
    before = listed(storage)
    new = [entry for entry in entries if entry_key(*entry[:2]) not in before]
    request = None
    if new:
        request = write_request(storage, new, asked.reason, datetime.now(UTC).isoformat(timespec="seconds"))
    packed, published = apply(run, units)
    return Outcome(
        sum(kind == "document" for kind, _, _ in new),
        () if asked.copies else tuple(sorted(name for _, name, _ in keepers)),
        request,
        tuple(packed),
        len(units.units),
        published,
    )


def apply(run: Run, units: OpenedUnits) -> tuple[list[str], Published]:
    """Bring the removal list into effect: the units that were packed again, and the version without its documents."""
    run.book.load()
    removals = tuple(request_paths(run.storage))
    now = [replace(unit, removals=removals) for unit in units.units.values()]
    taken = run.of_units("takedown", run_takedown, now) if removals else []
    hashes = {receipt.task: standing_hash(receipt.output("takedown")) for receipt in taken}
    changed = [unit for unit in now if units.packed[unit.name].inputs.get("takedown") != hashes.get(unit.name)]
    packed = {receipt.task: receipt for receipt in run.of_units("pack", run_pack, changed) if receipt.step == "pack"}
    receipts = [receipt for receipt in units.receipts if receipt.step not in ("takedown", "pack")]
    receipts += [*taken, *(units.packed | packed).values()]
    run.book.compact({"takedown", "pack"})
    recipe_file = run.recipe_file
    return sorted(packed), publish(run.storage, recipe_file.recipe, recipe_file.text, units.parts, receipts)


def _looked_up(run: Run, opened: OpenedRun, units: OpenedUnits, asked: Asked) -> tuple[list[Entry], list[Entry]]:
    """Entries of the documents named; and of those that stay, of which named ones were removed as duplicates.

    Raises ValueError listing what the run does not have.
    """
    rows, missing = _rows_of_ids(opened, asked.ids)
    page = question(asked.urls, asked.domains)
    items = _units_of(units, rows, everywhere=page.names_urls)
    found: list[Named] = _scan(run, "look for pages", named_in, (run.storage, page), items)
    hits = frozenset[str]().union(*(named.hits for named in found))
    missing += [url for url in asked.urls if url_key(url) not in hits]
    missing += [domain for domain in asked.domains if domain not in hits]
    if missing:
        raise ValueError(f"not in this run, so nothing was removed: {_list(sorted(missing))}")
    rows = union_of(named.rows for named in found)
    others = union_of(named.keepers for named in found)
    keepers = {key: left for key, some in others.items() if (left := some - rows.get(key, set()))}
    standing = _scan(run, "look for keepers", not_taken_down, run.storage, _units_of(units, keepers))
    return [entry for named in found for entry in named.entries], list(chain.from_iterable(standing))


def _rows_of_ids(opened: OpenedRun, ids: Sequence[str]) -> tuple[dict[str, set[int]], list[str]]:
    """Rows by part key, and the identities that the run does not have."""
    parts = {key: part for found in opened.parts.values() for key, part in found.items()}
    rows: dict[str, set[int]] = defaultdict(set)
    missing = []
    for name in ids:
        key, _, row = name.partition(":")
        if key in parts and int(row) < parts[key].balances["ingest"].taken.documents:
            rows[key].add(int(row))
        else:
            missing.append(name)
    return dict(rows), missing


def _units_of(units: OpenedUnits, rows: RowSets, everywhere: bool = False) -> list[InUnit]:
    """The units that hold the rows, or all, each with its own."""
    of_unit: dict[str, dict[str, set[int]]] = {name: {} for name in units.units} if everywhere else {}
    for key, found in rows.items():
        of_unit.setdefault(units.unit_of[key], {})[key] = found
    return [InUnit(units.units[name], found, units.takedown.get(name)) for name, found in sorted(of_unit.items())]


def _scan(run: Run, name: str, function: Callable[[Any, InUnit], Any], shared: Any, items: list[InUnit]) -> list[Any]:
    return scan(run.executor, run.reporter, name, function, shared, items)


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
