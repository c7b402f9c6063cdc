"""`tokenmill trace`: a global row's documents, against the batch that has it and the tables read whole."""

import json
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import write_corpus, write_recipe
from tests.pipeline.runs import newest, run_inline, tokenmill
from tests.pipeline.test_takedown import pages, removed
from tokenmill.manifests.shards import SequenceFormat
from tokenmill.pipeline.erase import erase_removed
from tokenmill.pipeline.loader import open_mixture
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.takedown import Asked
from tokenmill.pipeline.trace import open_trace, trace
from tokenmill.pipeline.traced import TracedRow, as_json, told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trace")
    run_inline(write_recipe(write_corpus(folder)), folder / "out")
    return folder / "out"


def stored_rows(output: Path) -> dict[str, list[dict]]:
    """Every component's rows in stored order, with the shard and the place in it; documents by identity."""
    found: dict[str, list[dict]] = defaultdict(list)
    for shard in pq.read_table(output / newest(output).value["shards"]).to_pylist():
        reader = pa.ipc.open_file(output / shard["path"])
        parts = SequenceFormat.of(reader.schema).parts
        for number in range(reader.num_record_batches):
            for at, row in enumerate(reader.get_batch(number).to_pylist()):
                names = zip(row["document_parts"], row["document_rows"], strict=True)
                row["documents"] = [(parts[part], document) for part, document in names]
                found[shard["component"]].append({**row, "place": (shard["path"], number, at), "unit": shard["unit"]})
    return found


def recorded(output: Path, source: str, name: tuple[str, int]) -> dict:
    """What the tables of its part say of a document."""
    (documents,) = output.glob(f"documents/{source}/{name[0]}*.parquet")
    place = pq.read_table(documents).drop_columns(["text"]).to_pylist()[name[1]]
    signals = {}
    for path in output.glob(f"signals/*/{source}/{name[0]}*.parquet"):
        values = pq.read_table(path).to_pylist()[name[1]]
        signals |= {f"{path.parent.parent.name}.{key}": value for key, value in values.items()}
    return {
        "place": {key: value for key, value in place.items() if key in PLACE and value is not None},
        "signals": {key: value for key, value in signals.items() if value is not None and not isinstance(value, bytes)},
    }


PLACE = ("raw_file", "raw_offset", "url", "repository", "path")


