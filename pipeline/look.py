"""Look at data: documents that a bound dropped, or that all bounds kept, with the signal's value and the bound.

Which documents is a pure function of the run. The receipts say how many documents of each part have the reason, so
the sample is drawn from the whole source, each document as likely as any other, before anything is read: numbers of
documents are hashes, and only parts that hold one of them are opened.
"""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.bounds import Cut
from tokenmill.filters.edits import apply_edits
from tokenmill.filters.turns import moved_turns
from tokenmill.manifests.keyed import key64
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.chat.turns import conversations_of
from tokenmill.pipeline.kept import edit_outputs
from tokenmill.pipeline.languages import LanguageBounds, language_bounds
from tokenmill.pipeline.opened import OpenedPart, OpenedRun
from tokenmill.pipeline.recipe import Source
from tokenmill.pipeline.seen import KEPT, Seen
from tokenmill.pipeline.steps.select import settled_bounds
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import GroupReader, open_groups, read_table

#: Where the value is that a gate or a language bound decides on; of the other gates it is not kept.
_SIGNALS = {
    "gates.mime": ("documents", "mime"),
    "gates.http_status": ("documents", "http_status"),
    "gates.max_record_bytes": ("documents", "raw_bytes"),
    "gates.url_blocklist": ("documents", "url"),
    "gates.url_words": ("documents", "url"),
    "gates.extension": ("documents", "path"),
    "gates.languages": ("signals/language", "language"),
    "gates.min_language_score": ("signals/language", "language_score"),
    "language.keep": ("signals/language", "language"),
    "language.min_score": ("signals/language", "language_score"),
    "language.max_other_language_fraction": ("signals/language", "other_language_fraction"),
}
#: Signals that say what the values of a group are about.
_BESIDE = {"contamination": ["benchmark", "item"]}
_PLACE = ("raw_file", "raw_offset", "url", "repository", "path", "failure")


def reason_counts(parts: Mapping[str, OpenedPart]) -> Counter[str]:
    """Documents of a source by reason, and how many were "kept", from receipts."""
    counts: Counter[str] = Counter()
    for part in parts.values():
        counts.update(_part_counts(part))
    return counts


def _part_counts(part: OpenedPart) -> dict[str, int]:
    ingest, select = part.balances["ingest"], part.balances["select"]
    found = {reason: tally.documents for reason, tally in (ingest.dropped | select.dropped).items()}
    found |= {f"failed.{reason}": tally.documents for reason, tally in ingest.failed.items()}
    return {**found, KEPT: select.out.documents}


def draw(source: str, reason: str, total: int, count: int) -> list[int]:
    """`count` distinct numbers under `total`, sorted; all of them when there are no more. The same each time."""
    if total <= count:
        return list(range(total))
    drawn: set[int] = set()
    attempt = 0
    while len(drawn) < count:
        drawn.add(key64("sample", source, reason, attempt) % total)
        attempt += 1
    return sorted(drawn)


def sample(run: OpenedRun, source_name: str, reason: str, count: int) -> tuple[int, Iterator[Seen]]:
    """Documents of a source with a reason.

    Args:
        run: the run.
        source_name: the source.
        reason: a drop reason, the group of several ("gopher_quality", "gates"), or "kept": by all bounds, before
            deduplication.
        count: how many at most.

    Returns:
        How many there are, and the documents, in order of part and row; read as they are asked for.

    Raises:
        ValueError: no such source; no document has the reason.
    """
    if source_name not in run.parts:
        raise ValueError(f"no source {source_name!r} in this run: it has {', '.join(run.parts)}")
    parts = run.parts[source_name]
    counts = reason_counts(parts)
    total = sum(number for name, number in counts.items() if _is_asked(name, reason))
    if not total:
        raise ValueError(_no_such_reason(source_name, reason, counts))
    return total, _seen(run, source_name, reason, draw(source_name, reason, total, count))


def _is_asked(name: str | None, reason: str) -> bool:
    return name is not None and (name == reason or name.startswith(f"{reason}."))


def _no_such_reason(source: str, reason: str, counts: Counter[str]) -> str:
    present = [f"{name} ({number:,})" for name, number in counts.most_common() if number]
    near = difflib.get_close_matches(reason, [name for name, number in counts.items() if number], n=1, cutoff=0.5)
    return (
        f"no document of source {source!r} has the reason {reason!r}"
        + (f": did you mean {near[0]!r}? " if near else ". ")
        + f"The reasons are {', '.join(present)}; what deduplication removed stands in the ledger, not under a bound"
    )


def _seen(run: OpenedRun, source_name: str, reason: str, numbers: Sequence[int]) -> Iterator[Seen]:
    source = run.recipe_file.recipe.source(source_name)
    bounds, by_language = _bounds(source, run.thresholds), language_bounds(source)
    order = [entry.group for entry in source.filters]
    before = 0
    for key, part in run.parts[source_name].items():
        here = sum(number for name, number in _part_counts(part).items() if _is_asked(name, reason))
        wanted = {number - before for number in numbers if before <= number < before + here}
        before += here
        if wanted:
            with ExitStack() as stack:
                yield from _PartLook(run.storage, stack, key, part.tables, bounds, by_language, order).seen(
                    reason, wanted
                )


