"""`tokenmill where`: rows of the training order against the order itself, raw records against the raw files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.pipeline.corpus import html, prose
from tests.pipeline.test_breakdown import packed_tokens
from tokenmill.pipeline.cli import cli
from tokenmill.pipeline.loader.opening import open_order
from tokenmill.pipeline.loader.stock import stocks_of


def said(*arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def where(run: Path, document: str, *options: str) -> dict[str, Any]:
    (found,) = json.loads(said("where", str(run), document, "--json", *options))["documents"]
    return dict(found)


@pytest.mark.parametrize(("total_rows", "window_bytes"), [(None, None), (200, None), (None, 1 << 18)])
def test_first_visits_are_those_of_the_order(small_run: Path, total_rows: int | None, window_bytes: int | None) -> None:
    opened = open_order(str(small_run), total_rows=total_rows, window_bytes=window_bytes)
    order, names = opened.order, opened.order.plan.component_names
    numbers = np.arange(order.plan.total_rows)
    found = order.order(numbers)
    first = {
        (names[component], int(row)): int(k)
        for k, component, epoch, row in zip(numbers, found.component, found.epoch, found.row, strict=True)
        if epoch == 0
    }
    stocks = stocks_of(opened.stages[0].shards)
    rows = [(name, row) for name in names for row in range(stocks[name].rows)]
    assert {place: order.first_visit(*place) for place in rows} == {place: first.get(place) for place in rows}
    assert len(first) < len(rows) or total_rows is None
    assert order.first_visit("web/none", 0) is None


def test_rows_of_documents_are_rows_that_trace_back_to_them(small_run: Path) -> None:
    for part, row in sorted(packed_tokens(small_run))[::25]:
        found = where(small_run, f"{part}:{row}")
        assert found["pieces"]
        for piece in found["pieces"]:
            if "validation" in found["stratum"]:
                assert piece["global_row"] is None
                continue
            (traced,) = json.loads(said("trace", str(small_run), "--row", str(piece["global_row"]), "--json"))["rows"]
            assert (traced["epoch"], traced["shard"]) == (0, piece["shard"])
            assert (f"{part}:{row}", piece["start"], piece["tokens"]) in [
                (each["document"], each["start"], each["tokens"]) for each in traced["pieces"]
            ]


def test_what_people_are_told(small_run: Path) -> None:
    pages = {number: where(small_run, f"http://a.example/{number}") for number in range(12)}
    trained = {number for number, page in pages.items() if page["pieces"] and page["stratum"].startswith("train")}
    held_out = {number for number, page in pages.items() if page["pieces"] and number not in trained}
    assert any(piece["global_row"] is not None for number in trained for piece in pages[number]["pieces"])
    for number in trained:
        rows = [f"{piece['global_row']:,}" for piece in pages[number]["pieces"] if piece["global_row"] is not None]
        told = f"global rows of the first epoch: {', '.join(rows)} (" if rows else "in no row of the training order"
        assert told in said("where", str(small_run), f"http://a.example/{number}")
    for number in held_out:
        assert "in no row of the training order" in said("where", str(small_run), f"http://a.example/{number}")
    assert "removed as an exact duplicate" in (gone := said("where", str(small_run), "http://mirror.example/3"))
    assert "global rows" not in gone


def test_raw_records_are_what_the_raw_files_hold(small_run: Path) -> None:
    page = where(small_run, "http://a.example/1", "--raw")["raw"]
    assert page["content"] == html("page 1", prose(1, 13)).decode()
    assert page["url"] == str(small_run.parent / "web" / "a.warc.gz")
    gated = where(small_run, "http://a.example/gone0", "--raw")
    assert (gated["reason"], gated["raw"]["content"]) == ("gates.http_status", "gone")
    module = small_run.parent / "code" / "repository2" / "module2.py"
    assert where(small_run, "repository2/module2.py", "--raw")["raw"]["content"] == module.read_text()
    (part,) = (path.name[:16] for path in small_run.glob("documents/notes/*"))
    offsets = pq.read_table(next(small_run.glob("documents/notes/*"))).column("raw_offset").to_pylist()
    note = where(small_run, f"{part}:7", "--raw")["raw"]
    assert (note["offset"], note["content"]) == (offsets[7], prose("note 7", 3))
    broken = where(small_run, f"{part}:10", "--raw")["raw"]
    assert (broken["content"], broken["failure"]) == ("{not json", "not_json")
    text = said("trace", str(small_run), "--row", "0", "--raw")
    pieces = json.loads(said("trace", str(small_run), "--row", "0", "--raw", "--json"))["rows"][0]["pieces"]
    assert text.count("  raw record of ") == len(pieces)
    assert all(piece["raw"]["content"] for piece in pieces)


def test_a_raw_file_that_is_gone_or_changed_is_told(small_run: Path) -> None:
    file = small_run.parent / "code" / "repository2" / "module2.py"
    whole, aside = file.read_bytes(), file.with_suffix(".aside")
    file.rename(aside)
    try:
        told = said("where", str(small_run), "repository2/module2.py", "--raw")
        assert "no raw record: the raw file repository2/module2.py of source code is gone" in told
        file.write_bytes(whole.replace(b"return", b"RETURN"))
        told = where(small_run, "repository2/module2.py", "--raw")["raw"]["error"]
        assert "module2.py of source code has changed since it was read" in told
    finally:
        aside.replace(file)
    assert where(small_run, "repository2/module2.py", "--raw")["raw"]["content"] == whole.decode()
