"""URL rules as gates: decided before a page is parsed, by lists that are an input of *ingest*."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import html, prose, warc_record, write_recipe
from tests.pipeline.runs import run_inline, tokenmill
from tokenmill.pipeline import url_lists
from tokenmill.pipeline.prepare import prepare
from tokenmill.pipeline.recipe.file import RecipeError, load_recipe
from tokenmill.pipeline.storage import Storage

RECIPE = """\
name: urls
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: web
    reader: warc
    paths: ["{folder}/a.warc.gz"]
    gates: {url_blocklist: ["{folder}/lists/adult", "{folder}/lists/malware"], url_words: ["{folder}/lists/words"]}
sequences: {length: 64}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lists = tmp_path / "lists"
    for name in ("adult", "malware"):
        (lists / name).mkdir(parents=True)
    (lists / "adult" / "domains").write_text("blocked.example\n")
    (lists / "adult" / "urls").write_text("shared.example/~bad\n")
    (lists / "malware" / "domains").write_text("# none yet\n")
    (lists / "words").write_text("casino\n")
    urls = ["a.example/0", "www.blocked.example/1", "shared.example/~bad/2", "a.example/casino-3", "shared.example/4"]
    records = [warc_record(f"http://{url}", html("p", prose(url, 6))) for url in urls]
    records.append(warc_record("http://blocked.example/5", b"gone", status=404))
    (tmp_path / "a.warc.gz").write_bytes(b"".join(records))
    return tmp_path


def gates(run: Path) -> list[str | None]:
    (documents,) = Storage(str(run)).sizes("documents")
    table = pq.read_table(run / documents)
    assert table.column("url").null_count == 0
    assert [text is None for text in table.column("text").to_pylist()] == [
        gate is not None for gate in table.column("gate").to_pylist()
    ]
    return table.column("gate").to_pylist()


BLOCKED = [None, "gates.url_blocklist", "gates.url_blocklist", "gates.url_words", None, "gates.http_status"]


def test_blocked_pages_keep_their_place(folder: Path):
    run_inline(write_recipe(folder, RECIPE), folder / "out")
    assert gates(folder / "out") == BLOCKED
    said = tokenmill("sample", str(folder / "out"), "--reason", "gates.url_words")
    assert "gates.url_words: url is http://a.example/casino-3, the bound is " in said


def test_a_changed_list_is_read_again_a_moved_one_is_not(folder: Path):
    recipe = write_recipe(folder, RECIPE)
    run_inline(recipe, folder / "out")
    (folder / "lists" / "adult").rename(folder / "lists" / "elsewhere")
    recipe.write_text(recipe.read_text().replace("lists/adult", "lists/elsewhere"))
    assert run_inline(recipe, folder / "out")[1] == []
    (folder / "lists" / "malware" / "domains").write_text("a.example\n")
    url_lists._load.cache_clear()  # another process
    published, tasks = run_inline(recipe, folder / "out")
    assert tasks
    assert published.value["balance"]["web"]["steps"]["ingest"]["dropped"]["gates.url_blocklist"][0] == 4


def test_in_tables_by_the_column_named(tmp_path: Path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "urls").write_text("a.example/1\n")
    rows = [{"text": prose(number, 6), "link": f"http://a.example/{number}"} for number in range(3)]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"text": prose(9, 6)}]))
    text = RECIPE.replace("reader: warc", "reader: jsonl\n    columns: {url: link}").replace("a.warc.gz", "notes.jsonl")
    text = re.sub(r"gates: .*", 'gates: {url_blocklist: ["{folder}/lists"]}', text)
    run_inline(write_recipe(tmp_path, text), tmp_path / "out")
    (documents,) = Storage(str(tmp_path / "out")).sizes("documents")
    found = pq.read_table(tmp_path / "out" / documents).column("gate").to_pylist()
    assert found == [None, "gates.url_blocklist", None, None]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lists/adult", "lists/adlt", r"r\.yaml:8: sources\[0\]\.gates: no file `domains` or `urls` in '.*lists/adlt'"),
        (
            "lists/words",
            "lists/wrds",
            r"r\.yaml:8: sources\[0\]\.gates: no file '.*lists/wrds': give a file with one word",
        ),
        ("lists/words", "lists/adult/urls", r"'shared\.example/~bad' is not one word"),
        ("reader: warc", "reader: jsonl", r"looks at URLs, and this source has none: name its column, `columns: \{url"),
        ("reader: warc", "reader: code", "looks at URLs, and this source has none: take it out"),
    ],
)
def test_a_mistake_is_named_before_any_work(folder: Path, old: str, new: str, message: str):
    text = RECIPE.replace(old, new).replace("{folder}", str(folder))
    with pytest.raises(RecipeError, match=message):
        prepare(load_recipe(text, "r.yaml"), Storage(str(folder / "out")))
