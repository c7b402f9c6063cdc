"""Classifiers in a recipe: scores, bounds and percentiles, reruns, `sample` and `tune`, and mistakes named at once."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import advert, fingerprint, prose, write_recipe, write_texts
from tests.pipeline.fasttext_models import sentences
from tests.pipeline.fasttext_models import train as train_any
from tests.pipeline.runs import newest, opened, run_inline, tokenmill
from tokenmill.manifests.balance import Balance
from tokenmill.pipeline import checks, fasttext_model, look
from tokenmill.pipeline.classifier.model import open_classifier
from tokenmill.pipeline.classifier.training import TrainParams, train
from tokenmill.pipeline.opened import OpenedRun
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.recipe import Percentile
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tune import parse_setting, tune

RECIPE = """\
name: scored
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
part_bytes: 8KiB
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/notes/*.jsonl"]
    filters:
      - gopher_quality: {min_words: 2, min_stop_words: null, min_mean_word_length: null}
      - classifier: {name: edu, model: "{folder}/edu.bin", min_score: 0.5}
      - classifier:
          {name: start, model: "{folder}/edu.bin", label: negative, max_bytes: 100, max_score: {percentile: 90}}
sequences: {length: 64}
"""
TEXTS = [text for n in range(40) for text in (prose(f"note {n}", 5), advert(900 + n))] + ["of the", "x 。 y"]


def make_model(path: Path, seed: int = 0) -> None:
    folder = path.parent
    for name, texts in (("good", [prose(f"g {n}", 4) for n in range(60)]), ("bad", [advert(n) for n in range(60)])):
        write_texts(folder / f"{name}.jsonl", texts)
    params = TrainParams(seed=seed, dim=8, buckets=500)
    train([str(folder / "good.jsonl")], [str(folder / "bad.jsonl")], str(path), params, "text", Quiet())


@pytest.fixture(autouse=True)
def fresh_models() -> Iterator[None]:
    """A process reads a model once; here files of one name change."""
    fasttext_model.load_fasttext.cache_clear()
    yield
    fasttext_model.load_fasttext.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe, three raw files of one part each, the model; and `out`, run."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "notes").mkdir()
    for number in range(3):
        lines = [json.dumps({"text": text}) for text in TEXTS[number::3]]
        (folder / "notes" / f"{number}.jsonl").write_text("\n".join([*lines, "{broken"][: 99 if number else -1]) + "\n")
    make_model(folder / "edu.bin")
    run_inline(write_recipe(folder, RECIPE), folder / "out")
    return folder


def rows_of(run: OpenedRun, table: str, column: str) -> list[object]:
    tables = [part.tables[table].path for part in run.parts["notes"].values()]
    return [row for path in tables for row in pq.read_table(run.storage.url(path)).column(column).to_pylist()]


def test_scores_decisions_and_percentiles(folder: Path):
    published, run = newest(folder / "out"), opened(folder / "out")
    assert len(run.parts["notes"]) > 1
    texts = pa.array(rows_of(run, "documents", "text"), pa.large_string())
    edu = open_classifier(str(folder / "edu.bin"), "positive").signals(texts).column(0).to_pylist()
    start = open_classifier(str(folder / "edu.bin"), "negative").signals(texts, 100).column(0).to_pylist()
    assert rows_of(run, "signals/classifier.edu", "score") == edu
    assert rows_of(run, "signals/classifier.start", "score") == start
    assert [score is None for score in edu] == [text is None for text in texts.to_pylist()]
    reasons = rows_of(run, "decisions", "reason")
    dropped = [reason == "classifier.edu.min_score" for reason in reasons]
    short = [reason is not None and reason.startswith("gopher_quality") for reason in reasons]
    assert dropped == [score is not None and score < 0.5 and not s for score, s in zip(edu, short, strict=True)]
    assert 20 < sum(dropped) < 60
    # of all documents with a score, whatever their other reasons, the bound lets about nine in ten pass
    known = sorted(score for score in start if score is not None)
    cut = known[math.ceil(0.9 * len(known)) - 1]
    over = {score for score, reason in zip(start, reasons, strict=True) if reason == "classifier.start.max_score"}
    assert all(score is not None and score >= cut for score in over)
    assert all(not wrong for _, wrong in checks.recount(run.storage, published))


def test_the_best_tenth_is_exactly_a_tenth(folder: Path, tmp_path: Path):
    """With copies, whose scores are equal, across the bound."""
    (tmp_path / "notes").mkdir()
    lines = [json.dumps({"text": TEXTS[number % 30]}) for number in range(95)]
    (tmp_path / "notes" / "a.jsonl").write_text("\n".join(lines))
    head, _, tail = RECIPE.partition("      - gopher_quality")
    entry = f"      - classifier: {{name: edu, model: {folder}/edu.bin, min_score: {{percentile: 90}}}}\n"
    run_inline(write_recipe(tmp_path, head + entry + tail[tail.index("sequences:") :]), tmp_path / "out")
    run = opened(tmp_path / "out")
    scores = rows_of(run, "signals/classifier.edu", "score")
    reasons = rows_of(run, "decisions", "reason")
    assert set(reasons) == {None, "classifier.edu.min_score"}
    kept = sorted(score for score, reason in zip(scores, reasons, strict=True) if reason is None)  # type: ignore[type-var]
    assert len(kept) == 95 - 9 * 95 // 10
    assert kept == sorted(scores)[-len(kept) :]  # type: ignore[type-var]


def test_the_models_hash_is_an_input_of_each_receipt(folder: Path):
    card = json.loads((folder / "edu.bin.json").read_text())
    (annotated,) = (folder / "out" / "receipts").glob("annotate@*.parquet")
    inputs = {row["task"]: json.loads(row["inputs"]) for row in pq.read_table(annotated).to_pylist()}
    scored = [given["classifier_model"] for task, given in inputs.items() if ".classifier." in task]
    assert scored == [card["model"]["hash"]] * (2 * len(opened(folder / "out").parts["notes"]))
    assert not any("classifier_model" in given for task, given in inputs.items() if ".classifier." not in task)


def test_a_changed_model_measures_its_groups_again_and_nothing_else(folder: Path, tmp_path: Path):
    (tmp_path / "notes").symlink_to(folder / "notes")
    make_model(tmp_path / "edu.bin")
    recipe = write_recipe(tmp_path, RECIPE.replace('edu.bin", label', 'other.bin", label'))
    (tmp_path / "other.bin").write_bytes((tmp_path / "edu.bin").read_bytes())
    first, _ = run_inline(recipe, tmp_path / "out")
    assert run_inline(recipe, tmp_path / "out")[1] == []
    # moved, and called otherwise: the same bytes are the same model
    (tmp_path / "moved.bin").write_bytes((tmp_path / "edu.bin").read_bytes())
    recipe.write_text(recipe.read_text().replace("edu.bin", "moved.bin").replace("min_score: 0.5", "min_score: 0.5 "))
    assert run_inline(recipe, tmp_path / "out")[1] == []
    make_model(tmp_path / "moved.bin", seed=9)
    fasttext_model.load_fasttext.cache_clear()
    second, tasks = run_inline(recipe, tmp_path / "out")
    assert first.path != second.path
    assert {task for task in tasks if task.startswith("ingest")} == set()
    before, after = ({r.task: r.key for r in receipts(tmp_path / "out", published)} for published in (first, second))
    assert {task.split(".", 1)[1] for task in before if before[task] != after[task]} == {"classifier.edu"}


def receipts(root: Path, published: Published) -> list[checks.Receipt]:
    found = checks.receipts_in(Storage(str(root)), published)
    return [receipt for receipt in found if receipt.step in ("ingest", "annotate")]


def test_several_workers_write_the_same_bytes(folder: Path, tmp_path: Path):
    tokenmill("run", str(folder / "recipe.yaml"), "--output", str(tmp_path / "ray"), "--cpus", "2", "--quiet")
    assert fingerprint(tmp_path / "ray") == fingerprint(folder / "out")


def test_sample_shows_score_and_bound(folder: Path):
    run = opened(folder / "out")
    total, documents = look.sample(run, "notes", "classifier.edu.min_score", 3)
    for document in documents:
        assert (document.signal, document.bound) == ("classifier.edu.score", 0.5)
        assert 0 <= document.value < 0.5
        assert document.text in TEXTS
    assert look.sample(run, "notes", "classifier", 1)[0] >= look.sample(run, "notes", "classifier.edu", 1)[0] == total
    said = tokenmill("sample", str(folder / "out"), "--reason", "classifier.edu", "-n", "1")
    assert "classifier.edu.min_score: classifier.edu.score is 0." in said
    assert "classifier.edu.min_score" in tokenmill("audit", str(folder / "out"))


@pytest.mark.parametrize("value", ["0.9", "null", "{percentile: 60}"])
def test_tune_foretells_a_changed_bound(folder: Path, tmp_path: Path, value: str):
    run = opened(folder / "out")
    (outcome,) = tune(run, [parse_setting(f"classifier.edu.min_score={value}")]).values()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((folder / "recipe.yaml").read_text().replace("min_score: 0.5", f"min_score: {value}"))
    changed, _ = run_inline(recipe, tmp_path / "out")
    assert outcome.after == Balance.from_json(changed.value["balance"]["notes"]["steps"]["select"])
    assert outcome.after != outcome.before


def test_tune_says_what_is_no_bound(folder: Path):
    run = opened(folder / "out")
    with pytest.raises(ValueError, match=r"classifier\.edu\.model is no bound over signals"):
        tune(run, [parse_setting("classifier.edu.model=x")])
    with pytest.raises(ValueError, match=r"no bound 'classifier\.edu\.min_scor': did you mean .*edu\.min_score'"):
        tune(run, [parse_setting("classifier.edu.min_scor=x")])


def test_the_entry_in_a_recipe():
    (source,) = load_recipe(RECIPE, "r.yaml").recipe.sources
    _, edu, start = source.filters
    assert (edu.group, start.group) == ("classifier.edu", "classifier.start")
    assert edu.params == {"model": "{folder}/edu.bin", "label": "positive", "max_bytes": None}
    assert start.params["max_bytes"] == 100
    assert edu.bounds == {"min_score": 0.5, "max_score": None}
    assert start.bounds == {"min_score": None, "max_score": Percentile(percentile=90)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: start", "name: edu", r"filter classifier\.edu stands twice in one source: give each a `name`"),
        ("name: start, ", "", r"filters.*this key is needed"),
        ("name: start", "name: a/b", "should match pattern"),
        ("label: negative", "labels: negative", "unknown key 'labels': did you mean 'label'"),
        ("- classifier: {name: edu", "- clasifier: {name: edu", "did you mean 'classifier'"),
        ("min_score: 0.5", "min_score: 50", "min_score is 50, and scores are 0 … 1"),
        ("min_score: 0.5", "min_score: .nan", "bound 'min_score' is a number, null .* not nan"),
        ("min_score: 0.5", "min_score: high", "bound 'min_score' is a number, null"),
        ("min_score: 0.5", "min_score: {percentil: 3}", "did you mean 'percentile'"),
        ("max_bytes: 100", "max_bytes: 0", "greater than 0"),
        ('edu.bin", min', 'none.bin", min', r"r\.yaml:11: .*filters\[1\]\.model: no file '.*none\.bin'; give a model"),
        ('edu.bin", min', '", min', r"\.model: no file '.*'; give a model that `tokenmill classifier train` wrote"),
        ('edu.bin", min', 'cut.bin", min', r"cut\.bin cannot be read as a classifier: .*; give a supervised"),
        ('edu.bin", min', 'lid.bin", min', "no label 'positive' in this model; it has"),
        ("label: negative", "label: hq", r"no label 'hq' in this model; it has .*positive.*: name one"),
    ],
)
def test_a_mistake_is_named_before_any_work(folder: Path, tmp_path: Path, old: str, new: str, message: str):
    (tmp_path / "notes").symlink_to(folder / "notes")
    data = (folder / "edu.bin").read_bytes()
    (tmp_path / "edu.bin").write_bytes(data)
    (tmp_path / "cut.bin").write_bytes(data[: len(data) // 2])
    if "lid" in new:
        train_any(tmp_path, sentences(1, 100)).save_model(str(tmp_path / "lid.bin"))
    text = RECIPE.replace(old, new).replace("{folder}", str(tmp_path))
    assert old in RECIPE
    with pytest.raises(RecipeError, match=message):
        prepare(load_recipe(text, "r.yaml"), Storage(str(tmp_path / "out")))
    assert not (tmp_path / "out" / "documents").exists()
