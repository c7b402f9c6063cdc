"""Deciding again after a changed bound, on synthetic signals: `python -m tests.bench.reselect [--quick]`.

1M rows (100,000 with --quick, scaled to 1M) in 16 parts, with the signals of the language model and every filter of
the recipe, drawn at random within their ranges. One process decides anew as a rerun does (*select*: reads signals,
writes decisions) and as `tokenmill tune` does; no text is read, there is none. Then once more with two bounds given as
percentiles, one of them among equals, found anew and decided by (`tokenmill tune`, in one process).
"""

import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tokenmill.filters.splitter import SplitTexts
from tokenmill.manifests.receipts import Output
from tokenmill.manifests.schemas import CONTENT, DOCUMENTS, LANGUAGE, ROWS_PER_GROUP
from tokenmill.pipeline.book import TaskRun
from tokenmill.pipeline.groups import GROUPS
from tokenmill.pipeline.opened import OpenedPart, OpenedRun
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.recipe.file import RecipeFile, load_recipe
from tokenmill.pipeline.steps.select import run_select
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import new_table
from tokenmill.pipeline.tune import changed_recipe, parse_setting, tune

ROWS = 1_000_000
PARTS = 16
LIMIT_SECONDS = 10.0
RECIPE = """
name: reselect
tokenizer: {train: {vocab_size: 1000}}
sources:
  - name: web
    reader: warc
    paths: [none]
    language: {keep: [en, de], min_score: 0.3}
    filters: [gopher_repetition, gopher_quality, c4]
strata: {validation_fraction: 0.001, by: [language]}
sequences: {length: 2048}
"""
_CHANGED = "gopher_quality.min_words=60"
_PERCENTILES = (
    "gopher_quality.min_words={percentile: 10}",
    "gopher_repetition.max_top_2_gram_character_fraction={percentile: 95}",
)


