"""datatrove's steps as guests: their decisions and texts are those they make on the same documents at home."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.corpus import prose, write_recipe
from tests.pipeline.runs import run_inline
from tokenmill.filters.edits import apply_edits
from tokenmill.manifests.schemas import EDITS
from tokenmill.pipeline import checks, look
from tokenmill.pipeline.datatrove_adapter import COLUMNS, check_step, guest_measure, minimal_edit, step_class
from tokenmill.pipeline.opened import open_run
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.storage import Storage

FILTERS = "datatrove.pipeline.filters"
FORMATTERS = "datatrove.pipeline.formatters"
RECIPE = """\
name: guests
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: notes
    reader: jsonl
    columns: {url: link}
    paths: ["{folder}/notes.jsonl"]
    filters:
      - datatrove: {step: datatrove.pipeline.formatters.PIIFormatter}
      - gopher_quality: {min_words: 12, min_stop_words: null}
      - datatrove:
          step: datatrove.pipeline.filters.RegexFilter
          args: {regex_exp: forbidden}
      - datatrove:
          step: datatrove.pipeline.filters.RegexFilter
          args: {regex_exp: "[e]mail@example.com"}
          name: masked
      - datatrove:
          step: datatrove.pipeline.filters.C4QualityFilter
          args: {filter_no_terminal_punct: true, min_num_sentences: 3}
sequences: {length: 64}
"""
TEXTS = [
    prose(1, 6),
    "Write to jane.doe@somewhere.org about it. " + prose(2, 6),
    "Too short.",
    prose(3, 5) + " This is forbidden.",
    prose(4, 4) + "\n\nA line without a mark at its end is one that goes",
    "Lorem ipsum dolor sit amet. " + prose(5, 6),
    prose(6, 1) + " " + prose(7, 1),
]


class UrlMustBeKnown(BaseFilter):
    """A filter of a user's own: reads metadata, and drops every third document it meets."""

    def __init__(self, host: str, every: int = 3) -> None:
        super().__init__()
        self.host, self.every, self.met = host, every, 0

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        if not doc.metadata.get("url", "").startswith(self.host):
            return False, "other host"
        self.met += 1
        return self.met % self.every != 0


def places(count: int, url: str | None = "http://a.example/") -> pa.RecordBatch:
    rows = [{"raw_file": "f", "raw_offset": number, "url": url} for number in range(count)]
    return pa.RecordBatch.from_pylist(
        [{name: row.get(name) for name in COLUMNS} for row in rows],
        schema=pa.schema([(name, pa.int64() if name == "raw_offset" else pa.string()) for name in COLUMNS]),
    )


def measure(step: str, args: Mapping[str, Any], texts: list[str | None], first_row: int = 0) -> tuple[list, list]:
    """Reasons, and texts after the edits."""
    array = pa.array(texts, pa.large_string())
    signals, edits = guest_measure("datatrove.x", step, args)(array, first_row, places(len(texts)))
    assert edits.schema == EDITS
    return signals.column("reason").to_pylist(), apply_edits(array, edits, first_row).to_pylist()


@pytest.mark.parametrize(
    ("step", "args"),
    [
        (f"{FILTERS}.C4QualityFilter", {"filter_no_terminal_punct": True}),
        (f"{FILTERS}.C4QualityFilter", {"filter_no_terminal_punct": False, "min_num_sentences": 2}),
        (f"{FILTERS}.GopherQualityFilter", {"min_doc_words": 30}),
        (f"{FILTERS}.GopherRepetitionFilter", {}),
        (f"{FILTERS}.FineWebQualityFilter", {}),
        (f"{FILTERS}.C4ParagraphFilter", {}),
        (f"{FILTERS}.regex_filter.RegexFilter", {"regex_exp": "forbidden"}),
    ],
)
def test_a_filter_decides_as_in_datatrove(step: str, args: dict[str, Any]):
    reasons, texts = measure(step, args, TEXTS, first_row=5)
    theirs = step_class(step)(**args)
    for text, reason, after in zip(TEXTS, reasons, texts, strict=True):
        document = Document(text, "0")
        kept, why = get_filter_result(theirs.filter(document))
        assert (reason is None, after) == (kept, document.text)
        assert kept or reason == (why or "dropped")
    assert any(reason is not None for reason in reasons)


