"""Filter `contamination` in a run: pages, conversations, `sample` and `why`, reruns; files of benchmarks; mistakes."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.chat.test_pack import TEMPLATE
from tests.pipeline.corpus import prose, write_recipe, write_texts
from tests.pipeline.runs import newest, opened, run_inline, tokenmill
from tokenmill.dedup.contamination import contamination_signals
from tokenmill.pipeline import benchmarks, checks, look
from tokenmill.pipeline.benchmarks import open_benchmarks, read_benchmark
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage

RECIPE = """\
name: clean
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/notes/*.jsonl"]
    filters:
      - c4: {terminal_punctuation: false, min_sentences: null}
      - contamination: {benchmarks: {mill: "{folder}/mill.jsonl", quiz: "{folder}/quiz/*.json"}}
sequences: {length: 64}
"""
CHAT = """\
name: clean_chat
output: unused
tokenizer: {train: {vocab_size: 500, sample_bytes: 1MiB, control_tokens: ["<|im_start|>", "<|im_end|>"]}}
template: {text: "TEMPLATE"}
sources:
  - name: sft
    reader: chat
    paths: ["{folder}/sft/*.jsonl"]
    filters:
      - contamination:
          benchmarks: {mill: ["{folder}/mill.jsonl"]}
          columns: {mill: [task, reply]}
          ngram: 8
          max_answer_hits: 0
sequences: {length: 256, layout: concat}
""".replace("TEMPLATE", TEMPLATE.replace("\n", "\\n").replace('"', '\\"'))
QUESTIONS = [prose(f"question {n}", 3) for n in range(6)]
REPLIES = [prose(f"reply {n}", 2) for n in range(6)]
REASONS = [("contamination.max_hits", 2), ("contamination.max_answer_hits", 1)]


@pytest.fixture(autouse=True)
def fresh_benchmarks() -> Iterator[None]:
    """A process reads a benchmark once; here files of one name change."""
    benchmarks._open.cache_clear()
    yield
    benchmarks._open.cache_clear()


def write_benchmarks(folder: Path) -> None:
    pairs = zip(QUESTIONS, REPLIES, strict=True)
    lines = [{"task": task, "reply": reply, "question": task, "id": n} for n, (task, reply) in enumerate(pairs)]
    (folder / "mill.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "quiz").mkdir(exist_ok=True)
    for n in range(2):
        examples = [{"input": prose(f"quiz {n} {k}", 3), "target": "(B)"} for k in range(3)]
        (folder / "quiz" / f"{n}.json").write_text(json.dumps({"version": "1", "examples": examples}, indent=1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    for name in ("notes", "sft"):
        (folder / name).mkdir()
    write_benchmarks(folder)
    notes = [prose(f"note {n}", 6) for n in range(40)]
    notes[7] += " " + re.sub("[ ,]+", " - ", QUESTIONS[4].upper())
    notes[9] = f"{notes[9]} {prose('quiz 1 2', 3)} {QUESTIONS[1].split('. ')[0]}"
    write_texts(folder / "notes" / "a.jsonl", notes)
    said = [{"prompt": prose(f"ask {n}", 2), "response": prose(f"said {n}", 5)} for n in range(30)]
    said[3]["prompt"], said[5]["response"] = QUESTIONS[2], f"{prose('well', 1)} {REPLIES[0]}"
    (folder / "sft" / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in said))
    run_inline(write_recipe(folder, RECIPE), folder / "out")
    run_inline(write_recipe(folder, CHAT), folder / "chat")
    return folder


def rows_of(output: Path, source: str, table: str) -> list[dict[str, Any]]:
    run = opened(output)
    paths = [part.tables[table].path for part in run.parts[source].values()]
    return [row for path in paths for row in pq.read_table(run.storage.url(path)).to_pylist()]


def test_what_is_dropped(folder: Path):
    notes = rows_of(folder / "out", "notes", "signals/contamination")
    sft = rows_of(folder / "chat", "sft", "signals/contamination")
    assert [(n, row["benchmark"], row["item"]) for n, row in enumerate(notes) if row["hits"]] == [
        (7, "mill", 4),
        (9, "quiz", 5),
    ]
    assert {row["answer_hits"] for row in notes} == {None}
    assert {n: (row["answer_hits"] > 0, row["item"]) for n, row in enumerate(sft) if row["hits"]} == {
        3: (False, 2),
        5: (True, 0),
    }
    assert 0.2 < notes[7]["fraction"] < 0.6
    for output, source, expected in (("out", "notes", REASONS[0]), ("chat", "sft", REASONS[1])):
        published = newest(folder / output)
        dropped = published.value["balance"][source]["steps"]["select"]["dropped"]
        assert [(reason, tally[0]) for reason, tally in dropped.items()] == [expected]
        assert all(not wrong for _, wrong in checks.recount(Storage(str(folder / output)), published))


def test_sample_and_why_show_it(folder: Path):
    total, (seen, other) = look.sample(opened(folder / "out"), "notes", "contamination", 9)
    assert (total, seen.signal, seen.bound) == (2, "contamination.hits", 0)
    assert (seen.value or 0) > 10
    said = tokenmill("sample", str(folder / "out"), "--reason", "contamination.max_hits", "-n", "2")
    assert f"contamination.max_hits: contamination.hits is {seen.value}, the bound is 0; benchmark mill, item 4" in said
    why = tokenmill("why", str(folder / "out"), f"{other.part}:{other.row}")
    assert f"contamination.hits is {other.value}, the bound is 0; benchmark quiz, item 5" in why


def test_other_items_measure_their_group_again_and_nothing_else(folder: Path, tmp_path: Path):
    (tmp_path / "notes").symlink_to(folder / "notes")
    write_benchmarks(tmp_path)
    recipe = write_recipe(tmp_path, RECIPE)
    first, _ = run_inline(recipe, tmp_path / "out")
    benchmarks._open.cache_clear()
    assert run_inline(recipe, tmp_path / "out")[1] == []
    # elsewhere, in another form: the same items
    lines = (tmp_path / "mill.jsonl").read_bytes()
    (tmp_path / "mill.jsonl").write_bytes(gzip.compress(lines))
    benchmarks._open.cache_clear()
    assert run_inline(recipe, tmp_path / "out")[1] == []
    pq.write_table(pa.Table.from_pylist([json.loads(line) for line in lines.splitlines()]), tmp_path / "mill.parquet")
    recipe.write_text(recipe.read_text().replace("mill.jsonl", "mill.parquet"))
    benchmarks._open.cache_clear()
    assert run_inline(recipe, tmp_path / "out")[1] == []
    (tmp_path / "quiz" / "0.json").write_text(json.dumps([{"input": prose("note 11", 6)}]))
    benchmarks._open.cache_clear()
    published, _ = run_inline(recipe, tmp_path / "out")
    before, after = (receipt_keys(tmp_path / "out", version) for version in (first, published))
    assert {task.split(".", 1)[1] for task in before if before[task] != after[task]} == {"contamination"}
    assert published.value["balance"]["notes"]["steps"]["select"]["dropped"]["contamination.max_hits"][0] == 3


def receipt_keys(root: Path, published: Published) -> dict[str, str]:
    """Keys of what was ingested and annotated, by task."""
    found = checks.receipts_in(Storage(str(root)), published)
    return {receipt.task: receipt.key for receipt in found if receipt.step in ("ingest", "annotate")}


def test_the_entry_in_a_recipe():
    (notes,), (sft,) = (load_recipe(text, "r.yaml").recipe.sources for text in (RECIPE, CHAT))
    assert notes.filters[1].params == {
        "benchmarks": {"mill": ["{folder}/mill.jsonl"], "quiz": ["{folder}/quiz/*.json"]},
        "columns": {},
        "ngram": 13,
        "max_items": 4,
    }
    assert notes.filters[1].bounds == {"max_hits": 0, "max_fraction": None, "max_answer_hits": None}
    assert sft.filters[0].bounds == {"max_hits": None, "max_fraction": None, "max_answer_hits": 0}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ngram: 8", "ngrams: 8", "unknown key 'ngrams': did you mean 'ngram'"),
        ("ngram: 8", "ngram: 3", "contamination.ngram is 3: give a whole number, 5 or more"),
        ("- contamination: {", "- contamintion: {", "did you mean 'contamination'"),
        ("columns: {mill", "columns: {mil", "unknown key 'mil': did you mean 'mill'"),
        ("{benchmarks: {mill:", "{benchmarks: {m l:", "a benchmark's name is letters"),
        ("json\"}}", "json\"}, max_answer_hits: 0}", "max_answer_hits is of answers, which reader jsonl does not find"),
        ("max_answer_hits: 0", "max_answer_hits: none", "bound 'max_answer_hits' is a number, null"),
        ("quiz/*.json", "quiz/*.jsn", r"r\.yaml:10: .*filters\[1\]\.benchmarks: .*quiz/\*\.jsn' matches no file"),
        ("[task, reply]", "[tusk]", "benchmark mill: no item has 'tusk'; items have 'id', 'question', 'reply', 'task'"),
        ("[task, reply]", "[id]", "benchmark mill: none of its items can be looked for: no text .* has 8 words"),
        ("quiz/*.json", "bad.json", r"bad\.json holds 2 lists of objects, where one is wanted"),
        ("quiz/*.json", "broken.json", r"broken\.json is no JSON"),
        ("quiz/*.json", "broken.jsonl", r"broken\.jsonl: the line at byte 15 is no item \(not_json\)"),
        ("quiz/*.json", "odd.jsonl", r"benchmark quiz: no item has a column that is known; items have 'fråga'"),
        ("quiz/*.json", "broken.parquet", "Parquet"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_before_any_work(folder: Path, tmp_path: Path, old: str, new: str, message: str):
    (tmp_path / "notes").symlink_to(folder / "notes")
    (tmp_path / "sft").symlink_to(folder / "sft")
    write_benchmarks(tmp_path)
    (tmp_path / "bad.json").write_text('{"a": [{"input": "x"}], "b": [{"input": "y"}]}')
    (tmp_path / "broken.json").write_text('[{"input": "x"')
    (tmp_path / "broken.jsonl").write_text('{"input": "x"}\n{"input"\n')
    (tmp_path / "odd.jsonl").write_text('{"fråga": "x"}\n')
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    recipe = RECIPE if old in RECIPE else CHAT
    assert old in recipe
    text = recipe.replace(old, new).replace("{folder}", str(tmp_path))
    with pytest.raises(RecipeError, match=message):
        prepare(load_recipe(text, "r.yaml"), Storage(str(tmp_path / "out")))


def test_every_string_of_a_column_is_a_text(tmp_path: Path):
    items = [
        {"question": "q", "choices": {"text": ["a", "b"], "label": ["A"]}, "answer": 3, "subject": "s"},
        {"question": None, "answers": [{"text": "c"}]},
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    names = ["question", "choices", "answers", "answer"]
    table = pa.table({name: [item.get(name) for item in items] for name in names})
    pq.write_table(table, tmp_path / "y.parquet")
    found = read_benchmark("x", [str(tmp_path / "*")])
    assert found.items == [["q", "a", "b", "A"], ["c"]] * 2
    assert read_benchmark("x", [str(tmp_path / "x.jsonl")], ["subject"]).items == [["s"], []]


@pytest.mark.real_data
def test_real_benchmarks(real_data: Path):
    """Items, set otherwise, are found, and told by name and number."""
    names = {"arc": "arc_challenge.jsonl", "gsm8k": "gsm8k_test.jsonl", "math": "math500.jsonl", "mbpp": "mbpp.jsonl"}
    names |= {"mmlu": "mmlu_stem_test.jsonl", "humaneval": "humaneval.jsonl.gz", "bbh": "bbh/*.json"}
    paths = {name: [str(real_data / "bench" / path)] for name, path in names.items()}
    opened = open_benchmarks({"benchmarks": paths, "columns": {}, "ngram": 13, "max_items": 4})
    counts = dict(zip(opened.index.names, opened.index.indexed_items, strict=True))
    assert counts == {"arc": 1135, "bbh": 5610, "gsm8k": 1319, "humaneval": 164, "math": 490, "mbpp": 973, "mmlu": 2834}
    asked = [item[0] for item in read_benchmark("gsm8k", paths["gsm8k"]).items]
    texts = pa.array([f"Solve.\n{text.upper().replace(' ', chr(10))}\nThank you." for text in asked], pa.large_string())
    found = contamination_signals(texts, opened.index)
    rows = found.to_pylist()
    assert {row["benchmark"] for row in rows} == {"gsm8k"}
    # question 761 begins as question 488 does
    assert [(n, row["item"]) for n, row in enumerate(rows) if row["item"] != n] == [(761, 488)]
