"""`tokenmill sql`: its views against the tables read whole, what it reads, and what it refuses."""

import csv
import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.pipeline.runs import newest
from tokenmill.manifests.shards import SequenceFormat
from tokenmill.pipeline.cli import cli
from tokenmill.pipeline.query import run as running
from tokenmill.pipeline.query.output import write_file, write_json, write_separated
from tokenmill.pipeline.query.run import query
from tokenmill.pipeline.query.views import VIEWS, Asked, Views
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage


def ask(run: Path, sql: str) -> list[dict[str, Any]]:
    with query(Storage(str(run)), newest(run), sql) as reader:
        return reader.read_all().to_pylist()


def whole(run: Path, pattern: str) -> list[dict[str, Any]]:
    """Rows of a part's tables with source, part and row, the slow way."""
    found = []
    for path in sorted(run.glob(pattern)):
        for row, values in enumerate(pq.read_table(path).to_pylist()):
            found.append({"source": path.parent.name, "part": path.name[:16], "row": row, **values})
    return found


def by_identity(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["part"], row["row"]))


def add_sources(run: Path, rows: list[dict[str, Any]]) -> None:
    """Give rows that name a part its source."""
    sources = {path.name[:16]: path.parent.name for path in run.glob("documents/*/*")}
    for row in rows:
        row["source"] = sources[row["part"]]


@pytest.mark.parametrize("view", ["documents", "decisions"])
def test_tables_of_parts_are_all_their_rows(small_run: Path, view: str) -> None:
    assert by_identity(ask(small_run, f"FROM {view}")) == by_identity(whole(small_run, f"{view}/*/*.parquet"))


def test_signals_join_all_groups_by_position(small_run: Path) -> None:
    found = by_identity(ask(small_run, "FROM signals"))
    expected = {(row["part"], row["row"]): {} for row in whole(small_run, "decisions/*/*.parquet")}
    names = {"source", "part", "row"}
    for folder in sorted((small_run / "signals").iterdir()):
        for row in whole(small_run, f"signals/{folder.name}/*/*.parquet"):
            own = {name: value for name, value in row.items() if name not in ("source", "part", "row", "signature")}
            if folder.name not in ("language", "hashes"):
                own = {f"{folder.name}_{name}": value for name, value in own.items()}
            expected[row["part"], row["row"]] |= own | {"source": row["source"]}
            names |= own.keys()
    assert len(names) > 20
    assert {(row.pop("part"), row.pop("row")): row for row in found} == {
        key: {name: values.get(name) for name in names - {"part", "row"}} for key, values in expected.items()
    }


def test_pieces_are_what_the_shards_hold(small_run: Path) -> None:
    expected = []
    for shard in pq.read_table(small_run / newest(small_run).value["shards"]).to_pylist():
        rows = pa.ipc.open_file(small_run / shard["path"]).read_all()
        parts = SequenceFormat.of(rows.schema).parts
        for number, row in enumerate(rows.drop_columns(["tokens"]).to_pylist()):
            columns = (row[name] for name in ("document_parts", "document_rows", "document_starts", "document_lengths"))
            for part, document, start, tokens in zip(*columns, strict=True):
                at = (shard["component"], shard["unit"], shard["path"], number, start, tokens)
                expected.append((shard["component"].split("/")[0], parts[part], document, *at))
    found = [tuple(row.values()) for row in ask(small_run, "FROM pieces")]
    assert sorted(found) == sorted(expected)
    assert len(found) > 100
    # scanned twice, each time from the beginning
    twice = ask(
        small_run, "SELECT count(*) AS n FROM pieces AS a JOIN pieces AS b USING (shard, sequence_row, part, row)"
    )
    held = Counter((row[5], row[6], row[1], row[2]) for row in expected)
    assert twice == [{"n": sum(count * count for count in held.values())}]


