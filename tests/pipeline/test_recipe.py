"""The recipe: every mistake is one clear line with file, line and key, before any work."""

import re
from pathlib import Path

import pytest

from tests.pipeline.corpus import RECIPE, write_corpus
from tokenmill.dedup.minhash import MinHashParams
from tokenmill.dedup.shingles import Shingling
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe import Percentile, source_root
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.storage import Storage

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD = """\
name: r
tokenizer: {train: {vocab_size: 1000}}
sources:
  - name: web
    reader: warc
    paths: [raw/*.warc.gz]
    filters:
      - gopher_quality: {min_words: 40}
sequences: {length: 64}
mixture: {weights: {web: 1}}
"""


def test_defaults_are_filled_in():
    source = load_recipe(GOOD, "r.yaml").recipe.sources[0]
    assert source.gates.http_status == (200,)
    assert source.gates.mime == ("text/html", "application/xhtml+xml", "text/plain")
    assert source.filters[0].bounds["min_words"] == 40
    assert source.filters[0].bounds["min_stop_words"] == 2


def test_zero_null_and_percentile_are_three_bounds():
    text = GOOD.replace("min_words: 40", "min_words: 0, max_words: null, min_stop_words: {percentile: 5}")
    bounds = load_recipe(text, "r.yaml").recipe.sources[0].filters[0].bounds
    assert bounds["min_words"] == 0
    assert bounds["max_words"] is None
    assert bounds["min_stop_words"] == Percentile(percentile=5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: r", "nam: r", "r.yaml:1: nam: unknown key 'nam': did you mean 'name'?"),
        (
            "    reader: warc",
            "    raeder: warc",
            "r.yaml:5: sources[0].raeder: unknown key 'raeder': did you mean 'reader'?",
        ),
        (
            "min_words",
            "min_word",
            "r.yaml:8: sources[0].filters[0].min_word: unknown key 'min_word' of filter gopher_quality",
        ),
        ("gopher_quality", "gopher_qualty", "did you mean 'gopher_quality'?"),
        ("{length: 64}", "{lenght: 64}", "r.yaml:9: sequences.lenght: unknown key 'lenght': did you mean 'length'?"),
        (
            "{weights: {web: 1}}",
            "{weights: {wib: 1}}",
            "mixture.weights names 'wib', which is no source: did you mean 'web'?",
        ),
        (
            "{weights: {web: 1}}",
            "{weights: {web: -1}}",
            "r.yaml:10: mixture.weights.web: Input should be greater than 0",
        ),
        ("vocab_size: 1000", "vocab_size: many", "r.yaml:2: tokenizer.train.vocab_size"),
        ("{train: {vocab_size: 1000}}", "{}", "give either `path` (a tokenizer.json) or `train`, one of them"),
        (
            "min_words: 40",
            "min_words: forty",
            "bound 'min_words' is a number, null (off) or `percentile: P`, not 'forty'",
        ),
        ("min_words: 40", "min_words: [40]", "bound 'min_words' is a number, null (off) or `percentile: P`, not [40]"),
        ("min_words: 40", "min_words: .nan", "bound 'min_words' is a number, null (off) or `percentile: P`, not nan"),
        ("sequences: {length: 64}\n", "", "sequences: this key is needed and is not there"),
        ("reader: warc", "reader: word", "r.yaml:5: sources[0].reader"),
        (
            "reader: warc",
            "reader: warc\n    columns: {text: t}",
            "`columns` says nothing to reader warc, only to jsonl",
        ),
        ("name: web", "name: Web Pages", "r.yaml:4: sources[0].name: a name is lower-case letters"),
        ("[raw/*.warc.gz]", '["${NOT_SET}/x"]', "${NOT_SET} is not set: export NOT_SET=… or write ${NOT_SET:-default}"),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, message: str):
    with pytest.raises(RecipeError) as error:
        load_recipe(GOOD.replace(old, new), "r.yaml", {})
    assert message in str(error.value)


def test_weights_that_leave_a_source_out_are_refused():
    text = GOOD.replace("sequences:", "  - {name: code, reader: code, paths: [c]}\nsequences:")
    with pytest.raises(RecipeError, match=r"mixture\.weights leaves out code"):
        load_recipe(text, "r.yaml")


def test_dedup_bands_that_do_not_fit_are_refused():
    with pytest.raises(RecipeError, match=r"bands = 15 of rows = 8 need 120 permutations"):
        load_recipe(GOOD + "dedup: {bands: 15, rows: 8}\n", "r.yaml")


