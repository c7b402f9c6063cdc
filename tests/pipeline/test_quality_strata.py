"""Strata by a signal: buckets, what they are called, and a mixture that weighs them."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.pipeline.runs import run_inline, tokenmill
from tokenmill.manifests.mixture import Mixture
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.recipe.mixture import Quality
from tokenmill.pipeline.steps.select import _buckets
from tokenmill.pipeline.storage import Storage

WORDS = 5, 20, 60, 61, 300, 1000
RECIPE = """
name: quality
tokenizer: {train: {vocab_size: 400}}
sources:
  - name: web
    reader: jsonl
    root: .
    paths: [web/*.jsonl]
    filters: [{gopher_quality: {min_words: 10, max_mean_word_length: null, min_stop_words: null}}]
  - {name: plain, reader: jsonl, root: ., paths: [plain/*.jsonl]}
dedup: {near: false}
sequences: {length: 64}
strata:
  by: [quality]
  quality: {signal: gopher_quality.words, buckets: {short: null, middle: 60, long: 300}}
mixture: {weights: {web: 1, web/train/quality=long: 3, plain: 1}}
"""


def test_a_bucket_begins_with_its_least_value_and_the_first_takes_what_has_none():
    quality = Quality(signal="a.b.score", buckets={"low": None, "high": 0.5, "top": 1})
    values = pa.array([None, float("nan"), -3, 0.49999, 0.5, 0.99, 1, 7])
    names = [name.removeprefix("quality=") for name in _buckets(quality, values).to_pylist()]
    assert names == ["low", "low", "low", "low", "high", "high", "top", "top"]
    assert _buckets(quality, pa.array([0, 1], pa.int32())).to_pylist() == ["quality=low", "quality=top"]


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Mixture]:
    monkeypatch.chdir(tmp_path)
    for name in ("web", "plain"):
        Path(name).mkdir()
        texts = [" ".join(f"{name}{number}x{i}" for i in range(number)) for number in WORDS]
        Path(name, "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    Path("recipe.yaml").write_text(RECIPE)
    version, _ = run_inline(Path("recipe.yaml"), "out")
    return tmp_path, Mixture.from_json(Storage("out").read(version.value["mixture"]))


def test_each_bucket_is_a_component_that_a_mixture_weighs(published: tuple[Path, Mixture]):
    folder, mixture = published
    by_name = {component.name: component for component in mixture.components}
    assert sorted(by_name) == ["plain/train", *(f"web/train/quality={name}" for name in ("long", "middle", "short"))]
    of_web = [by_name[f"web/train/quality={name}"].weight for name in ("short", "middle", "long")]
    assert of_web[0] + of_web[1] == pytest.approx(1)
    assert of_web[2] == 3
    told = tokenmill(
        "sql", str(folder / "out"), "SELECT stratum, count(*) FROM decisions WHERE source = 'web' GROUP BY 1"
    )
    counted = dict(line.split("\t") for line in told.splitlines()[1:] if "quality" in line)
    assert counted == {"train/quality=short": "1", "train/quality=middle": "2", "train/quality=long": "2"}


def test_other_buckets_are_decided_from_the_signals_at_rest(published: tuple[Path, Mixture]):
    def files(folder: str) -> set[str]:
        return {str(path) for path in Path("out", folder).rglob("*.parquet")}

    before = {folder: files(folder) for folder in ("documents", "signals", "decisions")}
    Path("recipe.yaml").write_text(RECIPE.replace("middle: 60", "middle: 61"))
    run_inline(Path("recipe.yaml"), "out")
    assert files("documents") | files("signals") == before["documents"] | before["signals"]
    assert files("decisions") > before["decisions"]


@pytest.mark.parametrize(
    ("strata", "message"),
    [
        ("{by: [quality]}", "strata by quality want both"),
        ("{quality: {signal: gopher_quality.words, buckets: {a: null, b: 1}}}", "strata by quality want both"),
        ("{by: [quality], quality: {signal: c4.words, buckets: {a: null, b: 1}}}", "its filters are gopher_quality"),
        ("{by: [quality], quality: {signal: words, buckets: {a: null, b: 1}}}", "signal"),
        ("{by: [quality], quality: {signal: gopher_quality.words, buckets: {a: null}}}", "the first null, then rising"),
        ("{by: [quality], quality: {signal: gopher_quality.words, buckets: {a: 0, b: 1}}}", "the first null"),
        ("{by: [quality], quality: {signal: gopher_quality.words, buckets: {a: null, b: 2, c: 2}}}", "then rising"),
        ("{by: [quality], quality: {signal: gopher_quality.words, buckets: {a: null, b: .inf}}}", "then rising"),
        ("{by: [quality], quality: {signal: gopher_quality.words, buckets: {a: null, B/c: 2}}}", "bucket 'B/c' names"),
    ],
)
def test_what_cannot_be_is_refused(strata: str, message: str):
    start, _, rest = RECIPE.partition("strata:")
    text = f"{start}strata: {strata}\nmixture: {{}}\n"
    assert rest
    with pytest.raises(RecipeError) as error:
        load_recipe(text, "r.yaml")
    assert message in str(error.value)


def test_a_signal_that_the_group_has_not_is_named(published: tuple[Path, Mixture]):
    Path("recipe.yaml").write_text(RECIPE.replace("gopher_quality.words", "gopher_quality.word_count"))
    with pytest.raises(Exception, match=r"gopher_quality\.word_count, which is none: those .* are words, "):
        run_inline(Path("recipe.yaml"), "out")