@pytest.mark.parametrize("step", [f"{FORMATTERS}.PIIFormatter", f"{FORMATTERS}.SymbolLinesFormatter"])
def test_a_formatter_leaves_the_text_that_it_leaves_in_datatrove(step: str):
    args = {"symbols_to_remove": ["|"]} if "Symbol" in step else {}
    texts = [*TEXTS, "a\n|\n| |\nb", "Ä: mail me@there.org, or ping 11.22.33.44!"]
    reasons, after = measure(step, args, texts)
    assert reasons == [None] * len(texts)
    theirs = step_class(step)(**args)  # PIIFormatter takes its stand-ins in turn, so one for all
    assert after == [theirs.format(text) for text in texts]
    assert after != texts


def test_no_text_is_not_shown():
    reasons, texts = measure(f"{FILTERS}.GopherRepetitionFilter", {}, [None, "", TEXTS[0]])
    assert (reasons, texts) == ([None, None, None], [None, "", TEXTS[0]])


def test_a_step_of_ones_own_sees_metadata_and_starts_anew_with_each_part(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "own_steps", sys.modules[__name__])
    texts = pa.array(["a"] * 7, pa.large_string())
    args = {"host": "http://a."}
    for _ in range(2):  # each guest_measure is for one part
        step = guest_measure("datatrove.x", "own_steps.UrlMustBeKnown", args)
        first = step(texts.slice(0, 4), 0, places(4))[0].column(0).to_pylist()
        second = step(texts.slice(4), 4, places(3))[0].column(0).to_pylist()
        assert first + second == [None, None, "dropped", None, None, "dropped", None]
    step = guest_measure("datatrove.x", "own_steps.UrlMustBeKnown", args)
    assert step(texts, 0, places(7, None))[0].column(0).to_pylist() == ["other host"] * 7


def test_a_step_that_fails_names_the_document():
    with pytest.raises(RuntimeError, match=r"datatrove\.x failed on the document at f:1: ZeroDivisionError"):
        guest_measure("datatrove.x", f"{__name__}.Broken", {})(pa.array(["a", "b"], pa.large_string()), 0, places(2))


class Broken(BaseFilter):
    def filter(self, doc: Document) -> bool:
        return doc.text == "a" or 1 // 0 > 0


@given(st.text(alphabet="aé中😀 \n"), st.text(alphabet="aé中😀 \n"))
def test_an_edit_makes_one_text_of_the_other(before: str, after: str):
    edit = {"row": 3, **minimal_edit(before, after), "rule": "r"}
    batch = pa.RecordBatch.from_pylist([edit], schema=EDITS)
    assert apply_edits(pa.array([before], pa.large_string()), batch, 3).to_pylist() == [after]


@given(st.text(), st.text(), st.text(max_size=5), st.text(max_size=5))
def test_an_edit_is_no_longer_than_the_change(start: str, end: str, old: str, new: str):
    start, end, old, new = (part.encode(errors="replace").decode() for part in (start, end, old, new))
    edit = minimal_edit(start + old + end, start + new + end)
    assert edit["end"] - edit["start"] <= len(old.encode())
    assert len(edit["replacement"]) <= len(new)


