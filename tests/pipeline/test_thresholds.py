"""Percentile bounds in a run: exactly as many documents kept as asked, the same ones however the source is cut up."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import RECIPE, prose, write_corpus, write_recipe
from tests.pipeline.runs import run_inline
from tokenmill.filters.bounds import ALL_TIES, Cut
from tokenmill.manifests.receipts import Output
from tokenmill.manifests.schemas import DOCUMENTS
from tokenmill.pipeline import tasks
from tokenmill.pipeline.executors import RunFailedError
from tokenmill.pipeline.opened import OpenedRun, open_run
from tokenmill.pipeline.steps.thresholds import PercentileBound, count_part, find_cuts, tie_hashes
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import new_table
from tokenmill.pipeline.tune import parse_setting, tune

ASKED = [
    PercentileBound("web", "g", "min_few", 90),
    PercentileBound("web", "g", "max_few", 33.3),
    PercentileBound("web", "g", "min_score", 62.5),
    PercentileBound("web", "h", "max_same", 10),
    PercentileBound("web", "h", "max_none", 10),
]


def written(storage: Storage, name: str, groups: Sequence[pa.RecordBatch]) -> Output:
    with new_table(storage, groups[0].schema) as writer:
        for group in groups:
            writer.write_group(group)
        return writer.commit(name, f"{name}/{{hash}}.parquet")


def synthetic(rows: int) -> dict[str, pa.RecordBatch]:
    """A source's tables: a signal of few values, one of many, one of a single value, one that is always null."""
    rng = np.random.default_rng(11)
    gates = [None if number > 0.1 else "gates.mime" for number in rng.random(rows)]
    places = {"raw_file": [f"{row // 40}.gz" for row in range(rows)], "raw_offset": [row % 40 for row in range(rows)]}
    columns = {"gate": gates, **places}
    documents = [pa.array(columns.get(field.name, [None] * rows), field.type) for field in DOCUMENTS]
    few, score = rng.integers(-1, 3, rows), rng.random(rows)
    g = {
        "few": pa.array(few, pa.int32(), mask=rng.random(rows) < 0.2),
        "score": pa.array(np.where(score < 0.1, np.nan, score), pa.float32()),
    }
    return {
        "documents": pa.RecordBatch.from_arrays(documents, schema=DOCUMENTS),
        "signals/g": pa.record_batch(g),
        "signals/h": pa.record_batch({"same": np.full(rows, 0.5), "none": pa.nulls(rows, pa.float64())}),
    }


