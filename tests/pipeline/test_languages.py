"""filters/languages.yaml and filters with `per_language: true`, from the recipe to the decisions."""

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.pipeline.corpus import write_recipe, write_texts
from tests.pipeline.runs import run_inline
from tests.stop_word_lists import labelled_sentences, stop_words, words
from tokenmill.filters.bounds import first_violated
from tokenmill.filters.gopher import STOP_WORDS, GopherQualityBounds, gopher_quality_signals
from tokenmill.filters.splitter import SplitTexts
from tokenmill.manifests.schemas import ROWS_PER_GROUP
from tokenmill.pipeline import languages, look
from tokenmill.pipeline.edited import edited_texts
from tokenmill.pipeline.languages import language_bounds, language_settings, language_words, parse_languages
from tokenmill.pipeline.opened import OpenedRun, open_run
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import open_groups
from tokenmill.pipeline.tune import parse_setting, tune

#: Languages most present in Common Crawl.
MOST_PRESENT = (
    *("en", "ru", "de", "ja", "es", "zh", "fr", "it", "pt", "nl", "pl", "tr", "cs", "vi", "id", "ar"),
    *("fa", "ko", "sv", "uk", "hu", "ro", "el", "da", "fi", "bg", "he", "hi"),
)
GIVEN = yaml.safe_load((files("tokenmill.filters") / "languages.yaml").read_text(encoding="utf-8"))


def test_the_languages_most_present_have_words_and_bounds():
    settings = language_settings()
    assert [label for label in MOST_PRESENT if not settings[label].stop_words] == []
    assert [label for label in settings if not settings[label].bounds] == ["en"]
    assert settings["en"].stop_words == STOP_WORDS
    assert settings["de"].bounds["gopher_quality"]["max_mean_word_length"] == 15
    assert settings["zh"].bounds["gopher_quality"]["min_mean_word_length"] is None
    assert language_words().lists.labels.to_pylist() == list(settings)


@pytest.mark.parametrize("label", GIVEN)
def test_every_stop_word_is_one_word_to_the_splitter(label: str):
    assert words(GIVEN[label]["stop_words"]) == GIVEN[label]["stop_words"]


@pytest.mark.real_data
@pytest.mark.parametrize("label", GIVEN)
def test_the_words_are_what_the_rule_makes_of_the_installed_library(real_data: Path, label: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own imports
        assert stop_words(label, labelled_sentences(real_data, label)) == GIVEN[label]["stop_words"]


@pytest.mark.real_data
@pytest.mark.parametrize("label", GIVEN)
def test_a_page_of_a_language_has_two_of_its_words_and_one_of_another_script_has_none(real_data: Path, label: str):
    """Twenty sentences stand for a page; none of some 1,700 pages may lack them."""
    own = set(GIVEN[label]["stop_words"])
    assert [page for page in pages(real_data, label) if len(own & page) < 2] == []
    foreign = "ko" if label == "el" else "el"
    assert [page for page in pages(real_data, foreign) if len(own & page) >= 2] == []


def pages(data: Path, label: str) -> list[set[str]]:
    sentences = labelled_sentences(data, label)
    return [set(words(sentences[at : at + 20])) for at in range(0, len(sentences) - 20, 20)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deu: {stop_words: [der]}", "language 'deu' is no language's short form: de"),
        ("no: {stop_words: [og]}", "language False is no language's short form: quote it"),
        ("de: {stop_words: [der, der]}", "name a word twice"),
        ("de: {stop_words: [der, no]}", "the stop words of 'de' are"),
        ("de: {gopher: {min_words: 3}}", "found {'gopher': {'min_words': 3}}"),
        ("de: {c4: {min_sentences: 3}}", "bounds of gopher_quality, gopher_repetition, fineweb_quality; found"),
        ("de: {gopher_quality: {min_word: 3}}", "de.gopher_quality has no bound 'min_word'; its bounds are min_words"),
        ("de: {gopher_quality: {min_words: three}}", "de.gopher_quality.min_words is 'three'; give a number"),
        ("de: {gopher_quality: {min_words: true}}", "de.gopher_quality.min_words is True; give a number"),
        ("de: [der]", "found ['der']"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_languages(text)


RECIPE = """
name: languages
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/notes.jsonl"]
    language: {}
    filters:
      - gopher_quality: {per_language: true, min_words: 20}
      - fineweb_quality: {per_language: true, min_line_punctuation_fraction: null, max_newlines_per_word: null}
sequences: {length: 64}
"""


def source_of(text: str) -> Any:
    return load_recipe(text, "r.yaml").recipe.sources[0]


def test_what_the_recipe_gives_stands_before_the_file():
    bounds = language_bounds(source_of(RECIPE))
    assert "min_words" not in bounds["gopher_quality"]["zh"]
    assert bounds["gopher_quality"]["zh"]["max_words"] == 200_000
    assert bounds["fineweb_quality"]["de"] == {
        "max_short_line_fraction": None,
        "max_duplicate_line_character_fraction": 0.1,
    }
    assert "en" not in bounds["gopher_quality"]
    assert language_bounds(source_of(RECIPE.replace("per_language: true", "per_language: false"))) == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    language: {}\n",
            "",
            "filter gopher_quality has `per_language`, and nothing tells the languages: add `language: {}`",
        ),
        ("per_language: true, min_words", "per_language: 1, min_words", "per_language is true or false, not 1"),
        (
            "per_language: true, min_words",
            "per_languages: true, min_words",
            "unknown key 'per_languages' of filter gopher_quality: did you mean 'per_language'?",
        ),
        (
            "gopher_quality: {per_language: true, min_words: 20}",
            "c4: {per_language: true}",
            "unknown key 'per_language' of filter c4",
        ),
    ],
)
def test_a_mistake_in_the_recipe_is_named(old: str, new: str, message: str):
    with pytest.raises(RecipeError) as raised:
        load_recipe(RECIPE.replace(old, new), "r.yaml")
    assert message in str(raised.value)


