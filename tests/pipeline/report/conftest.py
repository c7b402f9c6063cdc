"""A run of hostile documents, its page, and a Chromium to look at it with."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.pipeline.corpus import html, prose, warc_record, write_corpus, write_recipe
from tests.pipeline.report.pages import page_of
from tests.pipeline.runs import run_inline
from tokenmill.pipeline.report import samples

#: Texts that would do something if the page took them for anything but text.
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</pre></article></main><script>window.hacked = 1</script>",
    "</script><script>window.hacked = 1</script>",
    "</style><style>body { display: none }</style>",
    "<img src=x onerror=window.hacked=1>",
    "<svg/onload=window.hacked=1><title></title>",
    "<a href=javascript:window.hacked=1>click</a>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<meta http-equiv=refresh content=0;url=http://127.0.0.1:9/>",
    "<!-- <base href=http://127.0.0.1:9/> ]]> --!>",
    "{{ 7 * 7 }} {% raw %} ${7*7} $x_1$ &lt;b&gt; &#60;script&#62;",
    "\u202egnp.exe\u202c \u2066isolated\u2069 \u200bzero\u2060width \ufeff",
    "\x00 nul \x1b[31m escape \x7f \x85 \u2028 \u2029",
    '"quotes\' `and` \\backslashes\\ onmouseover="window.hacked=1"',
    "x" * 5000,
    "שלום עולם العربية 中文字 \U0001f600",
)
HOSTILE_URLS = (
    "javascript:window.hacked=1",
    "http://a.example/<script>window.hacked=1</script>",
    'http://a.example/"onmouseover="window.hacked=1',
    "http://a.example/\u202egnp.exe",
)
RECIPE = """
name: "</title><script>window.hacked = 1</script>"
output: unused # </pre><script>window.hacked = 1</script> <img src=x onerror=window.hacked=1>
part_bytes: 24KiB
tokenizer: {train: {vocab_size: 512, sample_bytes: 1MiB}}
sources:
  - name: notes
    reader: jsonl
    paths: ["{folder}/notes/*.jsonl"]
    root: "{folder}/notes"
    columns: {url: url}
    language: {}
    filters:
      - gopher_quality: {min_words: {percentile: 20}, min_stop_words: null, max_mean_word_length: null}
  - name: web
    reader: warc
    paths: ["{folder}/web/*.warc.gz"]
    root: "{folder}/web"
    filters: [{gopher_repetition: {}}]
sequences: {length: 64}
"""


def write_hostile(folder: Path) -> Path:
    """The raw shards and the recipe; returns the recipe's path."""
    lines = []
    for number, text in enumerate(HOSTILE):
        long = f"{text} {prose(number, 9)} {text}"
        copies = [long, long, f"{long} And one more."] if number % 3 == 0 else [long]
        lines += [{"text": found, "url": HOSTILE_URLS[number % len(HOSTILE_URLS)]} for found in (*copies, text)]
    notes = folder / "notes" / "<img src=x onerror=window.hacked=1>.jsonl"
    notes.parent.mkdir(parents=True)
    notes.write_text("".join(json.dumps(line) + "\n" for line in lines))
    pages = [
        warc_record(f"http://b.example/{number}", html(text, f"{prose(number, 9)} {text.replace('<', '&lt;')}"))
        for number, text in enumerate(HOSTILE[:11])
    ]
    (folder / "web").mkdir()
    (folder / "web" / "a.warc.gz").write_bytes(b"".join(pages))
    return write_recipe(folder, RECIPE)


@pytest.fixture(scope="session")
def corpus_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tests' corpus; tests only read it."""
    folder = tmp_path_factory.mktemp("corpus")
    run_inline(write_recipe(write_corpus(folder)), folder / "out")
    return folder / "out"


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    run_inline(write_hostile(folder), folder / "out")
    return folder / "out"


@pytest.fixture(scope="session")
def hostile_page(hostile_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page, on disk, with all of its documents."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "OF_A_REASON", 60)
        path.write_bytes(page_of(hostile_run))
    return path


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium; the test is skipped, saying so, where there is none."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no `chromium` on PATH to look at the page with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()