def seen_at(run: OpenedRun, source_name: str, key: str, row: int) -> Seen:
    """One document, whatever became of it up to *select*. Raises ValueError when the part has no such row."""
    source = run.recipe_file.recipe.source(source_name)
    bounds, by_language = _bounds(source, run.thresholds), language_bounds(source)
    order = [entry.group for entry in source.filters]
    with ExitStack() as stack:
        tables = run.parts[source_name][key].tables
        return _PartLook(run.storage, stack, key, tables, bounds, by_language, order).at(row)


def _bounds(source: Source, thresholds: Mapping[str, Cut | None]) -> dict[str, Any]:
    """Every bound of the source by the reason it gives."""
    bounds: dict[str, Any] = {f"gates.{name}": value for name, value in source.gates.model_dump().items()}
    bounds["gates.extension"] = source.extensions
    if source.language is not None:
        bounds |= {f"language.{name}": value for name, value in source.language.model_dump().items()}
    for group, values in settled_bounds(source, thresholds):
        bounds |= {f"{group}.{name}": value for name, value in values.items()}
    return bounds


@dataclass(frozen=True)
class _PartLook:
    """One part, its tables opened as they are needed."""

    storage: Storage
    stack: ExitStack
    key: str
    tables: Mapping[str, Output]
    bounds: Mapping[str, Any]
    by_language: LanguageBounds
    order: list[str]
    readers: dict[str, GroupReader] = field(default_factory=dict)

    def reader(self, name: str) -> GroupReader:
        if name not in self.readers:
            self.readers[name] = self.stack.enter_context(open_groups(self.storage, self.tables[name].path))
        return self.readers[name]

    def seen(self, reason: str, wanted: set[int]) -> Iterator[Seen]:
        """The documents that are number `wanted` among those with the reason; other row groups are not read."""
        first_row = number = 0
        decisions = self.reader("decisions")
        for index in range(len(decisions)):
            reasons = decisions.read(index, ["reason"]).column(0).to_pylist()
            rows = [row for row, name in enumerate(reasons) if _is_asked(name or KEPT, reason)]
            chosen = [row for at, row in enumerate(rows, number) if at in wanted]
            if chosen:
                documents = self.reader("documents").read(index, [*_PLACE, "text"])
                for row in chosen:
                    yield self._document(documents.slice(row, 1), reasons[row], index, row, first_row + row)
            first_row, number = first_row + len(reasons), number + len(rows)
            if number > max(wanted):
                return

    def at(self, row: int) -> Seen:
        """The document in a row; of each table only its row group is read."""
        decisions, first_row = self.reader("decisions"), 0
        for index, rows in enumerate(decisions.group_rows):
            if row < first_row + rows:
                reason = decisions.read(index, ["reason"]).column(0)[row - first_row].as_py()
                document = self.reader("documents").read(index, [*_PLACE, "text"]).slice(row - first_row, 1)
                return self._document(document, reason, index, row - first_row, row)
            first_row += rows
        raise ValueError(f"part {self.key} has {first_row} rows: there is no {self.key}:{row}")

    def _document(self, document: pa.RecordBatch, reason: str | None, index: int, at: int, row: int) -> Seen:
        signal, value = self._signal(reason, index, at)
        (place,) = document.select(list(_PLACE)).to_pylist()
        place = {name: item for name, item in place.items() if item is not None}
        text = document.column("text")
        turns = self.reader("turns").read(index).slice(at, 1) if "turns" in self.tables else None
        for output in edit_outputs(self.tables, _groups_before(self.order, reason)):
            edits = read_table(self.storage, output.path)
            edits = edits.filter(pc.equal(edits.column("row"), row)).combine_chunks()
            text = apply_edits(text, edits, row)
            turns = None if turns is None else moved_turns(turns, edits, row)
        said = None if turns is None else conversations_of(text, turns)[0]
        bound = self._bound(reason, index, at)
        beside = self._beside(reason, index, at)
        return Seen(self.key, row, reason, signal, value, bound, place, text[0].as_py(), said, beside)

    def _beside(self, reason: str | None, index: int, at: int) -> dict[str, Any]:
        group = (reason or "").rpartition(".")[0]
        if group not in _BESIDE:
            return {}
        found: dict[str, Any] = self.reader(f"signals/{group}").read(index, _BESIDE[group]).to_pylist()[at]
        return found

    def _bound(self, reason: str | None, index: int, at: int) -> Any:
        """The bound that a reason names: of the document's language, where it has its own."""
        group, _, name = (reason or "").rpartition(".")
        if group in self.by_language:
            label = self.reader("signals/language").read(index, ["language"]).column(0)[at].as_py()
            own = self.by_language[group].get(label, {})
            if name in own:
                return own[name]
        return self.bounds.get(reason or "")

    def _signal(self, reason: str | None, index: int, at: int) -> tuple[str | None, Any]:
        """Name and value of the signal that a reason is about."""
        if reason is None or reason.startswith("failed."):
            return None, None
        group, _, bound = reason.rpartition(".")
        table, column = _SIGNALS.get(reason, (f"signals/{group}", bound.split("_", 1)[-1]))
        if table not in self.tables:
            return reason, None
        batch = self.reader(table).read(index)
        if column not in batch.schema.names:
            return reason, None
        shown = column if table == "documents" else f"{table.removeprefix('signals/')}.{column}"
        return shown, batch.column(column)[at].as_py()


def _groups_before(order: list[str], reason: str | None) -> list[str]:
    """The groups whose edits the text had when `reason` was decided: those before its own; all for a kept document."""
    if reason is None:
        return order
    own = next((index for index, group in enumerate(order) if reason.startswith(f"{group}.")), 0)
    return order[:own]
