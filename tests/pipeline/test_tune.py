"""`tokenmill tune` foretells exactly what a run of the changed recipe decides."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.pipeline.corpus import RECIPE, write_corpus, write_recipe
from tests.pipeline.runs import run_inline, tokenmill
from tokenmill.manifests.balance import Balance
from tokenmill.pipeline.opened import OpenedRun, open_run
from tokenmill.pipeline.recipe.file import RecipeError
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tune import changed_recipe, outcome_table, parse_setting, tune


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Published, OpenedRun]:
    """The recipe, what was published, and the run."""
    folder = tmp_path_factory.mktemp("tune")
    # no weights: a change may drop every document of a source
    recipe = write_recipe(write_corpus(folder), RECIPE[: RECIPE.index("mixture:")])
    published, _ = run_inline(recipe, folder / "out")
    return recipe, published, open_run(Storage(str(folder / "out")), published)


def decided(run: OpenedRun, source: str) -> dict[tuple[str, int], str | None]:
    """Reason of every document of a source."""
    found = {}
    for key, part in run.parts[source].items():
        table = pq.read_table(run.storage.url(part.tables["decisions"].path))
        found |= {(key, row): reason for row, reason in enumerate(table.column("reason").to_pylist())}
    return found


def rerun(finished: tuple[Path, Published, OpenedRun], changes: list[str], output: Path) -> tuple[Published, OpenedRun]:
    """Run the recipe as a user would have changed its file, in a folder of its own."""
    tree = yaml.safe_load(finished[0].read_text())
    for change in changes:
        name, value = change.split("=")
        only, _, dotted = name.rpartition("/")
        group, bound = dotted.split(".")
        for source in tree["sources"]:
            if only in ("", source["name"]):
                if group == "language" and "language" in source:
                    source["language"][bound] = yaml.safe_load(value)
                for entry in source.get("filters", []):
                    if group in entry:
                        entry[group][bound] = yaml.safe_load(value)
    recipe = output.parent / f"{output.name}.yaml"
    recipe.write_text(yaml.safe_dump(tree))
    published, _ = run_inline(recipe, output)
    return published, open_run(Storage(str(output)), published)


@pytest.mark.parametrize(
    "changes",
    [
        ["gopher_quality.min_words=150"],
        ["notes/gopher_quality.min_words=80", "web/gopher_quality.min_words=null"],
        ["notes/gopher_quality.min_words={percentile: 40}", "gopher_quality.min_stop_words=12"],
        ["notes/gopher_quality.max_words=120", "language.keep=[de]", "c4.min_sentences=16"],
    ],
)
def test_a_run_of_the_changed_recipe_decides_what_was_foretold(
    finished: tuple[Path, Published, OpenedRun], tmp_path: Path, changes: list[str]
):
    _, before, run = finished
    outcomes = tune(run, [parse_setting(change) for change in changes])
    after, changed = rerun(finished, changes, tmp_path / "out")
    assert set(outcomes) == {"web", "notes"} - ({"notes"} if all(change[0] == "l" for change in changes) else set())
    for source, outcome in outcomes.items():
        sheets = [published.value["balance"][source]["steps"]["select"] for published in (before, after)]
        books = [Balance.from_json(sheet) for sheet in sheets]
        assert [outcome.before, outcome.after] == books
        assert books[0] != books[1]
        was, now = decided(run, source), decided(changed, source)
        assert outcome.newly_kept.documents == sum(was[place] is not None and now[place] is None for place in was)
        assert outcome.newly_dropped.documents == sum(was[place] is None and now[place] is not None for place in was)
    for source in set(run.parts) - set(outcomes):
        assert decided(run, source) == decided(changed, source)


def test_bounds_set_to_what_they_are_change_nothing(finished: tuple[Path, Published, OpenedRun]):
    settings = [
        "web/gopher_quality.min_words=40",
        "notes/gopher_quality.min_words={percentile: 5}",
        "language.min_score=0.2",
    ]
    for outcome in tune(finished[2], [parse_setting(text) for text in settings]).values():
        assert outcome.before == outcome.after
        assert (outcome.newly_kept.documents, outcome.newly_dropped.documents) == (0, 0)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(low=st.integers(0, 200), stop_words=st.one_of(st.none(), st.integers(0, 8)))
def test_books_balance_and_the_change_adds_up(
    finished: tuple[Path, Published, OpenedRun], low: int, stop_words: int | None
):
    stop = "null" if stop_words is None else stop_words
    changes = [f"gopher_quality.min_words={low}", f"gopher_quality.min_stop_words={stop}"]
    for outcome in tune(finished[2], [parse_setting(change) for change in changes]).values():
        outcome.after.check("tune")
        assert outcome.before.taken == outcome.after.taken
        assert outcome.before.out + outcome.newly_kept == outcome.after.out + outcome.newly_dropped


def test_no_text_is_read(finished: tuple[Path, Published, OpenedRun], monkeypatch: pytest.MonkeyPatch):
    from tokenmill.pipeline import tables

    columns: set[str] = set()
    read = tables.GroupReader.read

    def watched(self, index, names=None):  # type: ignore[no-untyped-def]
        batch = read(self, index, names)
        columns.update(batch.schema.names)
        return batch

    monkeypatch.setattr(tables.GroupReader, "read", watched)
    tune(finished[2], [parse_setting("gopher_quality.min_words=1")])
    assert {"words", "gate", "kept"} <= columns
    assert "text" not in columns


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "gopher_quality.min_word=4",
            "has no bound 'gopher_quality.min_word': did you mean 'gopher_quality.min_words'?",
        ),
        ("gopher_qualty.min_words=4", "did you mean 'gopher_quality.min_words'?"),
        ("notes/c4.min_sentences=4", "source 'notes' of this run has no bound 'c4.min_sentences'"),
        ("code/gopher_quality.min_words=4", "has no bound 'gopher_quality.min_words': it has none"),
        ("wib/c4.min_sentences=4", "no source 'wib' in this run: it has web, notes, code"),
        ("gates.min_characters=4", "gates.min_characters is no bound over signals"),
        ("c4.terminal_punctuation=true", "c4.terminal_punctuation is no bound over signals"),
        ("min_words=4", "write group.bound=value"),
        ("gopher_quality.min_words", "write group.bound=value"),
        ("/gopher_quality.min_words=3", "write group.bound=value"),
        ("gopher_quality.min_words=[", "is no number, null, list"),
        ("gopher_quality.min_words=forty", "bound 'min_words' is a number, null (off) or `percentile: P`, not 'forty'"),
    ],
)
def test_mistakes(finished: tuple[Path, Published, OpenedRun], setting: str, message: str):
    with pytest.raises((ValueError, RecipeError)) as error:
        tune(finished[2], [parse_setting(setting)])
    assert message in str(error.value)


def test_short_forms_of_a_recipe_are_changed_too():
    from tokenmill.pipeline.recipe.file import load_recipe

    text = """