def test_dedup_bands_suit_the_threshold_where_none_are_given():
    def minhash(text: str) -> MinHashParams:
        return load_recipe(GOOD + f"dedup: {{{text}}}\n", "r.yaml").recipe.dedup.minhash

    assert minhash("threshold: 0.8") == minhash("") == minhash("bands: 14, rows: 8") == MinHashParams()
    assert (minhash("threshold: 0.7").bands, minhash("threshold: 0.7").rows) == (18, 6)
    assert (minhash("threshold: 0.9, bands: 9, rows: 12").bands, minhash("num_permutations: 16").rows) == (9, 4)
    with pytest.raises(RecipeError, match="bands is given and rows is not: give both, or neither"):
        load_recipe(GOOD + "dedup: {bands: 15}\n", "r.yaml")


def test_shingles_are_of_words_or_characters():
    dedup = load_recipe(GOOD + "dedup: {ngram_characters: 24, keep_digits: true}\n", "r.yaml").recipe.dedup
    assert dedup.minhash.shingling == Shingling(24, characters=True, keep_digits=True)
    with pytest.raises(RecipeError, match="ngram_words or of ngram_characters: give one of them"):
        load_recipe(GOOD + "dedup: {ngram_characters: 24, ngram_words: 5}\n", "r.yaml")


def test_variables_and_defaults_are_expanded():
    text = GOOD.replace("raw/*.warc.gz", '"${HERE:-there}/*.warc.gz"')
    assert load_recipe(text, "r", {}).recipe.sources[0].paths == ("there/*.warc.gz",)
    assert load_recipe(text, "r", {"HERE": "s3://b"}).recipe.sources[0].paths == ("s3://b/*.warc.gz",)


def test_not_yaml_and_not_a_mapping():
    with pytest.raises(RecipeError, match=r"r\.yaml: not YAML"):
        load_recipe("a: [", "r.yaml")
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        load_recipe("- a", "r.yaml")


@pytest.mark.parametrize("name", ["demo", "crawl", "illada-12t"])
def test_the_recipes_of_the_repository_are_valid(name: str):
    path = REPOSITORY / "infra" / "recipes" / f"{name}.yaml"
    recipe = load_recipe(path.read_text(), str(path), {}).recipe
    assert recipe.name == name


def test_the_12t_recipe_has_the_shape_of_the_paper():
    recipe = load_recipe((REPOSITORY / "infra/recipes/illada-12t.yaml").read_text(), "r", {}).recipe
    assert recipe.sequences.length == 8192
    assert recipe.mixture.weights == {"english": 0.61, "chinese": 0.11, "code": 0.28}
    assert recipe.mixture.tokens == 12 * 10**12
    assert recipe.output.startswith("s3://")
    assert all(path.startswith("s3://") for source in recipe.sources for path in source.paths)


def test_roots():
    def source(paths: str):
        return load_recipe(GOOD.replace("[raw/*.warc.gz]", paths), "r").recipe.sources[0]

    assert source_root(source("[raw/*.warc.gz]")) == "raw"
    assert source_root(source("[raw/a/x.gz, raw/b/y.gz]")) == "raw"
    assert source_root(source('["s3://bucket/raw/*/x.gz", "s3://bucket/raw/b.gz"]')) == "s3://bucket/raw"


def test_an_empty_glob_names_its_line_before_any_work(tmp_path: Path):
    write_corpus(tmp_path, 2)
    text = RECIPE.replace("{folder}", str(tmp_path)).replace("*.jsonl", "*.jsonlines")
    with pytest.raises(RecipeError, match=r"r\.yaml:21: sources\[1\]\.paths\[0\]: .*matches no file"):
        prepare(load_recipe(text, "r.yaml"), Storage(str(tmp_path / "out")))


def test_a_language_the_model_does_not_know(tmp_path: Path):
    write_corpus(tmp_path, 2)
    text = RECIPE.replace("{folder}", str(tmp_path))
    for old, new, key in (
        ("keep: [en]", "keep: [en, xyz]", "language.keep"),
        ("priority: 1", "gates: {languages: [english]}", "gates.languages"),
    ):
        message = rf"sources\[0\]\.{re.escape(key)}: no language '\w+' in the model py3langid; it knows .* de .* en "
        with pytest.raises(RecipeError, match=message):
            prepare(load_recipe(text.replace(old, new), "r.yaml"), Storage(str(tmp_path / "out")))


def test_a_tokenizer_that_is_not_there_or_is_none(tmp_path: Path):
    write_corpus(tmp_path, 2)
    (tmp_path / "broken.json").write_text("{}")
    for name, message in (("absent", "no file"), ("broken", "without a model")):
        text = RECIPE.replace("{folder}", str(tmp_path))
        text = text.replace("train: {vocab_size: 512, sample_bytes: 1MiB}", f"path: {tmp_path}/{name}.json")
        with pytest.raises(RecipeError, match=rf"r\.yaml:7: tokenizer\.path: .*{message}"):
            prepare(load_recipe(text, "r.yaml"), Storage(str(tmp_path / "out")))