def test_a_gate_tells_the_languages_as_well():
    text = RECIPE.replace("    language: {}\n", "    gates: {languages: [de, en]}\n")
    assert source_of(text).filters[0].per_language


GERMAN = "Der Hund und die Katze schlafen auf dem Sofa, und das Kind spielt mit dem Ball im Garten von Oma Erna. "
ENGLISH = "The dog and the cat sleep on the sofa, and that child plays with a ball in the garden of the old house. "
GERMAN_NAMES = "Bundesfinanzministerium Steuerverwaltungsgesetzgebung Grundstücksverkehrsordnung Rechtsschutzprüfung "
GEORGIAN = "საქართველო არის ქვეყანა, რომელიც მდებარეობს კავკასიაში და მისი დედაქალაქი არის თბილისი მტკვრის ნაპირზე. "
TEXTS = [GERMAN * 3, ENGLISH * 3, GERMAN_NAMES * 9, GEORGIAN * 3, GERMAN, ENGLISH * 2 + GERMAN * 6]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("languages")
    write_texts(folder / "notes.jsonl", [f"{text}{number}" for number, text in enumerate(TEXTS * 4)])
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> OpenedRun:
    published, _ = run_inline(write_recipe(folder, RECIPE), folder / "out")
    return open_run(Storage(str(folder / "out")), published)


def tables(run: OpenedRun, name: str) -> list[dict[str, Any]]:
    (part,) = run.parts["notes"].values()
    rows: list[dict[str, Any]] = pq.read_table(run.storage.url(part.tables[name].path)).to_pylist()
    return rows


def test_a_document_is_decided_under_its_language(run: OpenedRun):
    labels = [row["language"] for row in tables(run, "signals/language")]
    signals = tables(run, "signals/gopher_quality")
    assert (labels[0], labels[1], labels[3]) == ("de", "en", "ka")
    assert [row["stop_words"] is None for row in signals] == [label not in GIVEN for label in labels]
    assert signals[0]["stop_words"] == len(set(words([TEXTS[0]])) & set(GIVEN["de"]["stop_words"]))
    expected = []
    for label, row in zip(labels, signals, strict=True):
        own = GIVEN.get(label, {}).get("gopher_quality", {})
        bounds = {**asdict(GopherQualityBounds()), **own, "min_words": 20}
        expected += first_violated(pa.RecordBatch.from_pylist([row]), bounds, "gopher_quality").to_pylist()
    reasons = [row["reason"] for row in tables(run, "decisions")]
    assert [reason if str(reason).startswith("gopher_quality") else None for reason in reasons] == expected
    assert reasons[:2] == [None, None]
    assert reasons[3] is None, "a language without a list is not held against one"
    assert "gopher_quality.min_stop_words" in reasons or "gopher_quality.max_mean_word_length" in reasons


