"""`tokenmill tokenizer train`: the run's own tokenizer from its published version, measured on what is held out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from tests.pipeline.corpus import write_corpus, write_recipe
from tests.pipeline.runs import newest, opened_with_units, run_inline, tokenmill
from tests.pipeline.test_tokenizer_sample import is_held_out
from tokenmill.pipeline.executors import open_executor
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.run import Run
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.takedown import Asked as AskedToRemove
from tokenmill.pipeline.takedown import remove
from tokenmill.pipeline.tokenizer_training import Asked, train


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, its recipe and its run in `out`; the sample is smaller than what is kept."""
    folder = tmp_path_factory.mktemp("tokenizer")
    recipe = write_recipe(write_corpus(folder))
    recipe.write_text(recipe.read_text().replace("sample_bytes: 1MiB", "sample_bytes: 20KiB"))
    run_inline(recipe, folder / "out")
    return folder


def trained(folder: Path, output: Path, recipe: str = "", **changed: Any) -> dict[str, Any]:
    """Train on the run in `folder` as its recipe says, but for what is changed."""
    text = recipe or (folder / "recipe.yaml").read_text()
    asked = {"vocab_size": 512, "sample_bytes": 20 << 10, "pattern": "llama3", "output": str(output), **changed}
    return train(load_recipe(text, "r").recipe, Storage(str(folder / "out")), Asked(**asked), Quiet())


def sampled(output: Path) -> dict[str, set[int]]:
    """Rows that the run's own tokenizer was trained on, by part; of its newest version."""
    _, units = opened_with_units(output)
    path = next(receipt.outputs[0].path for receipt in units.receipts if receipt.step == "tokenizer_sample")
    found: dict[str, set[int]] = {}
    for row in pq.read_table(output / path).to_pylist():
        found.setdefault(row["part"], set()).add(row["row"])
    return found


def test_the_same_bytes_as_the_runs_own_tokenizer_each_time(built: Path, tmp_path: Path):
    own = (built / "out" / newest(built / "out").value["tokenizer"]).read_bytes()
    reports = [trained(built, tmp_path / place / "tokenizer.json") for place in ("a", "b")]
    for place, report in zip("ab", reports, strict=True):
        assert (tmp_path / place / "tokenizer.json").read_bytes() == own
        assert json.loads((tmp_path / place / "tokenizer.report.json").read_text()) == report
    for report in reports:
        for told in (report["tokenizer"], report["measured"][0]):
            del told["path" if "path" in told else "tokenizer"]
    assert reports[0] == reports[1]


def test_the_sample_is_in_the_mixtures_proportions_of_kept_training_documents_alone(built: Path):
    run, units = opened_with_units(built / "out")
    receipt = next(receipt for receipt in units.receipts if receipt.step == "tokenizer_sample")
    told = receipt.notes["components"]
    assert {name: row["asked_bytes"] for name, row in told.items()} == {"web": 10240, "notes": 6144, "code": 4096}
    assert all(row["bytes"] >= row["asked_bytes"] for row in told.values())
    inside = sampled(built / "out")
    count = 0
    for parts in run.parts.values():
        for key, part in parts.items():
            decisions = pq.read_table(built / "out" / part.tables["decisions"].path).to_pylist()
            ledger = pq.read_table(built / "out" / units.units[units.unit_of[key]].ledger.path).to_pylist()
            gone = {row["removed_row"] for row in ledger if row["removed_part"] == key}
            for row in inside.get(key, ()):
                assert decisions[row]["stratum"].startswith("train")
                assert row not in gone
                count += 1
    assert count == sum(row["documents"] for row in told.values()) > 10


def test_figures_are_those_of_tokenizers_on_documents_not_trained_on(built: Path, tmp_path: Path):
    report = trained(built, tmp_path / "t.json", vocab_size=400)
    first, own = report["measured"]
    assert (first["vocab_size"], own["tokenizer"]) == (400, f"{built / 'out'} (its own)")
    assert report["held_out"]["documents"] == sum(row["documents"] for row in first["sources"].values()) > 3
    run, units = opened_with_units(built / "out")
    tokenizer = Tokenizer.from_file(str(tmp_path / "t.json"))
    texts, inside = [], sampled(built / "out")
    for key, part in run.parts["notes"].items():  # a source without edits
        decisions = pq.read_table(built / "out" / part.tables["decisions"].path).to_pylist()
        documents = pq.read_table(built / "out" / part.tables["documents"].path).to_pylist()
        ledger = pq.read_table(built / "out" / units.units[units.unit_of[key]].ledger.path).to_pylist()
        gone = {row["removed_row"] for row in ledger if row["removed_part"] == key}
        for row, (decision, document) in enumerate(zip(decisions, documents, strict=True)):
            stratum = decision["stratum"]
            if decision["kept"] and row not in gone and is_held_out((key, row, stratum, 0, "notes")):
                assert row not in inside.get(key, ())
                texts.append(document["text"])
    assert first["sources"]["notes"] == {
        "documents": len(texts),
        "bytes": (size := sum(len(text.encode()) for text in texts)),
        "tokens": (tokens := sum(len(tokenizer.encode(text).ids) for text in texts)),
        "bytes_per_token": size / tokens,
    }
    assert 1 < first["bytes_per_token"] < own["bytes_per_token"] < 10
    assert first["bytes_per_token"] == report["held_out"]["bytes"] / first["tokens"]
    assert 0 < first["vocabulary_seen_fraction"] < 1
    assert first["languages"]["en"] == {**first["sources"]["web"]}
    assert "<|endoftext|>" not in report["tokenizer"]["longest_tokens"]


