"""`tokenmill audit --by`: against sums over the tables read whole, and against the balance sheet."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.pipeline.runs import newest, opened_with_units
from tests.pipeline.test_takedown import removed
from tokenmill.manifests.balance import BalanceError
from tokenmill.manifests.shards import SequenceFormat
from tokenmill.pipeline.breakdown import KINDS, MEASURES, OTHERS, Broken, breakdown, registrable
from tokenmill.pipeline.cli import cli
from tokenmill.pipeline.outcomes import unit_files
from tokenmill.pipeline.scan import opening
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.takedown import Asked

NO_WORKERS = opening("inline", None, None, True)


def broken(run: Path, kind: str, top: int = 1000) -> list[Broken]:
    _, units = opened_with_units(run)
    return breakdown(Storage(str(run)), unit_files(units), kind, top, newest(run).value["balance"], NO_WORKERS)


def packed_tokens(run: Path) -> Counter[tuple[str, int]]:
    """Tokens of each packed document."""
    found: Counter[tuple[str, int]] = Counter()
    for path in pq.read_table(run / newest(run).value["shards"]).column("path").to_pylist():
        rows = pa.ipc.open_file(run / path).read_all()
        parts = SequenceFormat.of(rows.schema).parts
        for row in rows.drop_columns(["tokens"]).to_pylist():
            columns = (row[name] for name in ("document_parts", "document_rows", "document_lengths"))
            for part, document, tokens in zip(*columns, strict=True):
                found[parts[part], document] += tokens
    return found


def value_of(kind: str, document: dict, language: str | None) -> str:
    if kind == "language":
        return language or "unknown"
    if kind == "domain":
        url = document["url"]
        return ".".join(url.split("/")[2].split(".")[-2:]) if url else "unknown"
    if kind == "date":
        return (document["date"] or "unknown")[:7]
    if kind == "extension":
        return ".py" if (document["path"] or "").endswith(".py") else "unknown"
    return document[kind] or "unknown"


@pytest.mark.parametrize("kind", KINDS)
def test_the_lines_are_the_sums_over_documents(small_run: Path, kind: str) -> None:
    tokens = packed_tokens(small_run)
    expected: dict[tuple[str, str], Counter[str]] = {}
    for path in small_run.glob("documents/*/*.parquet"):
        source, part = path.parent.name, path.name[:16]
        languages = list(small_run.glob(f"signals/language/{source}/{part}.*"))
        labels = pq.read_table(languages[0]).column("language").to_pylist() if languages else None
        for row, document in enumerate(pq.read_table(path).to_pylist()):
            value = value_of(kind, document, labels[row] if labels else None)
            line = expected.setdefault((source, value), Counter())
            line.update(records=1, raw_bytes=document["raw_bytes"], tokens=tokens[part, row])
            line.update(packed=(part, row) in tokens, failed=document["failure"] is not None)
            line.update(gated=document["gate"] is not None)
    found = {(line.source, line.value): line.to_json() for line in broken(small_run, kind)}
    assert found.keys() == expected.keys()
    for key, line in expected.items():
        assert {name: found[key][name] for name in line} == dict(line)
    assert sum(line["packed"] for line in expected.values()) == len(tokens) > 50


def test_values_beyond_the_top_are_one_line_and_nothing_is_lost(small_run: Path) -> None:
    whole, few = broken(small_run, "domain"), broken(small_run, "domain", 1)
    assert [line.value for line in few if line.source == "web"] == ["a.example", OTHERS]
    others = next(line for line in few if line.rest)
    left = [line for line in whole if line.source == "web" and line.value != "a.example"]
    assert others.rest == len(left) == 2
    assert others.measures == tuple(map(sum, zip(*(line.measures for line in left), strict=True)))
    sheet = newest(small_run).value["balance"]["web"]
    mine = [line.to_json() for line in few if line.source == "web"]
    sums = {name: sum(line[name] for line in mine) for name in MEASURES}
    assert sums["tokens"] == sum(sheet["tokens"].values())
    assert sums["duplicates"] == sum(tally[0] for tally in sheet["steps"]["deduplicate"]["dropped"].values()) > 0
    assert sums["dropped_bytes"] == sum(tally[1] for tally in sheet["steps"]["select"]["dropped"].values()) > 0
    assert sums["text_bytes"] == sheet["text_bytes"]


def test_after_a_takedown(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    before = {line.value: line.to_json() for line in broken(run, "domain")}
    removed(run, Asked(domains=("a.example",), reason="asked"))
    after = {line.value: line.to_json() for line in broken(run, "domain")}
    assert after["a.example"]["packed"] == after["a.example"]["tokens"] == 0
    assert after["a.example"]["left_out"] == before["a.example"]["packed"] > 0


def test_tables_that_are_not_the_sheets_are_told(small_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    path = next((run / "decisions" / "notes").iterdir())
    table = pq.read_table(path)
    reasons = ["gates.mime", *table.column("reason").to_pylist()[1:]]
    pq.write_table(table.set_column(1, "reason", pa.array(reasons, pa.string())), path)
    with pytest.raises(BalanceError, match="source notes: gated sum to 1, the balance sheet says 0"):
        broken(run, "licence")


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.example.co.uk", "example.co.uk"),
        ("A.B.Example.COM.", "example.com"),
        ("pages.github.io", "pages.github.io"),
        ("10.0.0.1", "10.0.0.1"),
        ("deep.sub.pydoc.example", "pydoc.example"),
        ("localhost", "localhost"),
        ("bücher.de", "bücher.de"),
    ],
)
def test_registrable_domains(host: str, domain: str) -> None:
    assert registrable(host) == domain


def test_the_command(small_run: Path) -> None:
    def said(*arguments: str) -> str:
        return CliRunner().invoke(cli, ["audit", str(small_run), *arguments], catch_exceptions=False).stdout

    table = said("--by", "language")
    assert "source web, by language" in table
    assert " 100.00 " in table
    value = json.loads(said("--by", "domain", "--top", "1", "--json"))
    assert value["by"] == "domain"
    assert [line["value"] for line in value["lines"] if line["source"] == "web"] == ["a.example", "others"]
    assert value["balance"] == newest(small_run).value["balance"]