GATED = RECIPE.replace("    language: {}\n", "    gates: {languages: [de, en], sample_fraction: 0.5}\n").replace(
    "    filters:\n", "    filters:\n      - c4: {min_sentences: null}\n"
)


def test_labels_stay_with_their_rows_behind_a_gate_and_an_edit_rule(tmp_path: Path):
    """Three row groups, labels from *ingest*, texts as the rule before leaves them, null for rows that are gated."""
    lines = [f"{text}\nund der Rest" for text in (GERMAN * 2, ENGLISH * 2, GEORGIAN, ENGLISH + GERMAN * 4)]
    texts = [lines[row % 7 % 4] for row in range(2 * ROWS_PER_GROUP + 99)]
    write_texts(tmp_path / "notes.jsonl", texts)
    published, _ = run_inline(write_recipe(tmp_path, GATED), tmp_path / "out")
    run = open_run(Storage(str(tmp_path / "out")), published)
    (part,) = run.parts["notes"].values()
    with (
        open_groups(run.storage, part.tables["documents"].path) as documents,
        open_groups(run.storage, part.tables["signals/language"].path) as labels,
    ):
        assert len(documents) == len(labels) == 3
        edited = edited_texts(run.storage, documents, [part.tables["edits/c4"].path])
        texts = pa.chunked_array([text for text, _ in edited]).combine_chunks()
    languages_found = pa.array([row["language"] for row in tables(run, "signals/language")], pa.string())
    assert {"de", "en", "ka"} <= set(languages_found.to_pylist())
    assert 0 < texts.null_count < len(texts)
    expected = gopher_quality_signals(SplitTexts(texts), language_words().lists.of_documents(languages_found))
    assert tables(run, "signals/gopher_quality") == expected.to_pylist()


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """Puts another file in the place of the package's."""

    def put(given: Any) -> None:
        settings = parse_languages(yaml.safe_dump(given, allow_unicode=True))
        monkeypatch.setattr(languages, "language_settings", lambda: settings)
        language_words.cache_clear()

    yield put
    monkeypatch.undo()
    language_words.cache_clear()


def test_a_changed_bound_measures_nothing_and_a_changed_list_that_group_alone(
    folder: Path, tmp_path: Path, use: Callable[[Any], None]
):
    names = ("documents", "signals/language", "signals/gopher_quality", "signals/fineweb_quality", "decisions")
    storage = Storage(str(tmp_path))

    def written(given: Any) -> dict[str, set[str]]:
        use(given)
        run_inline(write_recipe(folder, RECIPE), tmp_path)
        return {name: set(storage.sizes(name)) for name in names}

    given = yaml.safe_load(yaml.safe_dump(GIVEN))
    first = written(given)
    given["de"]["gopher_quality"]["max_mean_word_length"] = 14.5
    second = written(given)
    assert [name for name in names if first[name] != second[name]] == ["decisions"]
    given["de"]["stop_words"].append("Hund")
    third = written(given)
    assert [name for name in names if second[name] != third[name]] == ["signals/gopher_quality", "decisions"]


def test_tune_and_sample_take_the_bounds_of_the_language(run: OpenedRun):
    (unchanged,) = tune(run, [parse_setting("gopher_quality.min_words=20")]).values()
    assert unchanged.before == unchanged.after
    (changed,) = tune(run, [parse_setting("gopher_quality.max_mean_word_length=4.6")]).values()
    assert changed.after.out.documents < changed.before.out.documents, "what is given holds for German too"
    with pytest.raises(ValueError, match="it decides what is read or measured"):
        tune(run, [parse_setting("gopher_quality.per_language=false")])
    total, seen = look.sample(run, "notes", "gopher_quality.max_mean_word_length", 10)
    documents = list(seen)
    assert total == len(documents) == 4
    assert {(document.bound, round(document.value) > 15) for document in documents} == {(15, True)}
