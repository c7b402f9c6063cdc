"""`tokenmill sample`: the documents of a reason, with signal, bound, place and the text the rule read."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.corpus import html, prose, warc_record, write_corpus, write_recipe, write_texts
from tests.pipeline.runs import opened, run_inline, tokenmill
from tokenmill.pipeline import look
from tokenmill.pipeline.kept import NONE_REMOVED, edit_outputs, kept_documents
from tokenmill.pipeline.opened import OpenedRun
from tokenmill.pipeline.seen import Seen, as_json, described


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("look")
    run_inline(write_recipe(write_corpus(folder)), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def run(folder: Path) -> OpenedRun:
    return opened(folder)


def rows_of(run: OpenedRun, source: str) -> dict[str, list[tuple[str, int]]]:
    """Every row of a source by reason, from its decisions: the slow way."""
    found: dict[str, list[tuple[str, int]]] = {}
    for key, part in run.parts[source].items():
        path = Path(run.storage.url(part.tables["decisions"].path))
        for row, reason in enumerate(pq.read_table(path).column("reason").to_pylist()):
            found.setdefault(reason or "kept", []).append((key, row))
    return found


def test_every_reason_has_all_its_documents(run: OpenedRun):
    for source in run.parts:
        expected = rows_of(run, source)
        assert look.reason_counts(run.parts[source]) == {reason: len(rows) for reason, rows in expected.items()}
        for reason, rows in expected.items():
            total, seen = look.sample(run, source, reason, 10**6)
            assert total == len(rows)
            assert [(document.part, document.row) for document in seen] == rows


def test_a_sample_is_some_of_them_the_same_each_time_from_more_than_one_part(run: OpenedRun):
    total, seen = look.sample(run, "web", "kept", 9)
    documents = list(seen)
    identities = [(document.part, document.row) for document in documents]
    assert (total, len(set(identities))) == (72, 9)
    assert set(identities) < set(rows_of(run, "web")["kept"])
    assert {part for part, _ in identities} == set(run.parts["web"])
    assert list(look.sample(run, "web", "kept", 9)[1]) == documents


@given(st.integers(1, 10**11), st.integers(1, 50))
def test_numbers_are_drawn_without_repeats(total: int, count: int):
    drawn = look.draw("web", "kept", total, count)
    assert len(set(drawn)) == len(drawn) == min(total, count)
    assert drawn == sorted(drawn) == look.draw("web", "kept", total, count)
    assert 0 <= drawn[0] <= drawn[-1] < total


def test_numbers_are_drawn_evenly():
    tenths = [0] * 10
    for reason in range(400):
        for number in look.draw("web", str(reason), 1000, 10):
            tenths[number // 100] += 1
    assert all(abs(count - 400) < 5 * 400**0.5 for count in tenths)


def test_a_kept_text_is_what_is_packed(run: OpenedRun):
    """After every edit; C4's remove lines here."""
    order = [entry.group for entry in run.recipe_file.recipe.source("web").filters]
    expected = {}
    for key, part in run.parts["web"].items():
        edits = edit_outputs(part.tables, order)
        for batch in kept_documents(run.storage, part.tables, edits, NONE_REMOVED):
            expected |= {
                (key, row): text for row, text in zip(batch.rows.tolist(), batch.texts.to_pylist(), strict=True)
            }
    seen = list(look.sample(run, "web", "kept", 10**6)[1])
    assert {(document.part, document.row): document.text for document in seen} == expected


def test_a_dropped_text_is_what_the_rule_read(tmp_path: Path):
    texts = [prose(number, 8) for number in range(3)] + ["One line here.\nNo mark at the end\nAnd here is more."]
    write_texts(tmp_path / "notes.jsonl", texts)
    recipe = """
name: order
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/notes.jsonl"]
    filters: [FILTERS]
sequences: {length: 64}
"""
    for filters, text in (
        ("{c4: {min_sentences: null}}, {gopher_quality: {min_words: 13}}", "One line here.\nAnd here is more."),
        ("{gopher_quality: {min_words: 13}}, {c4: {min_sentences: null}}", texts[3]),
    ):
        output = tmp_path / filters[1:4]
        run_inline(write_recipe(tmp_path, recipe.replace("FILTERS", filters)), output)
        total, seen = look.sample(opened(output), "notes", "gopher_quality.min_words", 5)
        (document,) = seen
        assert (total, document.text, document.value) == (1, text, len(text.split()))