def slow_cut_sets(tables: Mapping[str, pa.RecordBatch], seed: int) -> dict[str, set[int]]:
    """Rows that each of ASKED keeps, of those that have the signal, by sorting all of them."""
    ties = tie_hashes(tables["documents"].select(["raw_file", "raw_offset"]), seed).tolist()
    gates = tables["documents"].column("gate").to_pylist()
    found = {}
    for bound in ASKED:
        side, _, signal = bound.bound.partition("_")
        values = tables[f"signals/{bound.group}"].column(signal).to_pylist()
        rows = [i for i, value in enumerate(values) if value is not None and value == value and gates[i] is None]
        rows.sort(key=lambda i, values=values: (values[i], ties[i]))  # type: ignore[misc]
        dropped = int(bound.percentile * 10) * len(rows) // 1000
        keeps = -(-int(bound.percentile * 10) * len(rows) // 1000)
        found[bound.name] = set(rows[dropped:] if side == "min" else rows[:keeps])
    return found


def kept_rows(tables: Mapping[str, pa.RecordBatch], bound: PercentileBound, cut: Cut | None, seed: int) -> set[int]:
    """By the definition of a cut, row by row."""
    side, _, signal = bound.bound.partition("_")
    ties = tie_hashes(tables["documents"].select(["raw_file", "raw_offset"]), seed).tolist()
    gates = tables["documents"].column("gate").to_pylist()
    rows = set()
    for row, value in enumerate(tables[f"signals/{bound.group}"].column(signal).to_pylist()):
        if value is not None and value == value and gates[row] is None:
            below = cut is not None and (value, ties[row]) < (cut.value, cut.tie)
            if cut is None or below == (side == "max"):
                rows.add(row)
    return rows


@pytest.mark.parametrize("borders", [[], [1], [300, 301, 700], [64 * part for part in range(1, 15)], [0, 1000]])
def test_any_split_gives_the_cuts_of_sorting(tmp_path: Path, borders: list[int]):
    storage, tables, seed = Storage(str(tmp_path)), synthetic(1000), 5
    parts = []
    for start, end in zip([0, *borders], [*borders, 1000], strict=True):
        steps = range(start, end, 50) if end > start else [start]  # row groups of 50 rows
        parts.append(
            {
                name: written(storage, name, [table.slice(at, min(50, end - at)) for at in steps])
                for name, table in tables.items()
            }
        )
    passes: list[int] = []

    def count_parts(items):  # type: ignore[no-untyped-def]
        passes.append(len(items))
        return (count_part(storage, item) for item in reversed(items))

    cuts = find_cuts(ASKED, seed, {"web": parts, "other": []}, count_parts)
    expected = slow_cut_sets(tables, seed)
    assert {bound.name: kept_rows(tables, bound, cuts[bound.name], seed) for bound in ASKED} == expected
    assert cuts["web/h.max_none"] is None
    assert expected["web/g.min_few"]
    among_equals = {name for name, cut in cuts.items() if cut is not None and 0 < cut.tie < ALL_TIES}
    assert among_equals == {"web/g.min_few", "web/g.max_few", "web/h.max_same"}
    assert passes == [len(parts)] * 2  # all bounds share a pass for values, and one for ties


def test_tie_hashes_are_of_the_place_and_the_seed():
    places = pa.record_batch({"raw_file": ["a", "b", "a", "a"], "raw_offset": pa.array([0, 0, 7, 7], pa.int64())})
    hashes = tie_hashes(places, 1).tolist()
    assert hashes[2] == hashes[3]
    assert len(set(hashes)) == 3
    assert tie_hashes(places.slice(2, 1), 1).tolist() == hashes[2:3]
    assert set(tie_hashes(places, 2).tolist()).isdisjoint(hashes)


SOURCE = """
name: percentiles
seed: 3
tokenizer: {train: {vocab_size: 512, sample_bytes: 1MiB}}
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/*.jsonl"]
    root: "{folder}"
    part_bytes: PART_BYTES
    filters:
      - gopher_quality: {min_words: {percentile: 35}, min_stop_words: {percentile: 20}}
strata: {validation_fraction: 0}
sequences: {length: 64}
"""


def decisions(run: OpenedRun, source: str = "notes") -> dict[tuple[str, int], tuple[str | None, float, float]]:
    """By place: the reason, and the values of two signals."""
    found = {}
    for part in run.parts[source].values():
        documents, signals, decided = (
            pq.read_table(run.storage.url(part.tables[name].path))
            for name in ("documents", "signals/gopher_quality", "decisions")
        )
        places = zip(documents["raw_file"].to_pylist(), documents["raw_offset"].to_pylist(), strict=True)
        columns = (decided["reason"], signals["words"], signals["stop_words"])
        found |= dict(zip(places, zip(*(c.to_pylist() for c in columns), strict=True), strict=True))
    return found


def test_the_same_documents_are_kept_whatever_the_size_of_parts(tmp_path: Path):
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("a", "b"):
        lines = [json.dumps({"text": prose(f"{name}{number}", 3 + number % 3)}) for number in range(50)]
        (folder / f"{name}.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")
    runs = []
    for part_bytes in ("4KiB", "1MiB"):
        recipe = tmp_path / f"{part_bytes}.yaml"
        recipe.write_text(SOURCE.replace("{folder}", str(folder)).replace("PART_BYTES", part_bytes))
        published, _ = run_inline(recipe, tmp_path / part_bytes)
        runs.append(open_run(Storage(str(tmp_path / part_bytes)), published))
        assert run_inline(recipe, tmp_path / part_bytes) == (published, [])
    first, second = (decisions(run) for run in runs)
    assert len(runs[0].parts["notes"]) > 4 * len(runs[1].parts["notes"])
    assert first == second
    assert len(first) == 102
    reasons = [reason for reason, _, _ in first.values()]
    assert reasons.count("gopher_quality.min_words") == 35
    assert runs[0].thresholds == runs[1].thresholds
    least = runs[0].thresholds["notes/gopher_quality.min_stop_words"]
    assert least is not None
    assert least.parts_equals  # stop words are few: the 20th percentile lies among equals
    outcome = tune(runs[0], [parse_setting("gopher_quality.min_words=null")])["notes"]
    assert outcome.after.dropped["gopher_quality.min_stop_words"].documents == 20
    again = tune(runs[0], [parse_setting("gopher_quality.min_stop_words={percentile: 19}")])["notes"]
    assert again.newly_dropped.documents == 0
    assert again.newly_kept.documents <= 1


def test_a_source_in_which_everything_failed_drops_nothing_by_percentile(tmp_path: Path):
    recipe = write_recipe(write_corpus(tmp_path), RECIPE[: RECIPE.index("mixture:")])
    (tmp_path / "notes" / "notes.jsonl").write_text("{not json\n" * 3)
    published, _ = run_inline(recipe, tmp_path / "out")
    run = open_run(Storage(str(tmp_path / "out")), published)
    assert run.thresholds == {"notes/gopher_quality.min_words": None}
    assert [reason for reason, _, _ in decisions(run).values()] == ["failed.not_json"] * 3
    outcome = tune(run, [parse_setting("gopher_quality.min_words={percentile: 50}")])["notes"]
    assert outcome.before == outcome.after


def test_a_count_that_fails_fails_by_name_and_a_rerun_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = write_recipe(write_corpus(tmp_path, pages=2), RECIPE[: RECIPE.index("mixture:")])
    with monkeypatch.context() as patched:
        patched.setattr(tasks, "count_part", lambda storage, item: 1 / 0)
        with pytest.raises(RunFailedError, match=r"failed in thresholds(?s:.*)counts of documents/notes/.*: ZeroDiv"):
            run_inline(recipe, tmp_path / "out")
    published, _ = run_inline(recipe, tmp_path / "out")
    assert open_run(Storage(str(tmp_path / "out")), published).thresholds["notes/gopher_quality.min_words"]
