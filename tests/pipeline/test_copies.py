"""Strata by copies: how often a document was seen, from its cluster to a component's weight."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.corpus import fingerprint, prose
from tests.pipeline.runs import opened_with_units, run_inline
from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.receipts import Receipt
from tokenmill.manifests.schemas import CLUSTERS
from tokenmill.manifests.shards import SequenceFormat
from tokenmill.pipeline import why
from tokenmill.pipeline.checks import receipts_in
from tokenmill.pipeline.copies import NO_CLUSTERS, copies_names, sizes_by_part, stratum_with_copies, with_copies
from tokenmill.pipeline.executors import open_executor
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.run import Run
from tokenmill.pipeline.steps.publish import Published, component_weights
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.takedown import Asked, remove

RECIPE = """
name: seen
seed: 5
tokenizer:
  train: {vocab_size: 400, sample_bytes: 1MiB}
sources:
  - {name: notes, reader: jsonl, paths: ["FOLDER/*.jsonl"], root: "FOLDER"}
strata: {validation_fraction: 0.1}
sequences: {length: 64}
"""
BY_COPIES = RECIPE.replace("{validation_fraction: 0.1}", "{validation_fraction: 0.1, by: [copies], copies: [1, 2, 4]}")
#: Document i is there so many times.
TIMES = [1, 2, 3, 4, 7] * 6
bounds_of = st.lists(st.integers(2, 40), unique=True, max_size=6).map(lambda rest: (1, *sorted(rest)))


@given(bounds_of, st.lists(st.integers(1, 60), max_size=30))
def test_every_size_is_in_the_one_range_that_its_stratum_names(bounds: tuple[int, ...], sizes: list[int]):
    strata = pa.array([f"train/{number}" for number in range(len(sizes))], pa.string())
    named = with_copies(strata, np.array(sizes, np.int32), bounds).to_pylist()
    assert len(set(copies_names(bounds))) == len(bounds)
    for number, (name, size) in enumerate(zip(named, sizes, strict=True)):
        head, text = name.split("/copies=")
        first, _, last = text.partition("-")
        assert head == f"train/{number}"
        if text.endswith("+"):
            assert size >= int(text[:-1]) == bounds[-1]
        else:
            assert int(first) <= size <= int(last or first)
            assert int(first) in bounds
            assert int(last or first) + 1 in bounds


def test_ranges_as_people_write_them():
    assert copies_names((1, 2, 5, 10)) == ("1", "2-4", "5-9", "10+")
    assert copies_names((1, 2)) == ("1", "2+")
    assert copies_names((1,)) == ("1+",)
    assert stratum_with_copies("train/en", None, None) == "train/en"
    assert stratum_with_copies("train/en", None, (1, 2)) == "train/en/copies=1"
    assert stratum_with_copies("train/en", {"cluster_documents": 2}, (1, 2)) == "train/en/copies=2+"


@given(st.dictionaries(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), st.integers(2, 99), max_size=20))
def test_sizes_of_rows_are_those_of_the_table(members: dict[tuple[str, int], int]):
    rows = [
        {"part": part, "row": row, "cluster_part": "a", "cluster_row": 0, "cluster_documents": size}
        for (part, row), size in sorted(members.items())
    ]
    found = sizes_by_part(pa.Table.from_pylist(rows, CLUSTERS))
    for part in "ab":
        sizes = found.get(part, NO_CLUSTERS).of_rows(np.arange(25, dtype=np.int32))
        assert sizes.tolist() == [members.get((part, row), 1) for row in range(25)]


def write_notes(folder: Path, name: str, numbers: list[int]) -> None:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"text": prose(f"seen {number}", 6)}) for number in numbers]
    (folder / name).write_text("\n".join(lines) + "\n")


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text.replace("FOLDER", str(folder / "raw")))
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A run whose strata are not by copies, and its files."""
    folder = tmp_path_factory.mktemp("copies")
    write_notes(folder / "raw", "a.jsonl", [number for number, times in enumerate(TIMES) for _ in range(times)])
    run_inline(write(folder, RECIPE), folder / "out")
    return folder, fingerprint(folder / "out")


@pytest.fixture(scope="module")
def by_copies(plain: tuple[Path, dict[str, str]]) -> tuple[Path, Published, list[str]]:
    """The same folder run again, by copies; and the tasks that were run for it."""
    folder = plain[0]
    return (folder, *run_inline(write(folder, BY_COPIES), folder / "out"))


def receipt_of(folder: Path, published: Published, step: str) -> Receipt:
    return next(found for found in receipts_in(Storage(str(folder / "out")), published) if found.step == step)