name: short
tokenizer: {train: {vocab_size: 1000}}
sources:
  - {name: web, reader: warc, paths: [x], language: , filters: [gopher_quality, c4: ]}
  - {name: more, reader: warc, paths: [x], language: {}, filters: [gopher_quality: {min_words: 3}]}
sequences: {length: 64}
"""
    changes = ["gopher_quality.min_words=7", "web/c4.min_sentences=null", "more/language.min_score=0.5"]
    recipe = changed_recipe(load_recipe(text, "r"), [parse_setting(change) for change in changes]).recipe
    web, more = recipe.sources
    assert (web.filters[0].bounds["min_words"], more.filters[0].bounds["min_words"]) == (7, 7)
    assert web.filters[1].bounds["min_sentences"] is None
    assert more.language is not None
    assert (more.language.min_score, web.language) == (0.5, None)


def test_the_command(finished: tuple[Path, Published, OpenedRun]):
    root = str(finished[2].storage.root)
    said = tokenmill("tune", root, "--set", "gopher_quality.min_words=150")
    assert "source web" in said
    assert "source notes" in said
    assert "source code" not in said
    assert "gopher_quality.min_words" in said
    value = json.loads(tokenmill("tune", root, "--set", "web/gopher_quality.min_words=150", "--json"))
    outcome = tune(finished[2], [parse_setting("web/gopher_quality.min_words=150")])["web"]
    assert value == {"web": json.loads(json.dumps(outcome.to_json()))}
    assert value["web"]["after"]["dropped"]["gopher_quality.min_words"][0] > 2
    assert outcome_table("web", outcome).row_count == 3 + 1
