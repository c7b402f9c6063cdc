"""select: signals + bounds → `decisions`: kept, or the first violated bound, and the stratum. Reads no text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.bounds import Bound, Cut, Ties, bounded_signals, first_violated
from tokenmill.filters.language import LanguageBounds, language_violations
from tokenmill.filters.per_language import first_violated_by_language, signals_looked_at
from tokenmill.manifests.balance import Balance, Tally
from tokenmill.manifests.keyed import key64, mix64
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.manifests.schemas import DECISIONS
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.datatrove_adapter import GUEST, guest_reasons
from tokenmill.pipeline.languages import bounds_hash, language_bounds
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.recipe import Language, Percentile, Recipe, Source
from tokenmill.pipeline.recipe.mixture import Quality
from tokenmill.pipeline.steps.thresholds import PLACE, tie_hashes
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import GroupReader, TableWriter, new_table, open_groups

VERSION = 1
ERASED = "removed.takedown"
_LANGUAGE = ["language", "language_score", "other_language_fraction"]
#: Row groups decided on at once: 16 Ki rows, some 4 MB of signals; one at a time takes twice as long.
GROUPS_AT_ONCE = 16


def run_select(
    run: TaskRun,
    recipe: Recipe,
    source: Source,
    part: Part,
    tables: Mapping[str, Output],
    thresholds: Mapping[str, Cut | None],
) -> Receipt:
    """Decide on one part.

    Args:
        run: the run.
        recipe: the recipe.
        source: its source.
        part: the part.
        tables: outputs of *ingest* and *annotate* by name.
        thresholds: cuts of percentile bounds, "source/group.bound".
    """
    bounds = settled_bounds(source, thresholds)
    by_language = language_bounds(source)
    params = {
        "bounds": [[group, [[name, _plain(value)] for name, value in values.items()]] for group, values in bounds],
        "bounds_by_language": bounds_hash(by_language) if by_language else None,
        "language": asdict(_language_bounds(source.language)) if source.language else None,
        "strata": recipe.strata.decided,
        "seed": recipe.seed,
    }
    used = tables_read(recipe, source, tables)
    inputs = {name: table.hash for name, table in used.items()}
    task = Task("select", VERSION, source.name, part.key, params, inputs)

    def work(key: str) -> Work:
        with open_groups(run.storage, used["documents"].path) as documents:
            group_rows = documents.group_rows
        with new_table(run.storage, DECISIONS) as writer:
            balance = write_decisions(decide_part(run.storage, recipe, source, used, bounds), group_rows, writer)
            output = writer.commit("decisions", f"decisions/{source.name}/{part.key}.{key}.parquet")
        return Work((output,), balance)

    return run.once(task, work)


def _plain(bound: Bound) -> float | list[float] | None:
    """A bound as it decides, in JSON: a percentile that cuts at the same place decides the same."""
    return [bound.value, bound.tie] if isinstance(bound, Cut) else bound


def _language_bounds(language: Language) -> LanguageBounds:
    return LanguageBounds(language.keep, language.min_score, language.max_other_language_fraction)


def tables_read(recipe: Recipe, source: Source, tables: Mapping[str, Output]) -> dict[str, Output]:
    """The tables of a part that its decisions depend on."""
    return {name: table for name, table in tables.items() if name == "documents" or _is_read(name, recipe, source)}


def _is_read(name: str, recipe: Recipe, source: Source) -> bool:
    groups = {entry.group for entry in source.filters} | {"hashes"}
    if "language" in recipe.strata.by or (source.language and _language_bounds(source.language) != LanguageBounds()):
        groups.add("language")
    if language_bounds(source):
        groups.add("language")
    return name.removeprefix("signals/") in groups


def settled_bounds(source: Source, thresholds: Mapping[str, Cut | None]) -> list[tuple[str, dict[str, Bound]]]:
    """The source's bounds, group by group in the recipe's order, percentiles replaced by their cuts."""
    return [
        (
            entry.group,
            {
                name: thresholds[f"{source.name}/{entry.group}.{name}"] if isinstance(value, Percentile) else value
                for name, value in entry.bounds.items()
            },
        )
        for entry in source.filters
    ]


def write_decisions(
    decided: Iterable[tuple[range, pa.RecordBatch, pa.Array]], group_rows: Sequence[int], writer: TableWriter
) -> Balance:
    """Write decisions in the row groups of `documents`; their books."""
    balance = Balance()
    for groups, decisions, text_bytes in decided:
        first_row = 0
        for index in groups:
            writer.write_group(decisions.slice(first_row, group_rows[index]))
            first_row += group_rows[index]
        balance += select_balance(decisions, text_bytes)
    return balance


def decide_part(
    storage: Storage,
    recipe: Recipe,
    source: Source,
    tables: Mapping[str, Output],
    bounds: list[tuple[str, dict[str, Bound]]],
) -> Iterator[tuple[range, pa.RecordBatch, pa.Array]]:
    """Decisions of a part, a few row groups at a time: the one way in which any are made.

    Args:
        storage: the run's folder.
        recipe: the recipe.
        source: the part's source.
        tables: from `tables_read`.
        bounds: from `settled_bounds`.

    Yields:
        Row groups, the decisions on their rows, the bytes of their texts.
    """
    with ExitStack() as stack:
        readers = {name: stack.enter_context(open_groups(storage, table.path)) for name, table in tables.items()}
        total = len(readers["documents"])
        for start in range(0, total, GROUPS_AT_ONCE):
            groups = range(start, min(start + GROUPS_AT_ONCE, total))
            hashes = readers["signals/hashes"].read(groups, ["content_hash", "text_bytes"])
            decisions = _decide(recipe, source, readers, bounds, groups, hashes.column("content_hash"))
            yield groups, decisions, hashes.column("text_bytes")


def _decide(
    recipe: Recipe,
    source: Source,
    readers: Mapping[str, GroupReader],
    bounds: list[tuple[str, dict[str, Bound]]],
    groups: range,
    hashes: pa.Array,
) -> pa.RecordBatch:
    """Decisions on row groups: failures and gates first, then language, then the filters in the recipe's order."""
    documents = readers["documents"].read(groups, ["gate", "failure"])
    failed = pc.binary_join_element_wise("failed", documents.column("failure"), ".")
    # a document without a content hash has no text: it was erased before this was measured
    erased = pc.if_else(pc.is_null(hashes), pa.scalar(ERASED), pa.scalar(None, pa.string()))
    reasons = [failed, documents.column("gate"), erased]
    language = readers["signals/language"].read(groups, _LANGUAGE) if "signals/language" in readers else None
    if language is not None and source.language is not None:
        reasons.append(language_violations(language, _language_bounds(source.language)))
    by_language = language_bounds(source)
    ties: Ties = cache(lambda: tie_hashes(readers["documents"].read(groups, PLACE), recipe.seed))
    for group, values in bounds:
        if group.startswith(GUEST):
            reasons.append(guest_reasons(readers[f"signals/{group}"].read(groups), group))
        elif own := by_language.get(group):
            signals = readers[f"signals/{group}"].read(groups, signals_looked_at(values, own))
            assert language is not None, "filters with `per_language` read signals/language"
            reasons.append(first_violated_by_language(signals, language.column("language"), values, own, group, ties))
        elif bounded := bounded_signals(values):
            on = {name: bound for name, bound in values.items() if bound is not None}
            signals = readers[f"signals/{group}"].read(groups, bounded)
            reasons.append(first_violated(signals, on, group, ties))
    reason = pc.coalesce(*[column.cast(pa.string()) for column in reasons])
    kept = pc.is_null(reason)
    strata = _strata(recipe, hashes, language, _quality_signal(recipe, readers, groups))
    stratum = pc.if_else(kept, strata, pa.scalar(None, pa.string()))
    return pa.RecordBatch.from_arrays([kept, reason, stratum], schema=DECISIONS)


