"""A run's ledger and clusters, made in rounds of tiny groups and partitions, against the whole in memory."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest

from tests.pipeline.corpus import fingerprint, prose, sentence, write_texts
from tests.pipeline.deduplicate_at_once import run_deduplicate
from tests.pipeline.runs import run_inline, tokenmill
from tests.pipeline.test_dedup_rounds import tiny
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.pipeline import checks
from tokenmill.pipeline.book import TaskRun
from tokenmill.pipeline.dedup_rounds import texts
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe.file import RecipeFile, load_recipe
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table

RECIPE = """
name: whole
part_bytes: 8 KiB
tokenizer: {train: {vocab_size: 300}}
sources:
  - {name: notes, reader: jsonl, paths: ["{folder}/notes/*.jsonl"]}
  - {name: pages, reader: jsonl, paths: ["{folder}/pages/*.jsonl"], priority: 1, filters: [c4: {min_sentences: 1}]}
dedup: {settings}
sequences: {length: 64, unit_bytes: 20 KB}
"""
SETTINGS = [
    "{}",
    "{threshold: 0.6, survivor: [longest]}",
    "{verify: text}",
    "{verify: text, threshold: 0.5, exact: false}",
]


def revised(rng: random.Random, text: str) -> str:
    """The text with some of its sentences made anew, or as it is."""
    changed = rng.choice([0, 0, 1, 1, 2, 3])
    parts = text.split(". ")
    for place in rng.sample(range(len(parts)), min(changed, len(parts))):
        parts[place] = sentence(rng).rstrip(".")
    return ". ".join(parts)


def write_notes(folder: Path) -> None:
    """Ten files of notes in two folders: revisions of a few texts, exact copies, lines that C4 takes out."""
    rng = random.Random(4)
    heads = [prose(f"head {number}", 6 + number % 12) for number in range(25)]
    for number in range(10):
        path = folder / ("notes" if number % 2 else "pages") / f"{number}.jsonl"
        told = [revised(rng, rng.choice(heads)) + "\n\nno mark at the end" * rng.randint(0, 1) for _ in range(12)]
        write_texts(path, told)


@contextmanager
def few_at_a_time() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(tiny(30, 2000, 40))
        stack.enter_context(mock.patch.object(texts, "SENT_SHINGLES", 500))
        stack.enter_context(mock.patch.object(texts, "HELD_SHINGLES", 700))
        yield


def joined(storage: Storage, outputs: list[Output], kind: str) -> pa.Table:
    """Ledgers, or clusters, of all units, by document."""
    found = pa.concat_tables(
        [read_table(storage, output.path) for output in outputs if output.name.startswith(f"{kind}/")]
    )
    return found.sort_by([(name, "ascending") for name in found.column_names[:2]])


def run_of(folder: Path, settings: str) -> tuple[Storage, Published, RecipeFile]:
    write_notes(folder)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("{folder}", str(folder)).replace("{settings}", settings))
    with few_at_a_time():
        published, ran = run_inline(recipe, folder / "out")
    assert len({task for task in ran if task.startswith("dedup_order of group")}) > 2
    return Storage(str(folder / "out")), published, load_recipe(recipe.read_text(), str(recipe))


def tables_of_parts(receipts: list[Receipt], parts: list[Part]) -> dict[str, dict[str, Output]]:
    tables: dict[str, dict[str, Output]] = {part.key: {} for part in parts}
    for receipt in receipts:
        if (part := receipt.task.split(".")[0]) in tables:
            tables[part] |= {output.name: output for output in receipt.outputs}
    return tables


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_run_removes_what_memory_removes(tmp_path: Path, settings: str) -> None:
    storage, published, recipe_file = run_of(tmp_path, settings)
    parts, receipts = prepare(recipe_file, storage), checks.receipts_in(storage, published)
    assert len(parts) > 5
    units = {part.key: "all" for part in parts}
    whole = run_deduplicate(TaskRun(storage, {}), recipe_file.recipe, parts, tables_of_parts(receipts, parts), units)
    rounds = [output for receipt in receipts if receipt.step == "deduplicate" for output in receipt.outputs]
    assert len(rounds) > 4  # a ledger and a clusters file of several units
    removed = joined(storage, list(whole.outputs), "ledger")
    assert removed.num_rows > 0
    assert joined(storage, rounds, "ledger").equals(removed)
    assert joined(storage, rounds, "clusters").equals(joined(storage, list(whole.outputs), "clusters"))
    for source, sheet in published.value["balance"].items():
        assert sheet["steps"]["deduplicate"] == whole.notes["sources"][source]
    assert [task for task, wrong in checks.recount(storage, published) if wrong] == []


@pytest.mark.parametrize(("settings", "exact"), [("{near: false}", True), ("{near: false, exact: false}", False)])
def test_without_near_duplicates_copies_go_for_the_first(tmp_path: Path, settings: str, exact: bool) -> None:
    storage, published, recipe_file = run_of(tmp_path, settings)
    parts, receipts = prepare(recipe_file, storage), checks.receipts_in(storage, published)
    by_text: dict[bytes, list[tuple[int, int, str, int]]] = {}
    for part in parts:
        tables = tables_of_parts(receipts, parts)[part.key]
        kept = read_table(storage, tables["decisions"].path).column("kept").to_pylist()
        for row, content in enumerate(read_table(storage, tables["signals/hashes"].path).to_pylist()):
            if kept[row]:
                place = (-recipe_file.recipe.source(part.source).priority, -content["text_bytes"], part.key, row)
                by_text.setdefault(content["content_hash"], []).append(place)
    expected = []
    for places in by_text.values():
        first, *others = sorted(places)
        expected += [(*other[2:], *first[2:], 1.0, "exact", None) for other in others]
    rounds = [output for receipt in receipts if receipt.step == "deduplicate" for output in receipt.outputs]
    found = [tuple(row.values()) for row in joined(storage, rounds, "ledger").to_pylist()]
    assert len(expected) > 5
    assert found == (sorted(expected) if exact else [])


def test_ray_makes_the_same_rounds(tmp_path: Path) -> None:
    """With groups of full size: eight workers leave the bytes that one process leaves, of every round."""
    write_notes(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("{folder}", str(tmp_path)).replace("{settings}", "{verify: text}"))
    run_inline(recipe, tmp_path / "inline")
    tokenmill("run", str(recipe), "--output", str(tmp_path / "ray"), "--executor", "ray", "--cpus", "8", "--quiet")
    assert fingerprint(tmp_path / "ray") == fingerprint(tmp_path / "inline")
