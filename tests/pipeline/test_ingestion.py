"""Raw records to rows of `documents`: the balance, the gates, the skips, and what cannot be read."""

import json
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.pipeline import raw_files
from tests.pipeline.raw_files import OPEN, gzipped, http, page, piece_of, warc_record, write
from tokenmill.manifests.schemas import DOCUMENTS
from tokenmill.pipeline import ingestion
from tokenmill.pipeline.extraction import ExtractionOptions, RecordKilled
from tokenmill.pipeline.ingestion import READERS, DocumentGates, ingest, keeps_sample
from tokenmill.pipeline.readers.records import Piece, ReadOptions
from tokenmill.pipeline.row_groups import IngestBatch

WEB, PLAIN, NO_SAMPLE = ReadOptions(), ExtractionOptions(), DocumentGates(sample_fraction=0.0)


def batches(
    *pieces: Piece,
    reader: str = "warc",
    options: ReadOptions = WEB,
    extraction: ExtractionOptions = PLAIN,
    gates: DocumentGates = NO_SAMPLE,
    skips: Mapping[tuple[str, int], str] = {},
) -> list[IngestBatch]:
    return list(ingest(pieces, reader, options, extraction, gates, skips))


def rows_of(found: Sequence[IngestBatch]) -> list[dict[str, Any]]:
    return [row for batch in found for row in batch.documents.to_pylist()]


def outcomes(found: Sequence[IngestBatch]) -> list[str]:
    """What each row became; checks that it is exactly one thing."""
    said = []
    for row in rows_of(found):
        is_document = row["gate"] is None and row["failure"] is None
        assert not (row["gate"] and row["failure"])
        assert is_document == (row["text"] is not None)
        said.append(row["failure"] or row["gate"] or "document")
    return said


@pytest.mark.real_data
def test_the_balance_of_real_files(real_data: Path) -> None:
    """Each file: records read = documents + gated + failed + other; the schema; places that are unique."""
    for path in sorted((real_data / "warc").iterdir()):
        if path.suffix == ".parquet":
            continue
        records = list(READERS["warc"](piece_of(path), ReadOptions()))
        found = batches(piece_of(path))
        other = sum((Counter(batch.other) for batch in found), Counter())
        assert other == Counter(r.other for r in records if r.other), path.name
        assert len(outcomes(found)) == len(records) - other.total(), path.name
        assert all(batch.documents.schema == DOCUMENTS for batch in found)
        assert [row["raw_offset"] for row in rows_of(found)] == [r.offset for r in records if not r.other]
        for batch in found:
            batch.documents.validate(full=True)


@pytest.mark.real_data
def test_a_crawl_shard(real_data: Path) -> None:
    found = batches(piece_of(real_data / "crawl" / "crawl-00000.warc.gz"))
    assert Counter(outcomes(found)) == Counter(document=276, no_text=3)
    assert [batch.other for batch in found] == [{"warcinfo": 1}]
    rows = rows_of(found)
    index = {entry["url"] for entry in json.loads((real_data / "crawl" / "index.json").read_text())}
    assert {row["url"] for row in rows} <= index
    assert {row["mime"] for row in rows} == {"text/html"}
    assert {row["http_status"] for row in rows} == {200}


def test_rows_say_where_they_are_from(tmp_path: Path) -> None:
    html = "<p>Größe und Maß, ein paar Wörter mehr für die Erkennung</p>".encode("cp1252")
    data = warc_record(http(html, mime="text/html; charset=latin1"), url="http://a/ü")
    (row,) = rows_of(batches(write(tmp_path, "sub/a.warc", data)))
    assert row == {
        "text": "Größe und Maß, ein paar Wörter mehr für die Erkennung",
        "gate": None,
        "failure": None,
        "raw_file": "sub/a.warc",
        "raw_offset": 0,
        "raw_bytes": len(http(html, mime="text/html; charset=latin1")),
        "url": "http://a/ü",
        "mime": "text/html",
        "http_status": 200,
        "date": "2026-01-01T00:00:00Z",
        "encoding": "cp1252",
        "repository": None,
        "path": None,
        "licence": None,
    }


