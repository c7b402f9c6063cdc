"""Whole runs packed in other ways: aligned to blocks, whole documents alone, and what is said of it."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.corpus import prose, write_texts
from tests.pipeline.runs import opened_with_units, run_inline, tokenmill
from tokenmill.manifests.audit import shards_of
from tokenmill.manifests.schemas import LEFT_OUT
from tokenmill.manifests.shards import SequenceFormat
from tokenmill.pipeline import checks
from tokenmill.pipeline.loader import Llada, open_mixture
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.why import fate_of, told

RECIPE = """
name: packed
output: unused
seed: 3
part_bytes: 24KiB
tokenizer: {train: {vocab_size: 512, sample_bytes: 1MiB}APPEND}
sources:
  - {name: notes, reader: jsonl, paths: ["FOLDER/notes.jsonl"], root: "FOLDER"}
sequences: {length: 64, unit_bytes: 32KiB, SEQUENCES}
mixture: {weights: {notes: 1}}
"""


def run_of(folder: Path, sequences: str, append: str = "") -> tuple[Path, Published]:
    """A finished run over notes, most of them longer than a row of 64 tokens, and one empty."""
    texts = [prose(f"packed {number}", 1 + number % 5) for number in range(150)] + ["Short.", "ok", "x" * 500]
    write_texts(folder / "notes.jsonl", texts)
    recipe = folder / "recipe.yaml"
    text = RECIPE.replace("FOLDER", str(folder)).replace("SEQUENCES", sequences).replace("APPEND", append)
    recipe.write_text(text)
    return folder / "out", run_inline(recipe, folder / "out")[0]


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Published]:
    return run_of(tmp_path_factory.mktemp("aligned"), "align: 8, whole_documents: true")


def tables_of(output: Path, published: Published) -> list[pa.Table]:
    receipts = checks.receipts_in(Storage(str(output)), published)
    shards = [shard for receipt in receipts if receipt.step == "pack" for shard in shards_of(receipt)]
    return [pa.ipc.open_file(output / shard.path).read_all() for shard in shards]


def test_documents_longer_than_a_row_are_left_out_and_counted(aligned: tuple[Path, Published]):
    output, published = aligned
    balance = published.value["balance"]["notes"]["steps"]["pack"]
    files = sorted((output / "left_out").rglob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file, schema=LEFT_OUT).to_pylist()]
    long = [row for row in rows if row["reason"] == "pack.longer_than_row"]
    assert len(long) > 20
    assert all(row["tokens"] > 64 for row in long)
    sums = [sum(row[name] for row in long) for name in ("text_bytes", "tokens")]
    assert balance["dropped"]["pack.longer_than_row"] == [len(long), *sums]
    assert balance["taken"][0] == balance["out"][0] + len(long) == 153
    packed = {
        (form.parts[part], row)
        for table in tables_of(output, published)
        for form in [SequenceFormat.of(table.schema)]
        for parts, numbers in zip(
            table.column("document_parts").to_pylist(), table.column("document_rows").to_pylist(), strict=True
        )
        for part, row in zip(parts, numbers, strict=True)
    }
    assert len(packed) == balance["out"][0]
    assert packed.isdisjoint((row["part"], row["row"]) for row in long)
    assert published.value["balance"]["notes"]["cut_documents"] == 0


def test_the_bytes_are_those_of_the_texts(aligned: tuple[Path, Published]):
    output, published = aligned
    texts = [json.loads(line)["text"] for line in (output.parent / "notes.jsonl").read_text().splitlines()]
    balance = published.value["balance"]["notes"]["steps"]["pack"]
    assert balance["taken"][1] == sum(len(text.encode()) for text in texts)


def test_why_and_audit_tell_what_was_left_out(aligned: tuple[Path, Published]):
    output, _ = aligned
    row = pq.read_table(sorted((output / "left_out").rglob("*.parquet"))[0]).to_pylist()[0]
    run, units = opened_with_units(output)
    fate = fate_of(run, units, "notes", row["part"], row["row"])
    assert fate.pieces == ()
    assert f"in no row: pack.longer_than_row, {row['tokens']} tokens" in told(fate)
    text = " ".join(tokenmill("audit", str(output), "--recount").split())
    assert "recounted: every number is what the files hold" in text
    assert "pack.longer_than_row" in text
    assert re.search(r"[\d,]+ tokens of padding, [\d.]+ % \([\d,]+ to align\)", text)
    assert re.search(r"[1-9]\d* documents decoded, 0 to another text", text)


def test_pieces_begin_at_blocks_and_padding_lies_between(aligned: tuple[Path, Published]):
    output, published = aligned
    sheet = published.value["balance"]["notes"]
    padding = to_align = 0
    for table in tables_of(output, published):
        form = SequenceFormat.of(table.schema)
        assert form.align == 8
        filler = form.special_ids["eos"]
        for row in table.to_pylist():
            at = 0
            for length in row["document_lengths"]:
                assert row["tokens"][at + length - 1] == form.special_ids["eos"]
                blocks = -(-length // 8) * 8
                assert row["tokens"][at + length : at + blocks] == [filler] * (blocks - length)
                to_align += blocks - length
                at += blocks
            assert row["tokens"][at:] == [filler] * (64 - at)
            padding += 64 - row["valid"]
    assert (sheet["padding_tokens"], sheet["align_tokens"]) == (padding, to_align)
    assert padding > to_align > 0


def test_the_loader_reads_aligned_rows(aligned: tuple[Path, Published]):
    output, published = aligned
    loader = open_mixture(str(output), batch_size=4, objective=Llada(random_length_probability=0.0))
    assert loader.plan.mixture.sequence_align == 8
    stored = [row for table in tables_of(output, published) for row in table.to_pylist()]
    count = 0
    for batch in loader:
        borders = []
        for i, number in enumerate(batch.stored_row.tolist()):
            row = stored[number]
            assert batch.clean[i].tolist() == row["tokens"]
            maskable, at = np.zeros(64, bool), 0
            for length in row["document_lengths"]:
                maskable[at : at + length] = True
                borders += [64 * i + at, 64 * i + at + length]
                assert batch.position_ids[i, at : at + length].tolist() == list(range(length))
                at += -(-length // 8) * 8
            assert batch.maskable[i].tolist() == maskable.tolist()
            assert not batch.masked[i][~maskable].any()
            assert batch.loss_weight[i][~maskable].sum() == 0
            count += 1
        assert batch.cu_seqlens.tolist() == sorted({*borders, 4 * 64})
        for start, end in pairwise(batch.cu_seqlens.tolist()):
            assert len({*batch.maskable.ravel()[start:end].tolist()}) == 1  # a segment is a piece or a gap
    assert count == len(stored) // 4 * 4 >= 20


def test_documents_without_a_token_are_left_out(tmp_path: Path):
    """No filter here looks at the text, and nothing stands around it: an empty text would have no token."""
    output, published = run_of(tmp_path, "packing: concat", ", append_eos: false")
    storage = Storage(str(output))
    sheet = published.value["balance"]["notes"]
    assert sheet["cut_documents"] > 0
    assert sheet["cut_tokens"] > sheet["cut_documents"] * 2
    assert {task: wrong for task, wrong in checks.recount(storage, published) if wrong} == {}


@pytest.mark.parametrize("name", ["padding_tokens", "cut_tokens", "cut_documents", "align_tokens"])
def test_recount_finds_a_note_that_is_not_so(aligned: tuple[Path, Published], name: str):
    storage = Storage(str(aligned[0]))
    receipt = next(found for found in checks.receipts_in(storage, aligned[1]) if found.step == "pack")
    receipt.notes[name] += 1  # type: ignore[index]
    problems = checks.count_packed(storage, receipt)[1]
    assert problems == [
        f"notes: {name}: the receipt says {receipt.notes[name]}, the files hold {receipt.notes[name] - 1}"
    ]


def test_rows_without_whole_blocks_are_refused_before_any_work(tmp_path: Path):
    with pytest.raises(
        ValueError, match="rows of 64 tokens do not hold whole blocks of align 24: take a length of 48 or 72"
    ):
        run_of(tmp_path, "align: 24")
    assert not (tmp_path / "out").exists()