def test_a_run_with_guests(tmp_path: Path):
    lines = [json.dumps({"text": text, "link": f"http://a.example/{at}"}) for at, text in enumerate(TEXTS)]
    (tmp_path / "notes.jsonl").write_text("\n".join(lines) + "\n")
    recipe = write_recipe(tmp_path, RECIPE)
    published, _ = run_inline(recipe, tmp_path / "out")
    storage = Storage(str(tmp_path / "out"))
    (decisions,) = storage.sizes("decisions")
    # the second regular expression sees what the formatter wrote; C4 is the last to see and change the text
    assert pq.read_table(tmp_path / "out" / decisions).column("reason").to_pylist() == [
        None,
        "datatrove.masked.dropped",
        "gopher_quality.min_words",
        "datatrove.RegexFilter.dropped",
        None,
        "datatrove.C4QualityFilter.lorem_ipsum",
        "datatrove.C4QualityFilter.too_few_sentences",
    ]
    found = dict(checks.recount(storage, published))
    assert {task: wrong for task, wrong in found.items() if wrong} == {}
    run = open_run(storage, published)
    (masked,) = look.sample(run, "notes", "datatrove.masked", 9)[1]
    assert masked.text is not None
    assert masked.text.startswith("Write to email@example.com about it. ")
    kept = {document.row: document.text for document in look.sample(run, "notes", "kept", 9)[1]}
    assert kept == {0: "\n".join(TEXTS[0].split("\n\n")), 4: prose(4, 4)}
    # done is done; and an argument is part of what a step's signals depend on, alone and for what reads its text
    assert run_inline(recipe, tmp_path / "out")[1] == []
    recipe.write_text(recipe.read_text().replace("forbidden", "nothing like it"))
    again, tasks = run_inline(recipe, tmp_path / "out")
    assert tasks
    assert "datatrove.RegexFilter.dropped" not in again.value["balance"]["notes"]["steps"]["select"]["dropped"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            f"{FILTERS}.C4QualityFilter",
            f"{FILTERS}.C4QualtyFilter",
            r"r\.yaml:20: .*no step '.*C4QualtyFilter'.*has C4Bad",
        ),
        (f"{FILTERS}.C4QualityFilter", "datatrof.C4QualityFilter", r"r\.yaml:20: .*No module named 'datatrof'"),
        (f"{FILTERS}.C4QualityFilter", "json.JSONDecoder", "is neither a filter nor a formatter of datatrove"),
        (f"{FILTERS}.C4QualityFilter", "C4QualityFilter", "write its whole path, such as datatrove"),
        ("min_num_sentences", "min_sentences", r"does not take these `args`: .*'min_sentences'"),
        ("name: masked", "name: RegexFilter", r"filter datatrove\.RegexFilter stands twice .*: give each a `name`"),
        ("name: masked", "nome: masked", "unknown key 'nome': did you mean 'name'"),
        ("- datatrove: {step: datatrove.pipeline.formatters.PIIFormatter}", "- datatrove: {}", "this key is needed"),
        (
            "- datatrove: {step: datatrove.pipeline.formatters.PIIFormatter}",
            "- datatrov: {}",
            "did you mean 'datatrove'",
        ),
    ],
)
def test_a_mistake_is_named_before_any_work(tmp_path: Path, old: str, new: str, message: str):
    (tmp_path / "notes.jsonl").write_text(json.dumps({"text": "a"}) + "\n")
    text = RECIPE.replace("{folder}", str(tmp_path))
    assert text.count(old) == 1
    with pytest.raises(RecipeError, match=message):
        prepare(load_recipe(text.replace(old, new), "r.yaml"), Storage(str(tmp_path / "out")))
    assert not (tmp_path / "out" / "documents").exists()


def test_without_datatrove_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datatrove.pipeline.filters.base_filter", None)
    with pytest.raises(ValueError, match=r"datatrove is not installed: pip install 'tokenmill\[datatrove\]'"):
        check_step(f"{FILTERS}.RegexFilter", {"regex_exp": "x"})


class Needy(Broken):
    name = "needy"
    _requires_dependencies = ("no_such_module",)


def test_what_a_step_needs_is_named():
    with pytest.raises(ValueError, match=r"\.Needy: .*`no_such_module`"):
        check_step(f"{__name__}.Needy", {})