def test_duplicates_shards_and_tasks(small_run: Path) -> None:
    published = newest(small_run)
    ledger = [row for path in small_run.glob("ledger/*.parquet") for row in pq.read_table(path).to_pylist()]
    names = {"removed_part": "part", "removed_row": "row"}
    expected = [{names.get(name, name): value for name, value in row.items()} for row in ledger]
    add_sources(small_run, expected)
    assert by_identity(ask(small_run, "FROM duplicates")) == by_identity(expected)
    assert len(expected) > 3
    totals = ask(small_run, "SELECT source, sum(tokens)::BIGINT AS tokens FROM shards GROUP BY source")
    assert {row["source"]: row["tokens"] for row in totals} == {
        source: sum(sheet["tokens"].values()) for source, sheet in published.value["balance"].items()
    }
    assert ask(small_run, "SELECT DISTINCT source || '/' || stratum = component AS same FROM shards") == [
        {"same": True}
    ]
    tasks = ask(small_run, "FROM tasks")
    assert tasks == pq.read_table(small_run / published.value["tasks"]).to_pylist()


def test_clusters_and_a_view_without_a_file(small_run: Path) -> None:
    clusters = [row for path in small_run.glob("clusters/*.parquet") for row in pq.read_table(path).to_pylist()]
    add_sources(small_run, clusters)
    assert by_identity(ask(small_run, "FROM clusters")) == by_identity(clusters)
    assert ask(small_run, "FROM takedown") == []
    names = {row["name"] for row in ask(small_run, "SHOW TABLES")}
    assert names == set(VIEWS)


def explained(run: Path, sql: str) -> str:
    """The plan of a query over the views that it names."""
    with duckdb.connect() as connection:
        views = Views(Storage(str(run)), newest(run))
        running._prepare(connection, views, running._asked(connection, sql), str(run / "nowhere"))
        plan = connection.execute(f"EXPLAIN {sql}").fetchall()
    return str(plan[0][1])


def test_only_what_a_query_needs_is_read(small_run: Path) -> None:
    part = whole(small_run, "documents/web/*.parquet")[0]["part"]
    plan = explained(small_run, f"SELECT url FROM documents WHERE part = '{part}' AND http_status = 404")
    total = len(list(small_run.glob("documents/*/*.parquet")))
    assert f"Scanning Files: 1/{total}" in plan
    assert "http_status = 404" in plan.split("Filters:")[1]
    assert "text" not in plan
    asked = Asked(frozenset({"gopher_quality_words"}), everything=False)
    select = Views(Storage(str(small_run)), newest(small_run)).select("signals", asked)
    assert "gopher_repetition" not in select
    assert "mean_word_length" not in select


