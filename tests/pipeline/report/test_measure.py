"""What is counted over the units of a run, against its tables read whole, the slow way."""

import math
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.pipeline.report.test_histograms import bin_by_loop
from tests.pipeline.runs import opened_with_units, tokenmill
from tokenmill.pipeline.opened import OpenedRun
from tokenmill.pipeline.opened_units import OpenedUnits
from tokenmill.pipeline.report import measure
from tokenmill.pipeline.report.histograms import shape_of
from tokenmill.pipeline.report.measure import UNTOLD, Found, measure_run
from tokenmill.pipeline.report.samples import OF_A_CLUSTER, OF_A_REASON, TAKEN_DOWN, cluster_members, sample_documents
from tokenmill.pipeline.scan import opening

INLINE = opening("inline", None, None, quiet=True)


@pytest.fixture(scope="module")
def folder(corpus_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from which a page and a domain were taken down."""
    folder = tmp_path_factory.mktemp("measure")
    shutil.copytree(corpus_run, folder / "out")
    taken = ("--url", "http://a.example/7", "--domain", "near.example", "--quiet", "--executor", "inline")
    tokenmill("remove", str(folder / "out"), *taken)
    return folder / "out"


@pytest.fixture(scope="module")
def run(folder: Path) -> tuple[OpenedRun, OpenedUnits]:
    return opened_with_units(folder)


@pytest.fixture(scope="module")
def found(run: tuple[OpenedRun, OpenedUnits]) -> Found:
    return measure_run(run[0].storage, run[1], INLINE)


def rows_of(run: OpenedRun, source: str, table: str) -> dict[tuple[str, int], dict[str, object]]:
    """Every row of a table of a source's parts, by identity; empty where it has no such table."""
    return {
        (key, row): values
        for key, part in run.parts[source].items()
        if table in part.tables
        for row, values in enumerate(pq.read_table(run.storage.url(part.tables[table].path)).to_pylist())
    }


def test_every_signal_is_counted(run: tuple[OpenedRun, OpenedUnits], found: Found):
    expected: dict[tuple[str, str, str], Counter[tuple[bool, int | None]]] = defaultdict(Counter)
    for source, parts in run[0].parts.items():
        kept = {name: row["kept"] for name, row in rows_of(run[0], source, "decisions").items()}
        tables = {name for part in parts.values() for name in part.tables if name.startswith("signals/")}
        for table in tables - {"signals/minhash"}:
            path = run[0].storage.url(next(iter(parts.values())).tables[table].path)
            types = {field.name: field.type for field in pq.read_schema(path)}
            for name, row in rows_of(run[0], source, table).items():
                for signal, value in row.items():
                    if str(types[signal]) in ("float", "double", "int32", "int64"):
                        missing = value is None or math.isnan(float(str(value)))
                        at = None if missing else bin_by_loop(shape_of(signal, types[signal]), float(str(value)))
                        expected[source, table.removeprefix("signals/"), signal][kept[name], at] += 1
    counted = {}
    for key, histogram in found.histograms.items():
        counts = Counter({(True, at): number for at, number in enumerate(histogram.kept.tolist()) if number})
        counts |= {(False, at): number for at, number in enumerate(histogram.dropped.tolist()) if number}
        counted[key] = (counts, histogram.missing)
    assert counted == {
        key: (
            Counter({where: number for where, number in counts.items() if where[1] is not None}),
            sum(number for where, number in counts.items() if where[1] is None),
        )
        for key, counts in expected.items()
    }
    assert len(counted) == 40


def test_languages_are_those_of_what_is_left(folder: Path, run: tuple[OpenedRun, OpenedUnits], found: Found):
    gone = {
        (row["removed_part"], row["removed_row"])
        for unit in run[1].units.values()
        for row in pq.read_table(folder / unit.ledger.path).to_pylist()
    }
    gone |= {
        (row["part"], row["row"])
        for output in run[1].takedown.values()
        for row in pq.read_table(folder / output.path).to_pylist()
    }
    expected: dict[tuple[str, str], list[int]] = {}
    for source in run[0].parts:
        language, hashes = rows_of(run[0], source, "signals/language"), rows_of(run[0], source, "signals/hashes")
        for name, row in rows_of(run[0], source, "decisions").items():
            if row["kept"] and name not in gone:
                label = str(language[name]["language"]) if language else UNTOLD
                tally = expected.setdefault((source, label), [0, 0])
                tally[0] += 1
                tally[1] += int(str(hashes[name]["text_bytes"]))
    assert {key: tally for key, tally in found.languages.items() if tally[0]} == expected
    packed = sum(receipt.balance.out.documents for receipt in run[1].packed.values())
    assert sum(tally[0] for tally in expected.values()) == packed


def test_clusters_are_counted_once_and_the_largest_are_named(
    folder: Path, run: tuple[OpenedRun, OpenedUnits], found: Found
):
    sizes = {}
    for unit in run[1].units.values():
        assert unit.clusters is not None
        for row in pq.read_table(folder / unit.clusters.path).to_pylist():
            sizes[row["cluster_part"], row["cluster_row"]] = row["cluster_documents"]
    assert found.clusters == Counter(sizes.values())
    assert len(sizes) > measure.LARGEST_CLUSTERS
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[: measure.LARGEST_CLUSTERS]
    assert [((one.part, one.row), one.documents) for one in found.largest] == largest
    members = cluster_members(*run, found.largest, INLINE)
    for cluster, documents in zip(found.largest, members, strict=True):
        assert documents[0].name.endswith(f" {cluster.part}:{cluster.row}")
        assert len(documents) == min(cluster.documents, OF_A_CLUSTER)
        assert {document.fate.split(":")[0] for document in documents} <= {"kept", "removed, exact", "removed, near"}


@pytest.mark.parametrize("tasks", [1, 3])
def test_the_number_of_tasks_changes_nothing(
    run: tuple[OpenedRun, OpenedUnits], found: Found, tasks: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(measure, "TASKS", tasks)
    again = measure_run(run[0].storage, run[1], INLINE)
    assert again.languages == found.languages
    assert (again.clusters, again.largest, again.removals) == (found.clusters, found.largest, found.removals)
    assert again.histograms.keys() == found.histograms.keys()
    for name, histogram in found.histograms.items():
        other = again.histograms[name]
        assert (other.kept.tolist(), other.dropped.tolist()) == (histogram.kept.tolist(), histogram.dropped.tolist())
        assert other.missing == histogram.missing


def test_documents_of_every_reason_are_drawn_and_what_is_taken_down_is_not_shown(
    folder: Path, run: tuple[OpenedRun, OpenedUnits], found: Found
):
    shown = sample_documents(*run, found, INLINE)
    per_reason = Counter((one.source, one.reason) for one in shown)
    assert {reason for _, reason in per_reason} >= {
        *("kept", "gopher_quality.min_words", "gates.http_status", "failed.not_json", "dedup.exact", "dedup.near"),
    }
    assert max(per_reason.values()) == OF_A_REASON
    near = [one for one in shown if (one.source, one.reason) == ("web", "dedup.near")]
    assert near
    assert {one.text for one in near} == {None}  # all of them are pages of near.example
    assert {(one.remark, one.where) for one in near} == {(TAKEN_DOWN, "")}
    exact = next(one for one in shown if one.reason == "dedup.exact")
    assert "similarity 1.000 to " in exact.why
    assert exact.text
    assert sample_documents(*run, found, INLINE) == shown
