"""A page that hangs the parser, a worker killed in the middle of a part: the rest is processed, the books balance."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import fingerprint, html, prose, warc_record, write_recipe
from tests.pipeline.runs import TOKENMILL, run_inline
from tokenmill.pipeline.steps.publish import latest
from tokenmill.pipeline.storage import Storage

RECIPE = """
name: slow
output: unused
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - name: web
    reader: warc
    paths: ["{folder}/web/*.warc.gz"]
    record_timeout_s: TIMEOUT
sequences: {length: 64}
"""


def slow_page(paragraphs: int) -> bytes:
    """A page that keeps the parser busy in the square of its length: each paragraph reopens every font before it."""
    body = "".join(f"<p><font a={number}>word {number}</p>" for number in range(paragraphs))
    return f"<html><body><main>{body}</main></body></html>".encode()


def write_pages(folder: Path, slow: int, paragraphs: int) -> None:
    records = [warc_record(f"http://a.example/{number}", html("page", prose(number, 8))) for number in range(10)]
    for number in range(slow):
        records.insert(3 + 2 * number, warc_record(f"http://slow.example/{number}", slow_page(paragraphs)))
    (folder / "web").mkdir(parents=True)
    (folder / "web" / "a.warc.gz").write_bytes(b"".join(records))


def test_a_page_that_hangs_the_parser_is_a_failure_with_its_place(tmp_path: Path):
    write_pages(tmp_path, 2, 20_000)
    recipe = write_recipe(tmp_path, RECIPE.replace("TIMEOUT", "2"))
    published, _ = run_inline(recipe, tmp_path / "out")
    ingest = published.value["balance"]["web"]["steps"]["ingest"]
    assert ingest["taken"][0] == 12
    assert {reason: tally[0] for reason, tally in ingest["failed"].items()} == {"extractor_timeout": 2}
    (documents,) = (tmp_path / "out").glob("documents/web/*")
    rows = [row for row in pq.read_table(documents).to_pylist() if row["failure"]]
    assert [row["url"] for row in rows] == ["http://slow.example/0", "http://slow.example/1"]
    assert all(row["raw_offset"] > 0 and row["raw_file"] == "a.warc.gz" for row in rows)
    # the skip list is an input of the task: a rerun knows it and waits for nothing
    assert len(list((tmp_path / "out").glob("skips/*/*.json"))) == 2
    assert run_inline(recipe, tmp_path / "out")[1] == []


def test_a_ray_worker_killed_in_a_part_costs_nothing(tmp_path: Path):
    write_pages(tmp_path, 1, 3000)
    recipe = write_recipe(tmp_path, RECIPE.replace("TIMEOUT", "60"))
    arguments = [TOKENMILL, "run", str(recipe), "--output", str(tmp_path / "ray"), "--cpus", "1", "--quiet"]
    running = subprocess.Popen(arguments, start_new_session=True)
    try:
        killed = _kill_a_worker_at_work(running)
        assert running.wait(timeout=240) == 0
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert killed
    run_inline(recipe, tmp_path / "inline")
    assert fingerprint(tmp_path / "ray") == fingerprint(tmp_path / "inline")
    ingest = latest(Storage(str(tmp_path / "ray"))).value["balance"]["web"]["steps"]["ingest"]
    assert (ingest["taken"][0], ingest["out"][0], ingest["failed"]) == (11, 11, {})


def _kill_a_worker_at_work(running: subprocess.Popen) -> bool:
    """`kill -9` the first Ray worker that has begun to extract pages (its extraction host is there)."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and running.poll() is None:
        for process in psutil.Process(running.pid).children(recursive=True):
            try:
                if process.name().startswith("ray::part_task") and process.children():
                    time.sleep(0.5)
                    process.kill()
                    return True
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.05)
    pytest.fail("no Ray worker was seen at work")