def test_signal_and_bound_of_each_kind_of_reason(run: OpenedRun):
    def one(source: str, reason: str) -> Seen:
        return next(look.sample(run, source, reason, 1)[1])

    words = one("web", "gopher_quality.min_words")
    assert (words.signal, words.value, words.bound) == ("gopher_quality.words", 26, 40)
    percentile = one("notes", "gopher_quality.min_words")
    assert percentile.bound == run.thresholds["notes/gopher_quality.min_words"]
    assert percentile.value <= percentile.bound.value
    why = f"gopher_quality.words is {percentile.value}, the bound is {percentile.bound.value} (percentile 5"
    assert why in described(percentile, 80)
    assert as_json(percentile, 80)["bound"]["percentile"] == 5
    status = one("web", "gates.http_status")
    assert (status.signal, status.value, status.bound, status.text) == ("http_status", 404, (200,), None)
    failed = one("notes", "failed")
    assert (failed.signal, failed.text) == (None, None)
    assert failed.reason in ("failed.not_json", "failed.missing_text")
    assert failed.place["raw_file"] == "notes.jsonl"
    kept = one("web", "kept")
    assert kept.reason is None
    assert kept.place["url"].startswith("http://")


@pytest.mark.parametrize("fraction", [0, 1])
def test_a_gated_text_is_shown_where_it_was_kept(tmp_path: Path, fraction: int):
    records = [warc_record(f"http://a.example/{number}", html("p", prose(number, 6))) for number in range(3)]
    (tmp_path / "a.warc.gz").write_bytes(b"".join([*records, warc_record("http://a.example/s", html("p", "Short."))]))
    recipe = f"""
name: gates
output: unused
tokenizer: {{train: {{vocab_size: 400, sample_bytes: 1MiB}}}}
sources:
  - name: web
    reader: warc
    paths: ["{tmp_path}/a.warc.gz"]
    gates: {{min_characters: 50, sample_fraction: {fraction}}}
sequences: {{length: 64}}
"""
    run_inline(write_recipe(tmp_path, recipe), tmp_path / "out")
    said = tokenmill("sample", str(tmp_path / "out"), "--reason", "gates.min_characters")
    assert "gates.min_characters: its value was not kept, the bound is 50" in said
    assert ("│ Short." in said, "its text was not kept" in said) == (bool(fraction), not fraction)


def test_the_command(folder: Path):
    said = tokenmill("sample", str(folder), "--source", "web", "--reason", "gopher_quality", "-n", "1")
    assert said.startswith("gopher_quality: 2 documents of source web\n")
    assert "gopher_quality.min_words: gopher_quality.words is 26, the bound is 40" in said
    assert "http://a.example/short" in said
    value = json.loads(tokenmill("sample", str(folder), "--source", "code", "-n", "3", "--characters", "40", "--json"))
    assert (value["reason"], value["total"], len(value["documents"])) == ("kept", 24, 3)
    assert [len(document["text"]) for document in value["documents"]] == [40, 40, 40]
    assert all(document["characters"] > 40 for document in value["documents"])


def test_mistakes_name_what_there_is(folder: Path):
    said = tokenmill("sample", str(folder), "--source", "web", "--reason", "gopher_quality.min_word", check=False)
    assert "did you mean 'gopher_quality.min_words'? The reasons are kept (72), gates.http_status (2)" in said
    assert "no source 'wib' in this run: it has web, notes, code" in tokenmill(
        "sample", str(folder), "--source", "wib", check=False
    )
    assert "--source is needed: this run has web, notes, code" in tokenmill("sample", str(folder), check=False)
