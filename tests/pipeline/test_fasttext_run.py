"""A fastText model in a recipe: by path, or found in an installed wheel; the gate, the bounds and the receipts."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import prose, write_recipe, write_texts
from tests.pipeline.fasttext_models import language_lines, train
from tests.pipeline.runs import run_inline
from tokenmill.filters.language import LanguageBounds, language_violations
from tokenmill.manifests.schemas import LANGUAGE_SIGNALS
from tokenmill.pipeline.language_model import installed_file, load_language_model
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.storage import Storage

RUSSIAN = " ".join(["и в не на что он как это город вода утро окно люди улица вечер лодка рыбак море гавань"] * 3)
GERMAN = " ".join(["der die das und von mit für ist war nicht Hafen Fenster Morgen Leute Wasser Straße Abend"] * 3)
RECIPE = """
name: languages
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/notes.jsonl"]
    SETTINGS
strata: {by: [language]}
sequences: {length: 64}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    train(folder, language_lines(), loss="hs", minn=2, maxn=4).save_model(str(folder / "own.bin"))
    return folder / "own.bin"


def write_notes(folder: Path, settings: str) -> Path:
    texts = [prose(1, 6), RUSSIAN, GERMAN, prose(2, 6) + "\n" + RUSSIAN * 5, prose(3, 6)]
    write_texts(folder / "notes.jsonl", texts)
    return write_recipe(folder, RECIPE.replace("SETTINGS", settings))


def test_a_recipe_with_a_model_by_path(tmp_path: Path, model: Path) -> None:
    keep = f"language: {{model: {model}, keep: [eng_Latn, rus], min_score: 0.3, max_other_language_fraction: 0.2}}"
    published, _ = run_inline(write_notes(tmp_path, keep), tmp_path / "out")
    (annotated,) = (tmp_path / "out" / "receipts").glob("annotate@*.parquet")
    inputs = [json.loads(receipt["inputs"]) for receipt in pq.read_table(annotated).to_pylist()]
    named = [given["language_model/own.bin"] for given in inputs if "language_model/own.bin" in given]
    assert named == [load_language_model(str(model)).model_hash]
    (path,) = (tmp_path / "out" / "signals" / "language").rglob("*.parquet")
    table = pq.read_table(path)
    assert table.schema.names == LANGUAGE_SIGNALS.names
    rows = table.to_pylist()
    assert [row["language"] for row in rows] == ["en", "ru", "de", "ru", "en"]
    assert [row["other_language_fraction"] > 0 for row in rows] == [False, False, False, True, False]
    dropped = published.value["balance"]["notes"]["steps"]["select"]["dropped"]
    assert {reason: tally[0] for reason, tally in dropped.items()} == {
        "language.keep": 1,
        "language.max_other_language_fraction": 1,
    }
    assert sorted(published.value["balance"]["notes"]["tokens"]) == ["train/en", "train/ru"]


def test_the_gate_asks_the_same_model_and_receipts_name_it(tmp_path: Path, model: Path) -> None:
    gate = f"language: {{model: {model}}}\n    gates: {{languages: [eng], sample_fraction: 0}}"
    run_inline(write_notes(tmp_path, gate), tmp_path / "out")
    (documents,) = (tmp_path / "out" / "documents").rglob("*.parquet")
    gates = pq.read_table(documents).column("gate").to_pylist()
    assert gates == [None, "gates.languages", "gates.languages", "gates.languages", None]
    (ingested,) = (tmp_path / "out" / "receipts").glob("ingest@*.parquet")
    (receipt,) = pq.read_table(ingested).to_pylist()
    assert json.loads(receipt["inputs"])["language_model/own.bin"] == load_language_model(str(model)).model_hash


@pytest.mark.parametrize("settings", ["language: {model: MODEL}", "language: {model: MODEL, keep: [en]}"])
def test_a_model_that_cannot_be_read_is_refused_before_any_work(tmp_path: Path, settings: str, model: Path) -> None:
    (tmp_path / "cut.ftz").write_bytes(model.read_bytes()[:1000])
    for name, message in (
        ("cut.ftz", "cannot be read as a language model"),
        ("none.ftz", "no file '.*none.ftz'; give"),
        ("", "no file '.*'; give py3langid, auto or the path"),
    ):
        recipe = write_notes(tmp_path, settings.replace("MODEL", str(tmp_path / name)))
        with pytest.raises(RecipeError, match=rf"sources\[0\]\.language\.model: .*{message}"):
            prepare(load_recipe(recipe.read_text(), "r.yaml"), Storage(str(tmp_path / "out")))


