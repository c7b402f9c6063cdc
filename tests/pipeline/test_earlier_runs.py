"""`dedup.against`: what an earlier run kept is removed here, as if both had been built as one run that grew."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import prose, sentence, write_texts
from tests.pipeline.runs import run_inline, tokenmill
from tokenmill.manifests.schemas import LEDGER
from tokenmill.pipeline import checks, earlier_runs
from tokenmill.pipeline.measurements import content_measurements
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.steps.publish import Published, latest
from tokenmill.pipeline.steps.takedown import copies_in
from tokenmill.pipeline.storage import Storage

RECIPE = """
name: notes
part_bytes: 16KiB
tokenizer: {train: {vocab_size: 300, sample_bytes: 64KiB}}
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/*.jsonl"]
    root: "{folder}"
    filters: [c4: {terminal_punctuation: false, min_words_per_line: null}]
sequences: {length: 64, unit_bytes: 32KiB}
dedup: {survivor: [], DEDUP}
"""
SETTINGS = ["verify: signature", "verify: text", "near: false", "verify: signature, exact: false"]


def changed(text: str, seed: str) -> str:
    return text + " " + sentence(random.Random(seed))


def first_texts() -> list[list[str]]:
    """Two files of an earlier run, with copies and near copies of its own."""
    notes = [prose(f"first {number}", 20) for number in range(40)]
    copies = [notes[1], changed(notes[2], "two"), changed(notes[3], "three")]
    return [notes, [*copies, *(prose(f"more {number}", 20) for number in range(20))]]


def second_texts() -> list[list[str]]:
    """Two files of a new run: copies of what the earlier one kept, of what it removed, and of the run's own."""
    notes = [prose(f"second {number}", 20) for number in range(30)]
    first = first_texts()
    old = [first[0][5], first[0][6], first[1][1], changed(first[0][7], "seven"), changed(first[0][8], "eight")]
    again = [old[0], old[3], changed(old[4], "eight again")]
    return [[*notes, *old], [*again, notes[0], changed(notes[1], "one")]]


def write_recipe(folder: Path, dedup: str) -> Path:
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(RECIPE.replace("{folder}", str(folder)).replace("DEDUP", dedup))
    return path


def tables_of(output: Path, published: Published, name: str) -> list[dict[str, Any]]:
    receipts = checks.receipts_in(Storage(str(output)), published)
    found = [out for r in receipts if r.step == "deduplicate" for out in r.outputs if out.name.startswith(f"{name}/")]
    return sorted((row for out in found for row in pq.read_table(output / out.path).to_pylist()), key=str)


def place(row: dict[str, Any], which: str) -> tuple[str, int]:
    return row[f"{which}_part".lstrip("_")], row[f"{which}_row".lstrip("_")]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Raw files of the earlier run and of the new one; both lie alike under their source's root."""
    for folder, files in (("first", first_texts()), ("second", second_texts())):
        for number, texts in enumerate(files):
            write_texts(tmp_path / folder / f"{folder}{number}.jsonl", texts)
    return tmp_path / "first", tmp_path / "second"


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_run_against_another_removes_what_one_that_grew_does(
    folders: tuple[Path, Path], tmp_path: Path, settings: str
) -> None:
    first, second = folders
    earlier = tmp_path / "earlier"
    run_inline(write_recipe(first, settings), earlier)
    before = {path: (earlier / path).read_bytes() for path in Storage(str(earlier)).sizes()}
    against, _ = run_inline(write_recipe(second, f"{settings}, against: ['{earlier}']"), tmp_path / "new")
    assert {path: (earlier / path).read_bytes() for path in Storage(str(earlier)).sizes()} == before
    grown = tmp_path / "grown"
    run_inline(write_recipe(first, settings), grown)
    for path in second.iterdir():
        (first / path.name).write_bytes(path.read_bytes())
    whole, _ = run_inline(write_recipe(first, settings), grown)

    found = tables_of(tmp_path / "new", against, "ledger")
    own = {receipt.task for receipt in checks.receipts_in(Storage(str(tmp_path / "new")), against)}
    expected = [row for row in tables_of(grown, whole, "ledger") if row["removed_part"] in own]
    for row in expected:
        if row["keeper_part"] not in own:
            row |= {"kind": "earlier run", "keeper_run": str(earlier)}
    assert found == expected
    kinds = [row["kind"] for row in found]
    assert kinds.count("earlier run") == (4 if "near: false" in settings else 8)
    assert len(kinds) == (6 if "near: false" in settings else 10)
    storage = Storage(str(tmp_path / "new"))
    assert [problem for _, problems in checks.recount(storage, against) for problem in problems] == []
    books = [receipt for receipt in checks.receipts_in(storage, against) if receipt.step == "deduplicate"]
    dropped = sum(receipt.balance.dropped["dedup.earlier_run"].documents for receipt in books)
    assert dropped == kinds.count("earlier run")


def test_a_rerun_does_nothing_and_a_changed_earlier_run_is_looked_at_again(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = folders
    earlier, output = tmp_path / "earlier", tmp_path / "new"
    run_inline(write_recipe(first, "near: true"), earlier)
    recipe = write_recipe(second, f"near: true, against: ['{earlier}']")
    before, _ = run_inline(recipe, output)
    again, tasks = run_inline(recipe, output)
    assert (again.path, tasks) == (before.path, [])
    found = tables_of(output, before, "ledger")

    note = second_texts()[0][9]
    write_texts(first / "later.jsonl", [note])
    run_inline(write_recipe(first, "near: true"), earlier)
    after, _ = run_inline(recipe, output)
    (more,) = [row for row in tables_of(output, after, "ledger") if row not in found]
    assert (more["kind"], more["similarity"], more["keeper_row"]) == ("earlier run", 1.0, 0)
    (summary,) = [r for r in checks.receipts_in(Storage(str(output)), after) if r.step == "dedup_summary"]
    assert summary.notes["against"] == [[str(earlier), latest(Storage(str(earlier))).path]]
    removed, keeper = ("{}:{}".format(*place(more, which)) for which in ("removed", "keeper"))
    told = tokenmill("why", str(output), removed)
    assert f"removed as a duplicate, similarity 1.000, of {keeper} of the earlier run {earlier}" in told
    assert "kept: stratum train" in tokenmill("why", str(earlier), keeper)
    documents = {place(row, "cluster") for row in tables_of(output, after, "clusters") if row["cluster_run"]}
    assert place(more, "keeper") in documents


def test_two_earlier_runs_that_share_documents_keep_them_both(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = folders
    runs = [str(tmp_path / "one"), str(tmp_path / "two")]
    for run in runs:
        run_inline(write_recipe(first, "near: true"), run)
    one, _ = run_inline(write_recipe(second, f"near: true, against: ['{runs[1]}']"), tmp_path / "against one")
    both, _ = run_inline(write_recipe(second, f"near: true, against: [{', '.join(runs)}]"), tmp_path / "against both")
    found = tables_of(tmp_path / "against both", both, "ledger")
    assert {row["keeper_run"] for row in found} == {None, runs[0]}
    expected = tables_of(tmp_path / "against one", one, "ledger")
    assert found == [{**row, "keeper_run": row["keeper_run"] and runs[0]} for row in expected]


def test_one_identity_in_both_runs_is_two_documents(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = folders
    run_inline(write_recipe(first, "near: true"), tmp_path / "earlier")
    (second / "first0.jsonl").write_bytes((first / "first0.jsonl").read_bytes())
    recipe = write_recipe(second, f"near: true, against: ['{tmp_path / 'earlier'}']")
    published, _ = run_inline(recipe, tmp_path / "new")
    twice = [
        row for row in tables_of(tmp_path / "new", published, "ledger") if place(row, "removed") == place(row, "keeper")
    ]
    assert [row["kind"] for row in twice] == ["earlier run"] * 40
    ledger = pa.Table.from_pylist(tables_of(tmp_path / "new", published, "ledger"), schema=LEDGER)
    documents = {row["keeper_part"]: np.arange(40, dtype=np.int32) for row in twice}
    assert copies_in(ledger, documents).num_rows == 0  # a takedown here names this run's documents


def test_what_cannot_be_compared_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = folders
    earlier = tmp_path / "earlier"
    run_inline(write_recipe(first, "near: true"), earlier)

    def refused(settings: str, against: str, own: str = "new") -> str:
        recipe = write_recipe(second, f"{settings}, against: [{against}]")
        with pytest.raises(RecipeError) as error:
            prepare(load_recipe(recipe.read_text(), "r.yaml"), Storage(str(tmp_path / own)))
        return str(error.value)

    for settings, told in [
        ("num_permutations: 96", "num_permutations is 112 there and 96 here"),
        ("ngram_words: 3", "the shingle is 5 words there and 3 words here"),
        ("ngram_characters: 5", "the shingle is 5 words there and 5 characters here"),
        ("keep_digits: true", "keep_digits is False there and True here"),
    ]:
        message = refused(settings, str(earlier))
        assert message.startswith(f"r.yaml:12: dedup.against: the earlier run {str(earlier)!r} (manifests/run-00000.")
        assert told in message
    nowhere = str(tmp_path / "nowhere")
    assert f"no published run in {nowhere!r}" in refused("near: true", nowhere)
    assert "is this run's own folder" in refused("near: true", str(earlier), "earlier")
    assert "are one run" in refused("near: true", f"{earlier}, {earlier}/")
    # other bands and another threshold are this run's own affair
    recipe = write_recipe(second, f"threshold: 0.6, against: ['{earlier}']")
    assert prepare(load_recipe(recipe.read_text(), "r.yaml"), Storage(str(tmp_path / "new")))


@pytest.mark.parametrize("erase", [[], ["--erase"]])
def test_what_was_taken_down_there_keeps_nothing_out_here(
    folders: tuple[Path, Path], tmp_path: Path, erase: list[str]
) -> None:
    """Its copy comes in, be it erased there or not, now or in a run of its own; what others keep out stays out."""
    first, second = folders
    earlier, output = tmp_path / "earlier", tmp_path / "new"
    run_inline(write_recipe(first, "verify: text"), earlier)
    recipe = write_recipe(second, f"verify: text, against: ['{earlier}']")
    before, _ = run_inline(recipe, output)
    found = tables_of(output, before, "ledger")
    (gone,) = [row for row in found if row["kind"] == "earlier run" and row["keeper_row"] == 6]
    others = [row for row in found if row != gone]
    ids = tmp_path / "ids"
    ids.write_text("{}:{}\n".format(*place(gone, "keeper")))
    tokenmill("remove", str(earlier), "--ids", str(ids), "--reason", "asked", *erase)

    for name in ("new", "fresh"):
        after, _ = run_inline(recipe, tmp_path / name)
        now = tables_of(tmp_path / name, after, "ledger")
        assert now == others != []
        clusters = tables_of(tmp_path / name, after, "clusters")
        assert place(gone, "removed") not in {place(row, "") for row in clusters}


def test_a_file_that_is_gone_from_an_earlier_run_is_named_before_any_work(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = folders
    earlier = tmp_path / "earlier"
    published, _ = run_inline(write_recipe(first, "near: true"), earlier)
    recipe = write_recipe(second, f"near: true, against: ['{earlier}']")
    for name in ("signals/minhash", "ledger", "decisions", "manifests/plan"):
        path = min(earlier.glob(f"{name}*/**/*.parquet" if name != "manifests/plan" else "manifests/plan.*"))
        written = path.read_bytes()
        found = [(b"short", f"{path} has 5 of the {len(written)} bytes in its receipt"), (None, str(path))]
        for damage, told in found[name == "manifests/plan" :]:
            path.unlink()
            if damage is not None:
                path.write_bytes(damage)
            with pytest.raises(RecipeError) as error:
                prepare(load_recipe(recipe.read_text(), "r.yaml"), Storage(str(tmp_path / "new")))
            message = str(error.value)
            assert f"dedup.against: the earlier run {str(earlier)!r} ({published.path}) is not whole: " in message
            assert told in message
            assert message.endswith("or take the run out of dedup.against")
        path.write_bytes(written)
    assert prepare(load_recipe(recipe.read_text(), "r.yaml"), Storage(str(tmp_path / "new")))
    assert not (tmp_path / "new" / "documents").exists()


def test_signatures_of_another_version_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = folders
    earlier = tmp_path / "earlier"
    run_inline(write_recipe(first, "near: true"), earlier)
    recipe = load_recipe(write_recipe(second, f"near: true, against: ['{earlier}']").read_text(), "r.yaml")
    newer = [replace(item, version=item.version + 1) for item in content_measurements(recipe.recipe.dedup)]
    monkeypatch.setattr(earlier_runs, "content_measurements", lambda dedup: newer[1:])
    with pytest.raises(RecipeError, match=r"signals/minhash of the earlier run .* were not made by version 3 of"):
        prepare(recipe, Storage(str(tmp_path / "new")))