def packed_rows(folder: Path, receipt: Receipt) -> Iterator[tuple[str, str, int]]:
    """Stratum, part and row of every document that was packed; each row of documents fits one stratum."""
    for output in receipt.outputs:
        reader = pa.ipc.open_file(folder / "out" / output.path)
        parts = SequenceFormat.of(reader.schema).parts
        assert output.name == f"sequences/{SequenceFormat.of(reader.schema).stratum}"
        table = reader.read_all()
        places = [
            pa.concat_arrays([c.flatten() for c in table.column(f"document_{n}").chunks]).to_pylist()
            for n in ("parts", "rows")
        ]
        for part, row in sorted(set(zip(*places, strict=True))):
            yield output.name.removeprefix("sequences/"), parts[part], row


def test_documents_land_in_the_stratum_of_their_copies(by_copies: tuple[Path, Published, list[str]]):
    folder, published, _ = by_copies
    first_rows = np.concatenate([[0], np.cumsum(TIMES)[:-1]]).tolist()
    times_at = {row: times for row, times in zip(first_rows, TIMES, strict=True)}
    range_of = {1: "1", 2: "2-3", 3: "2-3", 4: "4+", 7: "4+"}
    found = list(packed_rows(folder, receipt_of(folder, published, "pack")))
    assert sorted(row for _, _, row in found) == first_rows
    assert all(stratum.split("/copies=")[1] == range_of[times_at[row]] for stratum, _, row in found)
    assert {stratum.split("/")[0] for stratum, _, _ in found} == {"train", "validation"}
    run, units = opened_with_units(folder / "out")
    for stratum, part, row in found:
        fate = why.fate_of(run, units, "notes", part, row)
        assert fate.stratum == stratum
        assert fate.pieces
        assert f"kept: stratum {stratum}, unit" in why.told(fate)
    tokens = published.value["balance"]["notes"]["tokens"]
    assert set(tokens) == {stratum for stratum, _, _ in found}


def test_only_pack_is_redone_and_what_was_there_stays(
    plain: tuple[Path, dict[str, str]], by_copies: tuple[Path, Published, list[str]]
):
    folder, before = plain
    _, published, tasks = by_copies
    assert tasks == ["unit notes-g0"]
    after = fingerprint(folder / "out")
    assert {path: after.get(path) for path in before if not path.startswith("receipts/")} == {
        path: digest for path, digest in before.items() if not path.startswith("receipts/")
    }
    assert receipt_of(folder, published, "pack").inputs["copies"]
    assert not [path for path in after if "+" in path]


def test_without_copies_nothing_depends_on_clusters(plain: tuple[Path, dict[str, str]]):
    """The parameters of *select*, and the inputs of *pack*, are what they were before there were strata by copies."""
    folder, _ = plain
    assert load_recipe(RECIPE, "r.yaml").recipe.strata.decided == {"validation_fraction": 0.1, "by": []}
    storage = Storage(str(folder / "out"))
    first = min(storage.sizes("manifests"), key=lambda path: (not path.startswith("manifests/run-00000"), path))
    packs = [r for r in receipts_in(storage, Published(first, 0, json.loads(storage.read(first)))) if r.step == "pack"]
    assert packs
    assert not [name for receipt in packs for name in receipt.inputs if "copies" in name]


def test_a_takedown_finds_the_strata(by_copies: tuple[Path, Published, list[str]], tmp_path: Path):
    folder = tmp_path
    write_notes(folder / "raw", "a.jsonl", [0, 1, 1, 2, 2, 2, 2])
    run_inline(write(folder, BY_COPIES), folder / "out")
    run, units = opened_with_units(folder / "out")
    (part,) = units.unit_of
    before = list(packed_rows(folder, units.packed["notes-g0"]))
    with open_executor("inline") as executor:
        outcome = remove(Run(run.recipe_file, run.storage, executor, Quiet()), run, units, Asked(ids=(f"{part}:1",)))
    assert outcome.packed == ("notes-g0",)
    after = list(packed_rows(folder, receipt_of(folder, outcome.published, "pack")))
    assert after == [place for place in before if place[2] != 1]
    assert len(after) == 2