def test_bad_pages_cost_themselves(tmp_path: Path) -> None:
    bad = {
        b"<div>" * 100_000: "too_deep",
        b"<br>" * 1_000_001: "too_many_tags",
        b"": "no_text",
        b"<html><script>x</script></html>": "no_text",
        b"<p>\x00\x01\x02</p>": "no_text",
        b"<p>good page": "document",
    }
    parts = [warc_record(http(html)) for html in bad]
    text = warc_record(http(b"plain words", mime="text/plain"))
    binary = warc_record(http(b"GIF\0\1", mime="text/plain"))
    blank = warc_record(http(b" \r\n", mime="text/plain"))
    piece = write(tmp_path, "a.warc.gz", b"".join(map(gzipped, [*parts, text, binary, blank])))
    assert outcomes(batches(piece)) == [*bad.values(), "document", "binary", "empty"]
    assert outcomes(batches(piece, extraction=ExtractionOptions(max_depth=10**6, max_tags=0)))[:2] == [
        "too_many_tags",
        "too_many_tags",
    ]


def misbehaving(folder: Path) -> tuple[Piece, tuple[str, int]]:
    """Three pages, and the place of the one in the middle that the extractors of `raw_files` take badly."""
    data = [page(0), warc_record(http(b"<p>RAISE HANG CRASH")), page(2)]
    return write(folder, "a.warc", b"".join(data)), ("a.warc", len(data[0]))


def test_a_page_that_makes_the_extractor_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "extractor_named", lambda name: raw_files.fail)
    piece, _ = misbehaving(tmp_path)
    assert outcomes(batches(piece)) == ["document", "extractor_raised:KeyError", "document"]


@pytest.mark.parametrize(("extract", "reason"), [("hang", "extractor_timeout"), ("crash", "extractor_crashed")])
def test_a_page_that_kills_the_extractor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extract: str, reason: str
) -> None:
    monkeypatch.setattr(ingestion, "extractor_named", lambda name: getattr(raw_files, extract))
    piece, place = misbehaving(tmp_path)
    with pytest.raises(RecordKilled) as killed:
        batches(piece, extraction=ExtractionOptions(record_timeout_s=3))
    assert (killed.value.raw_file, killed.value.offset, killed.value.reason) == (*place, reason)
    copy = pickle.loads(pickle.dumps(killed.value))  # as it comes back from another machine
    assert (str(copy), copy.offset) == (str(killed.value), place[1])
    found = batches(piece, skips={place: reason})
    assert outcomes(found) == ["document", reason, "document"]
    assert rows_of(found)[1]["raw_bytes"] > 0


def test_every_reader(tmp_path: Path) -> None:
    lines = b'{"text": "one\\ud800"}\n{"text": ""}\n{"no": 1}\n{"text": "two\\u0000"}\n'
    found = batches(write(tmp_path, "a.jsonl", lines), reader="jsonl")
    assert outcomes(found) == ["document", "empty", "missing_text", "document"]
    assert [row["text"] for row in rows_of(found)] == ["one\ufffd", None, None, "two"]
    assert [row["encoding"] for row in rows_of(found)] == ["utf-8", "utf-8", None, "utf-8"]

    wet = warc_record(b"Ein Satz.\n", kind="conversion", content_type="text/plain")
    assert [row["text"] for row in rows_of(batches(write(tmp_path, "a.wet", wet), reader="wet"))] == ["Ein Satz.\n"]

    pieces = [write(tmp_path, "r/a.py", "\ufeffx = 'ü'\n".encode()), write(tmp_path, "r/b.py", b"")]
    latin = "# -*- coding: latin-1 -*-\n# Größe, Maß, Füße, Köln, Übermut\n"
    pieces.append(write(tmp_path, "r/c.py", latin.encode("latin-1")))
    found = batches(*pieces, reader="code")
    assert outcomes(found) == ["document", "empty", "document"]
    assert [row["text"] for row in rows_of(found)] == ["x = 'ü'\n", None, latin]
    assert [row["raw_file"] for row in rows_of(found)] == ["r/a.py", "r/b.py", "r/c.py"]
    assert [row["path"] for row in rows_of(found)] == ["a.py", "b.py", "c.py"]