def test_other_tokenizers_are_held_against_it(built: Path, tmp_path: Path):
    trained(built, tmp_path / "small.json", vocab_size=300)
    report = trained(built, tmp_path / "t.json", compare=(str(tmp_path / "small.json"),))
    assert [(one["tokenizer"], one["vocab_size"]) for one in report["measured"]] == [
        (str(tmp_path / "t.json"), 512),
        (str(tmp_path / "small.json"), 300),
    ]
    assert report["measured"][1]["single_byte_fraction"] > report["measured"][0]["single_byte_fraction"] > 0


def test_what_is_taken_down_is_not_trained_on_and_trains_nothing_again(built: Path, tmp_path: Path):
    folder = tmp_path / "here"
    shutil.copytree(built, folder)
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(built), str(folder)))
    output = folder / "out"
    run_inline(recipe, output)
    before = sampled(output)
    part, rows = next(iter(before.items()))
    opened, units = opened_with_units(output)
    with open_executor("inline") as executor:
        run = Run(opened.recipe_file, Storage(str(output)), executor, Quiet())
        remove(run, opened, units, AskedToRemove(ids=(f"{part}:{min(rows)}",)))
    assert run_inline(recipe, output)[1] == []
    assert sampled(output) == before
    recipe.write_text(recipe.read_text().replace("vocab_size: 512", "vocab_size: 500"))
    assert "tokenizer" in run_inline(recipe, output)[1]
    assert min(rows) not in sampled(output)[part]
    # the command keeps to the list as well
    own = (output / newest(output).value["tokenizer"]).read_bytes()
    trained(folder, tmp_path / "t.json", vocab_size=500)
    assert (tmp_path / "t.json").read_bytes() == own


@pytest.mark.parametrize(
    ("changed", "old", "new", "message"),
    [
        ({"vocab_size": 257}, "", "", "vocab_size 257 is too small: 256 bytes and 2 special tokens alone are 258"),
        ({"compare": ("nowhere.json",)}, "", "", "no file 'nowhere.json' to compare with"),
        ({"compare": (__file__,)}, "", "", "test_tokenizer_training.py: asked for a Hugging Face tokenizer.json"),
        ({}, "name: notes", "name: books", "the recipe also has books: `tokenmill run` it first"),
    ],
)
def test_mistakes_are_named(built: Path, tmp_path: Path, changed: dict[str, Any], old: str, new: str, message: str):
    recipe = (built / "recipe.yaml").read_text().replace(old, new).replace("notes: 0.3", f"{new[6:] or 'notes'}: 0.3")
    with pytest.raises(ValueError, match=message):
        trained(built, tmp_path / "t.json", recipe, **changed)
    assert not (tmp_path / "t.json").exists()


def test_the_tokenizer_that_the_recipe_packs_with_is_not_overwritten(built: Path, tmp_path: Path):
    recipe = (built / "recipe.yaml").read_text()
    given = tmp_path / "t.json"
    recipe = recipe.replace("train: {vocab_size: 512, sample_bytes: 20KiB}", f"path: {given}")
    with pytest.raises(ValueError, match="is the tokenizer that the recipe packs with"):
        trained(built, tmp_path / "." / "t.json", recipe)
    assert trained(built, tmp_path / "other.json", recipe)["tokenizer"]["vocab_size"] == 512


def test_nothing_kept_and_nothing_published(built: Path, tmp_path: Path):
    recipe = (built / "recipe.yaml").read_text()
    with pytest.raises(ValueError, match="holds no published run"):
        train(load_recipe(recipe, "r").recipe, Storage(str(tmp_path)), Asked(512, 9, "gpt2", "t.json"), Quiet())
    (tmp_path / "recipe.yaml").write_text(recipe.replace("{min_words: {percentile: 5}", "{min_words: 100000") + "\n")
    text = (tmp_path / "recipe.yaml").read_text()
    only = text[: text.index("  - name: web")] + text[text.index("  - name: notes") : text.index("  - name: code")]
    only += "sequences: {length: 64}\n"
    (tmp_path / "recipe.yaml").write_text(only)
    run_inline(tmp_path / "recipe.yaml", tmp_path / "out")
    with pytest.raises(ValueError, match=r"nothing is kept for training in .*`tokenmill audit"):
        trained(tmp_path, tmp_path / "t.json")


def test_the_command(built: Path, tmp_path: Path):
    recipe, run, output = str(built / "recipe.yaml"), str(built / "out"), str(tmp_path / "t.json")
    said = tokenmill("tokenizer", "train", recipe, "--run", run, "--output", output, "--sample-bytes", "1GB", "--quiet")
    assert "there is less than was asked for, so the sample is not in the mixture's proportions" in said
    assert "longest tokens: ' " in said
    assert f"tokenizer {output}, xxh3-128 " in said
    printed = tokenmill("tokenizer", "train", recipe, "--run", run, "--output", output, "--pattern", "gpt2", "--json")
    assert json.loads(printed) == json.loads((tmp_path / "t.report.json").read_text())
    assert json.loads(printed)["tokenizer"]["pattern"] == "gpt2"
    wrong = tokenmill("tokenizer", "train", recipe, "--sample-bytes", "much", check=False)
    assert "'much' is no size; give one such as 64MiB or 1GB" in wrong