def test_a_unit_is_packed_again_when_a_document_comes_into_another_range_and_no_other(tmp_path: Path):
    folder = tmp_path
    write_notes(folder / "raw", "a.jsonl", [0, 1, 2, 2])
    recipe = write(folder, BY_COPIES)
    run_inline(recipe, folder / "out")
    write_notes(folder / "raw", "b.jsonl", [10, 11])
    _, tasks = run_inline(recipe, folder / "out")
    assert [task for task in tasks if task.startswith("unit")] == ["unit notes-g1"]
    write_notes(folder / "raw", "c.jsonl", [0, 12])
    published, tasks = run_inline(recipe, folder / "out")
    assert sorted(task for task in tasks if task.startswith("unit")) == ["unit notes-g0", "unit notes-g2"]
    _, units = opened_with_units(folder / "out")
    strata = {(stratum.split("/copies=")[1], row) for stratum, _, row in packed_rows(folder, units.packed["notes-g0"])}
    assert strata == {("2-3", 0), ("1", 1), ("2-3", 2)}
    assert published.number == 2
    before = units
    write_notes(folder / "raw", "d.jsonl", [0, 13])  # from two copies to three, which is one range
    _, tasks = run_inline(recipe, folder / "out")
    # a unit whose clusters changed is looked at again, and its receipt of *pack* holds
    looked_at = ["unit notes-g0", "unit notes-g2", "unit notes-g3"]
    assert sorted(task for task in tasks if task.startswith("unit")) == looked_at
    after = opened_with_units(folder / "out")[1]
    assert after.clusters["notes-g0"] != before.clusters["notes-g0"]
    assert {name: after.packed[name] for name in before.packed} == before.packed
    assert after.units.keys() - before.units.keys() == {"notes-g3"}
    write_notes(folder / "raw", "e.jsonl", [0])  # four by now
    run_inline(recipe, folder / "out")
    assert opened_with_units(folder / "out")[1].packed["notes-g0"] != before.packed["notes-g0"]


def recipe_of(text: str) -> Recipe:
    return load_recipe(BY_COPIES + text, "r.yaml").recipe


TOKENS = {"notes/train/copies=1": 600, "notes/train/copies=2-3": 300, "notes/train/copies=4+": 100}


@pytest.mark.parametrize(
    ("mixture", "weights"),
    [
        ("{}", (600.0, 300.0, 100.0)),
        ("{weights: {notes: 1}}", (0.6, 0.3, 0.1)),
        ("{weights: {notes/train: 1}}", (0.6, 0.3, 0.1)),
        ("{rehydrate: {2: 2, 4: 5}}", (600.0, 600.0, 500.0)),
        ("{weights: {notes: 17}, rehydrate: {2: 2, 4: 5}}", (6.0, 6.0, 5.0)),
        ("{weights: {notes: 9, notes/train/copies=4+: 2}}", (6.0, 3.0, 2.0)),
        ("{weights: {notes: 9, notes/train/copies=4+: 2}, rehydrate: {1: 0.5, 4: 3}}", (4.5, 4.5, 2.0)),
    ],
)
def test_weights_by_copies(mixture: str, weights: tuple[float, ...]):
    assert component_weights(recipe_of(f"mixture: {mixture}\n"), TOKENS) == dict(zip(TOKENS, weights, strict=True))


def test_a_weight_for_what_is_not_there_and_what_no_weight_is_for():
    with pytest.raises(RecipeError, match=r"gives 'notes/train/copies=5' 1.0, but nothing of it was kept"):
        component_weights(recipe_of("mixture: {weights: {notes: 1, notes/train/copies=5: 1}}\n"), TOKENS)
    with pytest.raises(RecipeError, match=r"no weight to 'notes/train/copies=2-3', of which 300 tokens were kept"):
        component_weights(recipe_of("mixture: {weights: {notes/train/copies=1: 1}}\n"), TOKENS)


def test_the_mixture_is_rehydrated(by_copies: tuple[Path, Published, list[str]]):
    folder, published, _ = by_copies
    recipe = write(folder, BY_COPIES + "mixture: {rehydrate: {2: 2, 4: 5}}\n")
    again, tasks = run_inline(recipe, folder / "out")
    assert tasks == []

    def weights(version: Published) -> dict[str, float]:
        mixture = Mixture.from_json(Storage(str(folder / "out")).read(version.value["mixture"]).decode())
        return {component.name.split("=")[1]: component.weight for component in mixture.components}

    before, after = weights(published), weights(again)
    assert after == {"1": before["1"], "2-3": 2 * before["2-3"], "4+": 5 * before["4+"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strata: {by: [copies], copies: [2, 5]}", "the least size of each range of clusters, rising from 1"),
        ("strata: {by: [copies], copies: []}", "the least size of each range of clusters, rising from 1"),
        ("strata: {by: [copies], copies: [1, 5, 5]}", "the least size of each range of clusters, rising from 1"),
        ("strata: {copies: [1, 5]}", "put copies into `by` as well"),
        ("strata: {by: [copies]}\nmixture: {rehydrate: {3: 2}}", "from 3 documents on, but strata.copies is [1, 2, 5"),
        ("mixture: {rehydrate: {2: 2}}", "strata are not by copies: `by: [copies]`"),
        ("strata: {by: [copies]}\ndedup: {exact: false, near: false}", "which nothing counts: dedup.exact and dedup"),
    ],
)
def test_what_cannot_be_is_refused(text: str, message: str):
    start = RECIPE.replace("strata: {validation_fraction: 0.1}\n", "")
    with pytest.raises(RecipeError) as error:
        load_recipe(start + text + "\n", "r.yaml")
    assert message in str(error.value)