def test_a_reader_or_extractor_that_is_none(tmp_path: Path) -> None:
    piece = write(tmp_path, "a", b"")
    with pytest.raises(ValueError, match="no reader 'pdf': known are warc, wet, jsonl, parquet, code"):
        batches(piece, reader="pdf")
    with pytest.raises(ValueError, match="no extractor 'lynx'"):
        batches(piece, extraction=ExtractionOptions(extractor="lynx"))


def test_gates_on_the_text(tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"text": "ü" * n}).encode() + b"\n" for n in (1, 4, 5, 9, 10))
    piece = write(tmp_path, "a.jsonl", lines)
    gates = DocumentGates(min_characters=5, max_characters=9, sample_fraction=0.0)
    small, large = "gates.min_characters", "gates.max_characters"
    assert outcomes(batches(piece, reader="jsonl", gates=gates)) == [small, small, "document", "document", large]
    kept = rows_of(batches(piece, reader="jsonl", gates=DocumentGates(5, 9, sample_fraction=1.0)))
    assert [row["text"] for row in kept] == ["ü" * n for n in (1, 4, 5, 9, 10)]
    assert [row["gate"] for row in kept] == [small, small, None, None, large]


def test_the_sample_is_the_asked_share_and_always_the_same() -> None:
    kept = [offset for offset in range(200_000) if keeps_sample("a.warc.gz", offset, 0.001)]
    assert 150 < len(kept) < 250
    assert set(kept) <= {offset for offset in range(200_000) if keeps_sample("a.warc.gz", offset, 0.01)}
    assert kept[:3] == [2603, 2752, 2905]
    assert not keeps_sample("a", 1, 0.0)
    assert all(keeps_sample("a", offset, 1.0) for offset in range(1000))


def test_batches_end_by_the_records_alone(tmp_path: Path) -> None:
    sizes = [10] * 1500 + [3 << 20] * 7 + [10] * 1024
    lines = [json.dumps({"text": chr(97 + i % 26) * size}).encode() + b"\n" for i, size in enumerate(sizes)]
    one = write(tmp_path, "a.jsonl", b"".join(lines))
    rows = [batch.documents.num_rows for batch in batches(one, reader="jsonl")]
    assert rows == [1024, 476 + 3, 3, 1 + 1023, 1]
    several = [write(tmp_path, f"{i}.jsonl", b"".join(lines[i::5])) for i in range(5)]
    assert sum(batch.documents.num_rows for batch in batches(*several, reader="jsonl")) == len(sizes)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Many times the buffers, in one gzip member and in many, and one record far over the limit."""
    long_record = warc_record(http(b"<p>" + bytes(64 << 20)))
    parts = [page(i, 10_000) for i in range(150)]
    forms = {"members": b"".join(map(gzipped, [*parts, long_record])), "one": gzipped(b"".join([*parts, long_record]))}
    options = ReadOptions(max_record_bytes=1 << 20)
    for name, data in forms.items():
        piece = write(tmp_path, name, data)
        del data
        tracemalloc.start()
        count = sum(1 for record in READERS["warc"](piece, options) if record.gate != "gates.mime")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == 151
        assert peak < 8 << 20, (name, peak)


def test_a_part_without_records_is_one_without_rows(tmp_path: Path) -> None:
    assert batches() == []
    requests = warc_record(b"GET /", kind="request") * 3
    (batch,) = batches(write(tmp_path, "a.warc", requests), options=OPEN)
    assert batch.documents == pa.RecordBatch.from_pylist([], schema=DOCUMENTS)
    assert batch.other == {"request": 3}
