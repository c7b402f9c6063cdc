"""`tokenmill why`: what became of a document, asked for by identity, URL or path."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import write_corpus, write_recipe
from tests.pipeline.runs import opened_with_units, run_inline, tokenmill
from tokenmill.manifests.shards import SequenceFormat
from tokenmill.pipeline import why
from tokenmill.pipeline.opened import OpenedRun
from tokenmill.pipeline.opened_units import OpenedUnits
from tokenmill.pipeline.plan import plan_table
from tokenmill.pipeline.scan import opening
from tokenmill.pipeline.steps.publish import latest
from tokenmill.pipeline.storage import Storage

INLINE = opening("inline", None, None, quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("why")
    run_inline(write_recipe(write_corpus(folder)), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def opened(folder: Path) -> tuple[OpenedRun, OpenedUnits]:
    return opened_with_units(folder)


def fates(opened: tuple[OpenedRun, OpenedUnits], asked: str) -> list[why.Fate]:
    return [why.fate_of(*opened, *identity) for identity in why.find_documents(opened[0], asked, INLINE)]


def one(opened: tuple[OpenedRun, OpenedUnits], asked: str) -> why.Fate:
    (fate,) = fates(opened, asked)
    return fate


def test_every_document_has_the_fate_that_the_tables_say(folder: Path, opened: tuple[OpenedRun, OpenedUnits]):
    """The slow way: every shard, ledger and clusters table read whole."""
    run, units = opened
    pieces: dict[tuple[str, int], list[tuple[int, int, str, int]]] = {}
    for path in sorted(folder.glob("sequences/*/*/*.arrow")):
        reader = pa.ipc.open_file(path)
        parts = SequenceFormat.of(reader.schema).parts
        for at, row in enumerate(reader.read_all().drop_columns(["tokens", "valid"]).to_pylist()):
            for part, number, start, length in zip(
                *(row[f"document_{name}"] for name in ("parts", "rows", "starts", "lengths")), strict=True
            ):
                place = (start, length, str(path.relative_to(folder)), at)
                pieces.setdefault((parts[part], number), []).append(place)
    ledger = {
        (row["removed_part"], row["removed_row"]): row
        for path in folder.glob("ledger/**/*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    clusters = {
        (row["part"], row["row"]): row
        for path in folder.glob("clusters/**/*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    assert len(ledger) == 13
    checked = 0
    for source, parts_of in run.parts.items():
        for key, part in parts_of.items():
            reasons = pq.read_table(folder / part.tables["decisions"].path).column("reason").to_pylist()
            for row in range(0, len(reasons), 3 if source == "code" else 1):
                fate = why.fate_of(run, units, source, key, row)
                assert fate.seen.reason == reasons[row]
                found = [(piece["start"], piece["tokens"], piece["shard"], piece["row"]) for piece in fate.pieces]
                assert found == sorted(pieces.get((key, row), []))
                removal = ledger.get((key, row))
                told = {"keeper_place": "", "keeper_erased": False}
                assert {**(fate.removal or {}), **told} == {**(removal or {}), **told}
                assert fate.cluster == clusters.get((key, row))
                assert bool(found) == (reasons[row] is None and removal is None)
                checked += 1
    assert checked > 140


def test_a_kept_document(opened: tuple[OpenedRun, OpenedUnits]):
    fate = one(opened, "http://a.example/4")
    assert (fate.source, fate.seen.reason, fate.removal, fate.takedown, fate.cluster) == ("web", None, None, None, None)
    assert fate.stratum in ("train/en", "validation/en")
    assert fate.unit.startswith("web-g0")
    assert why.told(fate).split("\n")[0] == f"{fate.name}  http://a.example/4"
    assert f"  kept: stratum {fate.stratum}, unit {fate.unit}" in why.told(fate)
    assert one(opened, fate.name) == fate
    assert one(opened, "HTTPS://www.A.example:443/4/#top") == fate


def test_removed_as_a_duplicate(opened: tuple[OpenedRun, OpenedUnits]):
    exact, kept = one(opened, "http://mirror.example/3"), one(opened, "http://a.example/3")
    assert f"removed as an exact duplicate of {kept.name}  http://a.example/3" in why.told(exact)
    assert f"seen 2 times: it belongs to the cluster of {kept.name}" in why.told(exact)
    assert "kept: stratum" in why.told(kept)
    near, longer = one(opened, "http://a.example/5"), one(opened, "http://near.example/5")
    similarity = near.removal["similarity"]
    assert 0.8 <= similarity < 1
    said = f"removed as a near duplicate, similarity {similarity:.3f}, of {longer.name}  http://near.example/5"
    assert said in why.told(near)


def test_dropped_gated_and_failed(opened: tuple[OpenedRun, OpenedUnits]):
    dropped = "dropped: gopher_quality.min_words: gopher_quality.words is 26, the bound is 40"
    assert dropped in why.told(one(opened, "http://a.example/short0"))
    gated = "dropped: gates.http_status: http_status is 404, the bound is 200"
    assert gated in why.told(one(opened, "http://a.example/gone0"))
    (part,) = opened[0].parts["notes"]
    assert why.told(one(opened, f"{part}:10")).endswith("\n  failed: not_json")


def test_all_documents_of_a_url_or_path(opened: tuple[OpenedRun, OpenedUnits]):
    assert one(opened, "module5.py") == one(opened, "repository1/module5.py")
    (source, key, row) = why.find_documents(opened[0], "module5.py", INLINE)[0]
    assert (source, why.place_of(*opened, key, row)) == ("code", "repository1 module5.py")
    with pytest.raises(ValueError, match=r"no document 'http://a\.example': .* of the 4 parts has it as its URL"):
        why.find_documents(opened[0], "http://a.example", INLINE)
    with pytest.raises(ValueError, match="no part 0123456789abcdef in this run"):
        why.find_documents(opened[0], "0123456789abcdef:3", INLINE)
    with pytest.raises(ValueError, match=f"part {key} has 24 rows: there is no {key}:24"):
        one(opened, f"{key}:24")


def test_the_command(folder: Path):
    said = tokenmill("why", str(folder), "http://near.example/5")
    assert "  source web, raw file a.warc.gz at " in said
    (value,) = json.loads(tokenmill("why", str(folder), "http://mirror.example/3", "--json"))["documents"]
    assert (value["removal"]["kind"], value["known_as"], value["reason"]) == ("exact", "http://mirror.example/3", None)
    assert "text" not in value
    assert "it is no identity" in tokenmill("why", str(folder), "nothing", check=False)


def test_a_plan_is_read_back_as_it_was(opened: tuple[OpenedRun, OpenedUnits], folder: Path):
    published = latest(Storage(str(folder)))
    assert plan_table(opened[1].parts).equals(pq.read_table(folder / published.value["plan"]))