def test_every_row_is_traced_to_what_the_tables_say(folder: Path):
    rows = stored_rows(folder)
    whole: dict[tuple[str, int], int] = defaultdict(int)
    for row in (row for some in rows.values() for row in some):
        for name, tokens in zip(row["documents"], row["document_lengths"], strict=True):
            whole[name] += tokens
    clusters = {
        (row["part"], row["row"]): row
        for path in folder.glob("clusters/**/*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    opened = open_trace(str(folder), with_text=True)
    assert opened.own.removed is None
    cut = several = 0
    for batch, _ in zip(open_mixture(str(folder), batch_size=8), range(4), strict=False):
        for i, found in enumerate(trace(opened, batch.rows.tolist())):
            component = batch.component_names[batch.component[i]]
            row = rows[component][batch.stored_row[i]]
            assert (found.k, found.component, found.epoch) == (batch.rows[i], component, batch.epoch[i])
            assert (found.stored_row, found.unit) == (batch.stored_row[i], row["unit"])
            assert (found.shard, found.record_batch, found.batch_row) == row["place"]
            names = [f"{part}:{document}" for part, document in row["documents"]]
            assert [piece.document for piece in found.pieces] == names
            at = 0
            for piece, name, start, tokens in zip(
                found.pieces, row["documents"], row["document_starts"], row["document_lengths"], strict=True
            ):
                assert (piece.at, piece.start, piece.tokens, piece.document_tokens) == (at, start, tokens, whole[name])
                assert piece.text == opened.tokenizer.decode(
                    batch.clean[i, at : at + tokens], skip_special_tokens=False
                )
                assert {"place": piece.place, "signals": piece.signals} == recorded(folder, piece.source, name)
                assert (piece.decision["kept"], piece.decision["reason"]) == (True, None)
                assert (piece.cluster, piece.takedown) == (clusters.get(name), None)
                at += tokens
                cut += piece.is_cut
            assert at == np.count_nonzero(batch.maskable[i])
            several += len(found.pieces) > 1
    assert min(cut, several) > 2


def test_as_people_see_it(folder: Path):
    seen = list(trace(open_trace(str(folder), with_text=True), range(60)))
    piece = next(piece for row in seen for piece in row.pieces if piece.cluster and piece.source == "web")
    row = next(row for row in seen if piece in row.pieces)
    said = told(row)
    assert said.startswith(f"row {row.k}: component {row.component}, epoch 0, its stored row {row.stored_row}\n")
    assert f"  {piece.at} … {piece.at + piece.tokens - 1}  {piece.document}  {piece.place['url']}\n" in said
    assert f"raw file {piece.place['raw_file']} at {piece.place['raw_offset']}" in said
    assert "    gopher_quality: words " in said
    assert f"seen {piece.cluster['cluster_documents']} times" in said
    assert "    │ " in said
    lines = [line for row in seen for line in told(row).splitlines()]
    cut = sum(piece.is_cut for row in seen for piece in row.pieces)
    assert sum(line.endswith(": it is cut") for line in lines) == cut > 0
    assert sum(line.endswith(", all of it") for line in lines) == sum(len(row.pieces) for row in seen) - cut > 0


def test_the_command(folder: Path):
    value = json.loads(tokenmill("trace", str(folder), "--row", "3", "--row", "1", "--total-rows", "20", "--json"))
    opened = open_trace(str(folder), total_rows=20)
    assert value["rows"] == json.loads(json.dumps([as_json(row) for row in trace(opened, [3, 1])]))
    assert "text" not in value["rows"][0]["pieces"][0]
    assert value["mixture"] == newest(folder).value["mixture"]
    assert value["plan"] == opened.mixture.order.plan.hash != open_trace(str(folder)).mixture.order.plan.hash
    assert tokenmill("trace", str(folder), "--row", "3").startswith("row 3: component ")


def test_rows_of_the_validation_split(folder: Path):
    rows = stored_rows(folder)
    opened = open_trace(str(folder), split="validation")
    numbers = [k for batch in open_mixture(str(folder), batch_size=4, split="validation") for k in batch.rows.tolist()]
    held_out = [k for k in numbers if k >= 0]
    for found in trace(opened, held_out):
        assert found.component.split("/")[1] == "validation"
        assert (found.shard, found.record_batch, found.batch_row) == rows[found.component][found.stored_row]["place"]
    assert len(held_out) == sum(len(some) for name, some in rows.items() if "/validation" in name) > 0


def test_what_is_not_there_is_refused(folder: Path):
    for row in (20, -1):
        with pytest.raises(ValueError, match=f"the plan has rows 0 … 19, none numbered {row}: trace with the --total"):
            next(trace(open_trace(str(folder), total_rows=20), [0, row]))
    with pytest.raises(ValueError, match=r"has mixture manifests/no\.json, the newest has manifests/mixtures/"):
        open_trace(str(folder), "manifests/no.json")
    with pytest.raises(ValueError, match="holds no published run"):
        open_trace(str(folder / "manifests"))


def test_rows_of_an_earlier_version_tell_of_takedowns(folder: Path, tmp_path: Path):
    output = tmp_path / "out"
    shutil.copytree(folder, output)
    earlier = newest(output).value["mixture"]
    before = list(trace(open_trace(str(output)), range(60)))
    url, document = next(item for item in pages(output).items() if holders(before, item[1]))
    removed(output, Asked(urls=(url,), reason="its author asked"))
    now = list(trace(open_trace(str(output), f"{output}/{earlier}"), range(60)))
    assert [[piece.document for piece in row.pieces] for row in now] == [
        [piece.document for piece in row.pieces] for row in before
    ]
    gone = {piece.document for row in now for piece in row.pieces if piece.takedown is not None}
    assert gone == {document}
    assert "named as url: its author asked; the run's newest version is without it" in told(holders(now, document)[0])
    newer = open_trace(str(output))
    assert not holders(list(trace(newer, range(newer.mixture.order.plan.total_rows))), document)
    erase_removed(Storage(str(output)), newest(output))
    with pytest.raises(ValueError, match=r"after takedowns these were erased: manifests/run-00000\."):
        open_trace(str(output), earlier)


def holders(rows: list[TracedRow], document: str) -> list[TracedRow]:
    return [row for row in rows if any(piece.document == document for piece in row.pieces)]
