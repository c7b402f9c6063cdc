"""`tokenmill report`: one page of a run, the same each time; runs that lack things; what was edited."""

import json
import pickle
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.pipeline.corpus import prose, write_corpus, write_recipe, write_texts
from tests.pipeline.report.pages import page_of
from tests.pipeline.runs import newest, run_inline, tokenmill
from tokenmill.pipeline import scan
from tokenmill.pipeline.cli import cli
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.report import needed
from tokenmill.pipeline.report.blocks import Chart, Charts, Documents, Section, Table
from tokenmill.pipeline.report.charts import BoundLine, histogram_chart
from tokenmill.pipeline.report.histograms import SHARE, Histogram
from tokenmill.pipeline.report.page import PAGE_BYTES, Page, render
from tokenmill.pipeline.report.report import report
from tokenmill.pipeline.report.samples import DOCUMENTS, Shown
from tokenmill.pipeline.report.signals import CHARTS, _numbers
from tokenmill.pipeline.sheet import published_or_error
from tokenmill.pipeline.storage import Storage


@pytest.fixture(scope="module")
def page(corpus_run: Path) -> str:
    return page_of(corpus_run).decode()


@pytest.fixture
def copied(corpus_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(corpus_run, tmp_path / "out")
    return tmp_path / "out"


class Pickling:
    """An executor whose tasks and results go through pickle, as to workers elsewhere."""

    def map(self, function: Any, shared: Any, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        for index, item in enumerate(items):
            there, with_shared, of_item = pickle.loads(pickle.dumps((function, shared, item)))
            yield index, pickle.loads(pickle.dumps(there(with_shared, of_item)))


def test_workers_find_the_same_and_are_started_once(corpus_run: Path, page: str, monkeypatch: pytest.MonkeyPatch):
    opened = []

    @contextmanager
    def opening() -> Iterator[tuple[Pickling, Quiet]]:
        opened.append(True)
        yield Pickling(), Quiet()

    monkeypatch.setattr(scan, "PATIENCE_S", 0)
    assert report(Storage(str(corpus_run)), newest(corpus_run), opening).decode() == page
    assert opened == [True]


def cells(page: str, caption: str) -> list[list[str]]:
    """The rows of the table of that caption."""
    (table,) = re.findall(rf"<caption>{caption}</caption>.*?</table>", page, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    plain = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    return [[re.sub("<wbr>", "", cell) for cell in row] for row in plain]


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(corpus_run: Path, copied: Path, page: str):
    assert page_of(copied).decode() == page
    assert str(corpus_run) not in page.split("<h3>Recipe</h3>")[0]
    assert len(page.encode()) < PAGE_BYTES


def test_the_numbers_are_those_of_the_books(corpus_run: Path, page: str):
    balance = newest(corpus_run).value["balance"]
    rows = cells(page, "Sources")
    assert [row[0] for row in rows] == ["web", "notes", "code"]
    for source, *numbers in rows:
        sheet = balance[source]
        assert numbers[0] == f"{sheet['steps']['ingest']['taken'][0]:,}"
        assert numbers[2] == f"{sheet['steps']['pack']['out'][0]:,}"
        assert numbers[4] == f"{sum(sheet['tokens'].values()):,}"
        reasons = {row[0]: row[1] for row in cells(page, f"Why documents of source {source} went no further")}
        expected = {
            ("failed." if kind == "failed" else "") + reason: f"{tally[0]:,}"
            for step in sheet["steps"].values()
            for kind in ("dropped", "failed")
            for reason, tally in step[kind].items()
        }
        assert reasons == (expected or {"(nothing was dropped, nothing failed)": ""})
        languages = cells(page, f"Tokens of source {source} by language")
        assert sum(int(row[1].replace(",", "")) for row in languages) == sum(sheet["tokens"].values())


def test_bounds_stand_beside_their_histograms(page: str):
    label = "Histogram of gopher_quality.words in source web: "
    assert re.search(label + r"\d+ documents kept, \d+ dropped; min 40; max 100000", page)
    assert re.search(r"Histogram of gopher_quality.words in source notes: [^\"]* min [\d.]+ \(p5\)", page)
    assert "min_<wbr>words = 40 dropped 2" in page


def test_the_mixture_is_told_against_what_was_asked(corpus_run: Path, page: str):
    mixture = json.loads((corpus_run / newest(corpus_run).value["mixture"]).read_text())
    (caption,) = re.findall(r"<caption>(Mixture at [\d,]+ rows)</caption>", page)
    rows = {row[0]: row[1:] for row in cells(page, caption)}
    assert set(rows) == {component["name"] for component in mixture["components"]}
    total = sum(component["weight"] for component in mixture["components"])
    for component in mixture["components"]:
        tokens, stored, asked, taken, epochs, most, share = rows[component["name"]]
        assert (tokens, stored) == (f"{component['tokens']:,}", f"{component['rows']:,}")
        assert asked == f"{100 * component['weight'] / total:.1f} %"
        assert float(epochs) == pytest.approx(int(taken.replace(",", "")) / component["rows"], abs=5e-4)
        assert float(epochs) <= float(most) == 3
        assert float(share.removesuffix(" %")) == pytest.approx(float(asked.removesuffix(" %")), abs=3)


def test_without_strata_by_language_tokens_are_told_by_text(tmp_path: Path):
    recipe = (tmp_path / "recipe.yaml").parent
    text = write_recipe(write_corpus(recipe, 10)).read_text().replace(", by: [language]", "")
    run_inline(write_recipe(recipe, text), tmp_path / "out")
    page = page_of(tmp_path / "out").decode()
    assert "tokens of a language are told by its share" in page
    rows = cells(page, "Tokens of source code by language")
    assert [row[0] for row in rows] == ["not told"]


ONE_SOURCE = """
name: one
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - {name: notes, reader: jsonl, paths: ["{folder}/notes.jsonl"], filters: [FILTERS]}
DEDUP
sequences: {length: 64}
"""


def one_source(folder: Path, filters: str, dedup: str) -> str:
    write_texts(folder / "notes.jsonl", [prose(number, 6) for number in range(8)])
    recipe = write_recipe(folder, ONE_SOURCE.replace("FILTERS", filters).replace("DEDUP", dedup))
    run_inline(recipe, folder / "out")
    return page_of(folder / "out").decode()


def test_a_run_without_deduplication_or_signals(tmp_path: Path):
    page = one_source(tmp_path, "", "dedup: {exact: false, near: false}")
    assert "This run was not deduplicated" in page
    assert "Histogram of hashes.text_bytes in source notes" in page


def test_a_run_that_keeps_nothing(tmp_path: Path):
    (tmp_path / "tokenizer").mkdir()
    one_source(tmp_path / "tokenizer", "", "")
    (trained,) = (tmp_path / "tokenizer" / "out" / "tokenizer").glob("*.json")
    write_texts(tmp_path / "notes.jsonl", [prose(number, 6) for number in range(8)])
    text = ONE_SOURCE.replace("{train: {vocab_size: 400, sample_bytes: 1MiB}}", f'{{path: "{trained}"}}')
    recipe = write_recipe(tmp_path, text.replace("FILTERS", "gopher_quality: {min_words: 5000}").replace("DEDUP", ""))
    run_inline(recipe, tmp_path / "out")
    page = page_of(tmp_path / "out").decode()
    for said in (
        "Nothing was kept: no document is in a row.",
        "No document of this source was kept.",
        "There is no mixture: nothing was kept for training.",
        "No cluster was found",
        "gopher_<wbr>quality.<wbr>min_<wbr>words",
    ):
        assert said in page


def test_a_run_without_logs(copied: Path):
    shutil.rmtree(copied / "logs")
    assert "holds no logs" in page_of(copied).decode()


def test_the_command_and_what_it_says(corpus_run: Path, page: str, tmp_path: Path):
    output = tmp_path / "page.html"
    said = tokenmill("report", str(corpus_run), "-o", str(output), "--executor", "inline")
    assert said == f"{output}: {output.stat().st_size:,} bytes\n"
    assert output.read_text() == page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html"]
    asked = CliRunner().invoke(cli, ["report", str(corpus_run), "-o", f"{tmp_path}/new/"])
    assert f"-o {tmp_path}/new/ names a folder" in asked.output
    assert "is a directory" in CliRunner().invoke(cli, ["report", str(corpus_run), "-o", str(tmp_path)]).output


def test_a_run_that_is_not_published_says_what_there_is(copied: Path):
    shutil.rmtree(copied / "manifests")
    said = tokenmill("report", str(copied), "-o", str(copied / "page.html"), check=False)
    told = r"holds no published run: it is still going, or was stopped \(ingest \d+ done of \d+, .*pack \d+ done\)"
    assert re.search(told, said)
    assert not (copied / "page.html").exists()
    with pytest.raises(ValueError, match="holds no published run: there is not one receipt in it; `tokenmill run"):
        published_or_error(Storage(str(copied / "nothing")))


@pytest.mark.parametrize("kind", ["run-", "tasks.", "plan.", "mixtures/"])
def test_an_edited_manifest_is_an_error(copied: Path, kind: str):
    (path,) = [path for path in (copied / "manifests").rglob("*.*") if f"manifests/{kind}" in str(path)]
    data = path.read_bytes()
    old, new = (b'"seed": 3', b'"seed": 4') if kind == "mixtures/" else (b"web", b"wob")
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(ValueError, match="was edited"):
        page_of(copied)


def test_a_damaged_log_is_named(copied: Path):
    (log,) = (copied / "logs").glob("tasks-*.jsonl")
    log.write_text(log.read_text() + '{"task": "half')
    with pytest.raises(ValueError, match=r"line \d+ of .*tasks-.*jsonl is damaged"):
        page_of(copied)


def test_what_the_page_needs_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(needed, "_NEEDED", ("jinja2", "no_such_package"))
    with pytest.raises(ValueError, match=r"needs no_such_package: pip install 'tokenmill\[report\]'"):
        needed.check_installed()


def document(text: str) -> Shown:
    return Shown("web", "kept", "0123456789abcdef:1", text[:80], text[:80], text, text, "")


def test_signs_that_hide_or_reorder_are_shown():
    shown = [document("a\x00b\u202ec\x1b[0m\td\xa0e")]
    section = Section("documents", "Documents", "", [Documents(shown, ["web"], [("kept", "kept (1)")])])
    page = render(Page("x\x00", "manifests/x", [], [section])).decode()
    assert r'<pre dir="auto">a\x00b\u202ec\x1b[0m' + "\td␣e</pre>" in page
    assert r"<title>x\x00 – tokenmill report</title>" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", page)


def test_a_text_is_cut_by_lines_and_by_characters():
    texts = ["\n".join("x" * 100), "y" * 5000]
    section = Section("documents", "Documents", "", [Documents([document(text) for text in texts], [], [])])
    page = render(Page("x", "manifests/x", [], [section])).decode()
    lines, characters = re.findall(r'<pre dir="auto">(.*?)</pre>', page, re.DOTALL)
    assert (lines, characters) == ("\n".join("x" * 14), "y" * 600)
    assert re.findall(r"and ([\d,]+) characters more", page) == ["172", "4,400"]


@pytest.mark.parametrize("sign", ["\U000e0001", '"', "\x00"])
def test_a_page_of_all_that_may_be_on_it_is_small_enough(sign: str):
    """Every histogram full, every document of signs that take much room, forty sources with a hundred reasons."""
    counted = Histogram.empty(SHARE)
    counted.count(np.arange(0, 1, 0.001), np.arange(1000) % 2 == 0)
    svg = histogram_chart(counted, [BoundLine(True, 0.2, "min 0.2"), BoundLine(False, 0.9, "max 0.9")], "l" * 200)
    charts = [Chart("s" * 40, svg, _numbers("s" * 40, counted), ["n" * 80] * 3)] * CHARTS
    documents = [
        Shown("web", "kept", "0123456789abcdef:1", sign * 999, sign * 999, "w" * 200, sign * 999, "")
    ] * DOCUMENTS
    tables = [Table("r" * 80, ("a", "b", "c", "d"), [("r" * 60, *["1,000,000"] * 3)] * 100)] * 40
    page = Page("x", "m", [], [Section("s", "S", "", [Charts("c", charts), Documents(documents, [], []), *tables])])
    assert len(render(page)) < PAGE_BYTES