def _quality_signal(recipe: Recipe, readers: Mapping[str, GroupReader], groups: range) -> pa.Array | None:
    """The signal that strata are by, or None: they are not, or the source does not measure it."""
    quality = recipe.strata.quality
    reader = readers.get(f"signals/{quality.group}") if quality is not None else None
    if quality is None or reader is None:
        return None
    known = [field.name for field in reader.schema if _is_number(field.type)]
    if quality.column not in known:
        raise ValueError(
            f"strata.quality reads signal {quality.signal}, which is none: those of {quality.group} that are numbers "
            f"are {', '.join(known)}"
        )
    return reader.read(groups, [quality.column]).column(0)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _strata(
    recipe: Recipe, hashes: pa.Array, language: pa.RecordBatch | None, quality: pa.Array | None = None
) -> pa.Array:
    """Stratum names: the split, drawn from the content hash so that exact copies fall together, × `strata.by`."""
    filled = pc.fill_null(hashes, bytes(16))
    words = np.frombuffer(filled.buffers()[1], np.uint64, 2 * len(filled), 16 * filled.offset)[::2]
    drawn = mix64(words, key64("split", recipe.seed)) >> np.uint64(11)  # 53 bits
    held_out = drawn < np.uint64(int(recipe.strata.validation_fraction * 2**53))
    split = pc.if_else(pa.array(held_out), "validation", "train")
    names = [split]
    if "language" in recipe.strata.by and language is not None:
        names.append(pc.fill_null(language.column("language"), "und"))
    if recipe.strata.quality is not None and quality is not None:
        names.append(_buckets(recipe.strata.quality, quality))
    return pc.binary_join_element_wise(*names, "/") if len(names) > 1 else split


def _buckets(quality: Quality, values: pa.Array) -> pa.Array:
    """The bucket of each value, as in "quality=high"; the first where there is none."""
    borders = np.array([least for least in quality.buckets.values() if least is not None])
    numbers = pc.fill_null(values.cast(pa.float64()), -np.inf).to_numpy(zero_copy_only=False)
    at = np.searchsorted(borders, np.where(np.isnan(numbers), -np.inf, numbers), "right")
    return pa.array([f"quality={name}" for name in quality.buckets]).take(pa.array(at))


def select_balance(decisions: pa.RecordBatch, text_bytes: pa.Array) -> Balance:
    """Books of *select*: it takes in what *ingest* let out; bytes are those of the text after every edit."""
    table = pa.table({"reason": decisions.column("reason"), "bytes": text_bytes})
    balance = Balance()
    for row in table.group_by("reason").aggregate([("bytes", "sum"), ([], "count_all")]).to_pylist():
        reason = row["reason"]
        if reason is not None and reason.startswith(("gates.", "failed.")):
            continue  # booked by ingest
        tally = Tally(documents=row["count_all"], bytes=row["bytes_sum"] or 0)
        balance.taken += tally
        if reason is None:
            balance.out += tally
        else:
            balance.drop(reason, tally)
    return balance
