"""The columns that the recipe's survivor policy compares, and the tables they are in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.dedup.survivor_order import LONGEST, NEWEST, PRIORITY, TERMS, seconds_of
from tokenmill.filters.bounds import as_float64
from tokenmill.filters.repeated_lines import NOTHING_REPEATED
from tokenmill.filters.splitter import SplitTexts
from tokenmill.manifests.receipts import Output
from tokenmill.manifests.schemas import DOCUMENTS, LANGUAGE_SIGNALS, TURNS
from tokenmill.pipeline.measurements import Batch, measurements
from tokenmill.pipeline.recipe import Recipe, Source
from tokenmill.pipeline.steps.ingest import gates_language
from tokenmill.pipeline.steps.repeated_lines import Gathered
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import one_chunk, read_table

I64 = npt.NDArray[np.int64]


def policy_tables(policy: Sequence[str]) -> list[str]:
    """Names of the tables that a policy reads, as far as a part has them."""
    of_term = {PRIORITY: [], LONGEST: ["signals/hashes"], NEWEST: ["documents"]}
    return sorted({name for term in policy for name in of_term.get(term, [f"signals/{term.rpartition('.')[0]}"])})


def policy_columns(
    storage: Storage, policy: Sequence[str], source: Source, tables: Mapping[str, Output], rows: I64
) -> dict[str, npt.NDArray[Any]]:
    """Values by term, as `dedup.survivor_order.survivor_keys` takes them.

    Args:
        storage: the run's folder.
        policy: the recipe's `dedup.survivor`.
        source: of the part.
        tables: of the part, by name.
        rows: int64[n], rows of the part.
    """

    def column(table: str, name: str) -> pa.Array:
        return one_chunk(read_table(storage, tables[table].path, [name]).column(0)).take(pa.array(rows))

    found: dict[str, npt.NDArray[Any]] = {}
    for term in policy:
        group, _, signal = term.rpartition(".")
        if term == PRIORITY:
            found[term] = np.full(len(rows), source.priority, np.int64)
        elif term == LONGEST:
            found[term] = column("signals/hashes", "text_bytes").to_numpy().astype(np.int64)
        elif term == NEWEST:
            found[term] = seconds_of(column("documents", "date"))
        elif f"signals/{group}" in tables:
            found[term] = as_float64(column(f"signals/{group}", signal))
        else:  # a source that does not measure it
            found[term] = np.full(len(rows), np.nan)
    return found


def check_policy(recipe: Recipe) -> None:
    """Raise ValueError for a signal of the policy that no source measures, or that is no number."""
    for term in recipe.dedup.survivor:
        if term in TERMS:
            continue
        group, _, signal = term.rpartition(".")
        schemas = [schema for source in recipe.sources if (schema := _signals(recipe, source, group)) is not None]
        if not schemas:
            raise ValueError(
                f"`quality: {term}`: no source measures the group {group!r}; give one the filter, or take a signal of "
                f"{', '.join(sorted(_groups(recipe)))}"
            )
        numbers = [name for name in schemas[0].names if _is_number(schemas[0].field(name).type)]
        if signal not in numbers:
            raise ValueError(
                f"`quality: {term}`: {group} has no number {signal!r}; it has {', '.join(numbers) or 'none'}"
            )


def _groups(recipe: Recipe) -> set[str]:
    filters = {entry.group for source in recipe.sources for entry in source.filters}
    return filters | {"language" for source in recipe.sources if source.language or gates_language(source)}


def _signals(recipe: Recipe, source: Source, group: str) -> pa.Schema | None:
    """The signals of a group of a source, found by measuring no text; None if the source does not measure it."""
    if group == "language" and gates_language(source):
        return LANGUAGE_SIGNALS
    for item in measurements(recipe, source, Gathered("", lambda: NOTHING_REPEATED)):
        if item.name == group:
            nothing = pa.RecordBatch.from_pylist([], schema=DOCUMENTS)
            languages = pa.array([], pa.string())
            turns = pa.RecordBatch.from_pylist([], schema=TURNS)
            batch = Batch(SplitTexts(pa.array([], pa.large_string())), 0, nothing, languages, turns)
            schema: pa.Schema = item.measure(batch).signals.schema
            return schema
    return None


def _is_number(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean))