def test_a_language_that_this_model_does_not_know(tmp_path: Path, model: Path) -> None:
    recipe = write_notes(tmp_path, f"language: {{model: {model}, keep: [en, es]}}")
    with pytest.raises(RecipeError, match=r"no language 'es' in the model own.bin; it knows de en fr ru zh"):
        prepare(load_recipe(recipe.read_text(), "r.yaml"), Storage(str(tmp_path / "out")))


@pytest.fixture
def fresh_models() -> Iterator[None]:
    load_language_model.cache_clear()
    yield
    load_language_model.cache_clear()


@pytest.mark.usefixtures("fresh_models")
def test_auto_finds_the_file_in_an_installed_wheel_and_does_not_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    if installed_file("lid.176.ftz") is None:
        assert load_language_model("auto").name == "py3langid"
        load_language_model.cache_clear()
    (tmp_path / "aaa_wheel").mkdir()
    (tmp_path / "aaa_wheel" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "aaa_wheel" / "lid.176.ftz").write_bytes(model.read_bytes())
    info = tmp_path / "aaa_wheel-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aaa-wheel\nVersion: 1.0\n")
    (info / "RECORD").write_text("aaa_wheel/__init__.py,,\naaa_wheel/lid.176.ftz,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = load_language_model("auto")
    assert installed_file("lid.176.ftz") == str(tmp_path / "aaa_wheel" / "lid.176.ftz")
    assert found.name == "lid.176.ftz"
    assert found.model_hash == load_language_model(str(model)).model_hash
    assert "aaa_wheel" not in sys.modules


def test_paragraphs_in_other_languages_by_py3langid() -> None:
    lines = [prose(1, 6).replace("\n", " "), GERMAN, "Kontakt", prose(2, 6).replace("\n", " ")]
    texts = pa.array(["\n".join(lines), lines[0], "\n".join(lines[::3])], pa.large_string())
    signals = load_language_model("py3langid").signals(texts, 4096)
    assert signals.column("language").to_pylist() == ["en"] * 3
    share = len(GERMAN) / sum(len(line) for line in lines if line != "Kontakt")
    assert signals.column("other_language_fraction").to_pylist() == [pytest.approx(share), 0.0, 0.0]


def test_the_bound_on_other_languages() -> None:
    rows = [
        {"language": "en", "language_score": 0.9, "other_language_fraction": part} for part in (0.0, 0.5, 0.75, None)
    ]
    signals = pa.RecordBatch.from_pylist(
        [*rows, {"language": "sr_Latn", "language_score": 0.9}], schema=LANGUAGE_SIGNALS
    )
    bounds = LanguageBounds(max_other_language_fraction=0.5)
    reason = "language.max_other_language_fraction"
    assert language_violations(signals, bounds).to_pylist() == [None, None, reason, None, None]
    bounds = LanguageBounds(keep=("srp",), max_other_language_fraction=0.5)
    assert language_violations(signals, bounds).to_pylist() == ["language.keep"] * 4 + [None]
    bounds = LanguageBounds(keep=("srp_Cyrl", "eng"))
    assert language_violations(signals, bounds).to_pylist() == [None] * 4 + ["language.keep"]


SCORE_SAMPLE = """
import hashlib, sys
import pyarrow as pa
from tokenmill.pipeline.language_model import load_language_model
rows = load_language_model(sys.argv[1]).signals(pa.array(sys.argv[2:], pa.large_string()), 4096).to_pylist()
print(hashlib.sha256(repr(rows).encode()).hexdigest())
"""


def test_scores_are_the_same_bits_on_the_plainest_processor(tmp_path: Path, model: Path) -> None:
    texts = [prose(1, 9), RUSSIAN, GERMAN, "x", f"{GERMAN}\n{prose(4, 2)}", "港口 位于 城市"]
    rows = load_language_model(str(model)).signals(pa.array(texts, pa.large_string()), 4096).to_pylist()
    plain = {"NUMBA_CPU_NAME": "generic", "TOKENMILL_CACHE_DIR": str(tmp_path), "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"}
    found = subprocess.run(
        [sys.executable, "-c", SCORE_SAMPLE, str(model), *texts],
        env={**os.environ, **plain},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == hashlib.sha256(repr(rows).encode()).hexdigest()