def test_only_files_of_the_version_are_read_and_none_is_written(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    before = ask(run, "SELECT count(*) AS n FROM documents")
    stray = next((run / "documents" / "web").iterdir())
    shutil.copy(stray, stray.with_name("0" * 16 + ".foreign.parquet"))
    assert ask(run, "SELECT count(*) AS n FROM documents") == before
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for refused in (
        f"FROM read_csv('{secret}')",
        f"FROM '{secret}'",
        f"FROM read_parquet('{stray}x')",
        "FROM glob('/*')",
    ):
        with pytest.raises(ValueError, match="Cannot access file"):
            ask(run, refused)
    files = sorted(path for path in tmp_path.rglob("*"))
    for sql in (
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        "SET threads = 1",
        "ATTACH 'x.db'",
        "CREATE TABLE t AS SELECT 1",
        "INSTALL httpfs",
        "SELECT 1; SELECT 2",
        "",
    ):
        with pytest.raises(ValueError, match="give one SELECT"):
            ask(run, sql)
    with pytest.raises(ValueError, match="single SELECT"):
        ask(run, f"FROM query('COPY (SELECT 1) TO ''{tmp_path}/out.csv''')")
    assert sorted(path for path in tmp_path.rglob("*")) == files


def test_mistakes_say_what_is_wrong(small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'"langage" not found(.|\n)*"language"'):
        ask(small_run, "SELECT langage FROM signals WHERE language = 'en'")
    with pytest.raises(ValueError, match="syntax error"):
        ask(small_run, "SELEC 1")
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    gone = next((run / "decisions" / "web").iterdir())
    gone.unlink()
    with pytest.raises(ValueError, match=gone.name):
        ask(run, "SELECT sum(row) FROM decisions")
    tasks = run / newest(run).value["tasks"]
    tasks.write_bytes(tasks.read_bytes()[:-9])
    with pytest.raises(ValueError, match=f"{tasks.name} is damaged or was edited"):
        ask(run, "FROM documents")
    tasks.unlink()
    with pytest.raises(FileNotFoundError, match=tasks.name):
        ask(run, "FROM documents")


def test_what_is_printed_and_written(small_run: Path, tmp_path: Path) -> None:
    more = "NULL AS x, 'a\tb\"c' AS y, 1.5 AS z, [1, 2] AS l"
    sql = f"SELECT source, row, content_hash, {more} FROM signals ORDER BY ALL LIMIT 7"
    rows = ask(small_run, sql)
    said = io.StringIO()
    with query(Storage(str(small_run)), newest(small_run), sql) as reader:
        assert write_separated(reader, said, "\t") == 7
    found = list(csv.DictReader(io.StringIO(said.getvalue()), delimiter="\t"))
    assert [row["content_hash"] for row in found] == [row["content_hash"].hex() for row in rows]
    assert {(row["x"], row["y"], row["z"], row["l"]) for row in found} == {("", 'a\tb"c', "1.5", "[1, 2]")}
    said = io.StringIO()
    with query(
        Storage(str(small_run)), newest(small_run), "SELECT 1/0 AS a, 2 AS a, sum(1) AS s FROM range(3)"
    ) as reader:
        write_json(reader, said)
    assert json.loads(said.getvalue()) == [{"a": None, "a_1": 2, "s": 3}]
    for name in ("out.parquet", "out.csv"):
        with query(Storage(str(small_run)), newest(small_run), sql) as reader:
            assert write_file(reader, str(tmp_path / name)) == 7
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"out.parquet", "out.csv"}
    with (
        query(Storage(str(small_run)), newest(small_run), sql) as reader,
        pytest.raises(ValueError, match=r"\.parquet or"),
    ):
        write_file(reader, str(tmp_path / "out.xlsx"))


def test_the_command(small_run: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        return CliRunner().invoke(cli, ["sql", *arguments], catch_exceptions=False).stdout

    sql = "SELECT count(*) AS n FROM documents"
    count = ask(small_run, sql)[0]["n"]
    assert said(str(small_run), sql) == f"n\n{count}\n"
    assert json.loads(said(f"{small_run}@0", sql, "--json")) == [{"n": count}]
    assert said(str(small_run), sql, "--output", str(tmp_path / "n.csv")) == f"1 rows in {tmp_path / 'n.csv'}\n"
    with pytest.raises(ValueError, match="has no version 7: it has 0"):
        said(f"{small_run}@7", sql)


def test_a_run_that_is_not_published_says_how_far_it_is(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    manifest: Published = newest(run)
    (run / manifest.path).write_text((run / manifest.path).read_text()[:-20])
    with pytest.raises(ValueError, match=r"is damaged or cut short: its .* bytes are no JSON"):
        newest(run)
    (run / manifest.path).unlink()
    with pytest.raises(ValueError, match=r"manifests/run-NNNNN\.<hash>\.json is missing"):
        newest(run)
    shutil.rmtree(run / "manifests")
    with pytest.raises(ValueError, match=r"still going, or was stopped \(ingest \d+ done of \d+, .*pack \d+ done"):
        newest(run)
    shutil.rmtree(run / "receipts")
    with pytest.raises(ValueError, match="there is not one receipt in it"):
        newest(run)