def main() -> None:
    """Make the signals, decide, change a bound, decide again, print what it took."""
    rows = ROWS // 10 if arguments(__doc__, "100,000 rows, scaled").parse_args().quick else ROWS
    recipe_file = load_recipe(RECIPE, "reselect")
    changed = changed_recipe(recipe_file, [parse_setting(_CHANGED)])
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        parts = {f"{index:016x}": write_part(storage, recipe_file, index, rows // PARTS) for index in range(PARTS)}
        select(storage, recipe_file, parts)
        seconds = {}
        started = time.perf_counter()
        kept = select(storage, changed, {key: replace(part) for key, part in parts.items()})
        seconds["select"] = time.perf_counter() - started
        started = time.perf_counter()
        opened = OpenedRun(storage, recipe_file, {}, {"web": parts})
        outcome = tune(opened, [parse_setting(_CHANGED)])["web"]
        seconds["tune"] = time.perf_counter() - started
        started = time.perf_counter()
        by_percentile = tune(opened, [parse_setting(text) for text in _PERCENTILES])["web"]
        seconds["tune, two percentiles"] = time.perf_counter() - started
    assert outcome.after.out.documents == kept
    assert by_percentile.after.taken == outcome.after.taken
    print(
        f"{rows:,} rows in {PARTS} parts, {outcome.before.out.documents:,} kept; after {_CHANGED}, {kept:,}; ", end=""
    )
    print(f"after {' and '.join(_PERCENTILES)}, {by_percentile.after.out.documents:,}")
    for name, took in seconds.items():
        print(f"  {name:<21} {took:6.2f} s, {rows / took:12,.0f} rows/s")
    figures = [
        Figure(f"deciding 1M rows again, {name}", round(took * ROWS / rows, 2), "s", LIMIT_SECONDS, AT_MOST)
        for name, took in seconds.items()
    ]
    print(figures_line("reselect", figures))


def select(storage: Storage, recipe_file: RecipeFile, parts: dict[str, OpenedPart]) -> int:
    """Decide on every part as a run does; returns the documents kept and notes tables and books in `parts`."""
    recipe, kept = recipe_file.recipe, 0
    for key, part in parts.items():
        run = TaskRun(storage, {})
        receipt = run_select(run, recipe, recipe.sources[0], Part("web", key, 0, ()), part.tables, {})
        part.tables = {**part.tables, "decisions": receipt.output("decisions")}
        part.balances = {"select": receipt.balance}
        kept += receipt.balance.out.documents
    return kept


def write_part(storage: Storage, recipe_file: RecipeFile, seed: int, rows: int) -> OpenedPart:
    """Tables of one part, its signals drawn at random."""
    rng = np.random.default_rng(seed)
    batches = {"documents": documents(rng), "signals/language": language(rng), "signals/hashes": hashes(rng)}
    for entry in recipe_file.recipe.sources[0].filters:
        batches[f"signals/{entry.group}"] = signals(rng, entry.group, entry.bounds)
    tables = {}
    for name, batch in batches.items():
        with new_table(storage, batch.schema) as writer:
            for start in range(0, rows, ROWS_PER_GROUP):
                length = min(ROWS_PER_GROUP, rows - start)
                shuffled = batch.take(pa.array(rng.permutation(ROWS_PER_GROUP)[:length]))
                writer.write_group(placed(shuffled, seed, start) if name == "documents" else shuffled)
            output: Output = writer.commit(name, f"{name}/{seed:016x}.parquet")
        tables[name] = output
    return OpenedPart(tables)


def documents(rng: np.random.Generator) -> pa.RecordBatch:
    """Rows of `documents`, one in 20 gated; no text, which nothing here reads."""
    gates = pa.array(["gates.mime" if gated else None for gated in rng.random(ROWS_PER_GROUP) < 0.05])
    columns: dict[str, Any] = {"gate": gates}
    arrays = [columns.get(field.name, pa.nulls(ROWS_PER_GROUP, field.type)) for field in DOCUMENTS]
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENTS)


def placed(batch: pa.RecordBatch, part: int, start: int) -> pa.RecordBatch:
    """The rows of `documents`, each from a place of its own."""
    files = pa.array([f"{part}.warc.gz"] * batch.num_rows)
    offsets = pa.array(np.arange(start, start + batch.num_rows) * 5000)
    return batch.set_column(3, DOCUMENTS.field("raw_file"), files).set_column(4, DOCUMENTS.field("raw_offset"), offsets)


def language(rng: np.random.Generator) -> pa.RecordBatch:
    """Languages and scores."""
    arrays = []
    for _ in range(3):
        arrays.append(pa.array(rng.choice(["en", "de", "fr", "zh"], ROWS_PER_GROUP)))
        arrays.append(pa.array(rng.random(ROWS_PER_GROUP), pa.float32()))
    return pa.RecordBatch.from_arrays(arrays, schema=LANGUAGE)


def hashes(rng: np.random.Generator) -> pa.RecordBatch:
    """Hashes and text sizes."""
    digests = pa.array([rng.bytes(16) for _ in range(ROWS_PER_GROUP)], pa.binary(16))
    return pa.RecordBatch.from_arrays([digests, pa.array(rng.integers(1, 9999, ROWS_PER_GROUP))], schema=CONTENT)


def signals(rng: np.random.Generator, group: str, bounds: dict[str, Any]) -> pa.RecordBatch:
    """The signals of a group, as it measures them on an empty text, drawn so that few rows break each bound."""
    measured = GROUPS[group]
    params = measured.params() if measured.params else None
    schema = measured.measure(SplitTexts(pa.array([""], pa.large_string())), params, 0).signals.schema
    arrays = []
    for field in schema:
        low, high = bounds.get(f"min_{field.name}"), bounds.get(f"max_{field.name}")
        drawn = rng.random(ROWS_PER_GROUP)
        values = (0.96 + 2 * drawn) * float(low) if low is not None else 1.02 * drawn * float(high or 1)
        arrays.append(pa.array(values).cast(field.type, safe=False))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


if __name__ == "__main__":
    main()
