"""Reader `chat`: JSONL and Parquet, places, what fails, size."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.pipeline.raw_files import piece_of, sliced, write
from tokenmill.pipeline.chat.conversation import Turn
from tokenmill.pipeline.chat.shapes import Shape
from tokenmill.pipeline.readers.chat import read_chat
from tokenmill.pipeline.readers.jsonl import read_jsonl
from tokenmill.pipeline.readers.records import Piece, ReadOptions, Record

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}


def dialogue(question: str, answer: str, **others: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, **others}


def lines(*values: object) -> bytes:
    return b"".join((value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n" for value in values)


def outcomes(records: list[Record]) -> list[str | None]:
    return [record.failure or record.gate or record.other or record.content for record in records]


BAD = {
    b"{not json": "not_json",
    b"[1]": "not_an_object",
    b'{"messages": "\xff"}': "invalid_utf8",
    b"": "blank_line",
    b'{"text": "x"}': "chat.unknown_shape",
    b'{"messages": [{"role": "user", "content": "x"}]}': "chat.no_answer",
}


@pytest.mark.parametrize("codec", COMPRESS)
def test_lines_keep_their_places(tmp_path: Path, codec: str):
    data = lines(dialogue("a?", "b"), *BAD, dialogue("ü?", "c", url="http://a/", id=7))
    piece = write(tmp_path, "a.jsonl", COMPRESS[codec](data))
    records = list(read_chat(piece, ReadOptions(url_column="url", licence="MIT")))
    assert outcomes(records) == ["a?\n\nb", *BAD.values(), "ü?\n\nc"]
    assert records[-1].conversation is not None
    assert records[-1].conversation.turns == (Turn("user", "ü?"), Turn("assistant", "c"))
    assert [(record.url, record.licence, record.id) for record in records if record.content] == [
        (None, "MIT", None),
        ("http://a/", "MIT", "7"),
    ]
    assert records[-2].detail == "the last turn, 0, is user's"
    places = [(record.offset, record.raw_bytes) for record in records]
    assert places == [(record.offset, record.raw_bytes) for record in read_jsonl(piece, ReadOptions())]


def test_a_broken_stream_and_an_empty_file(tmp_path: Path):
    cut = write(tmp_path, "a.jsonl.gz", gzip.compress(lines(*(dialogue(str(n), "b" * n) for n in range(999))))[:-30])
    assert outcomes(list(read_chat(cut, ReadOptions())))[-1] == "truncated_gzip"
    assert outcomes(list(read_chat(write(tmp_path, "b.jsonl", b""), ReadOptions()))) == ["empty_file"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_slices_of_jsonl_cover_each_line_once(tmp_path: Path, count: int):
    piece = write(tmp_path, "a.jsonl", lines(*(dialogue(f"question {n}", "x" * n) for n in range(40))))
    found = [record for part in sliced(piece, count) for record in read_chat(part, ReadOptions())]
    assert found == list(read_chat(piece, ReadOptions()))


def test_an_answer_of_two_megabytes_is_an_answer_and_a_gate_holds_it(tmp_path: Path):
    record = dialogue("Write a book.", "word " * 400_000)
    piece = write(tmp_path, "a.jsonl", lines(record))
    (found,) = read_chat(piece, ReadOptions())
    assert found.conversation is not None
    assert len(found.conversation.turns[1].content) == 2_000_000
    assert outcomes(list(read_chat(piece, ReadOptions(max_record_bytes=1 << 20)))) == ["gates.max_record_bytes"]
    table = parquet(tmp_path, pa.Table.from_pylist([record]))
    assert outcomes(list(read_chat(table, ReadOptions()))) == [found.content]
    assert outcomes(list(read_chat(table, ReadOptions(max_record_bytes=1 << 20)))) == ["gates.max_record_bytes"]


def parquet(folder: Path, table: pa.Table, **options: Any) -> Piece:
    pq.write_table(table, folder / "a.parquet", **options)
    return piece_of(folder / "a.parquet")


def test_parquet_of_lists_of_structs(tmp_path: Path):
    call = {"function": {"name": "f", "arguments": "{}"}}
    calling = dialogue("a?", "b")
    calling["messages"][1] |= {"content": None, "tool_calls": [call]}
    rows = [dialogue("ü?", "b", id=3), calling, {"messages": None}, dialogue("a?", "")]
    piece = parquet(tmp_path, pa.Table.from_pylist(rows), row_group_size=1)
    records = list(read_chat(piece, ReadOptions()))
    assert outcomes(records) == ["ü?\n\nb", "a?\n\n", "chat.unknown_shape", "chat.empty_answer"]
    assert [record.offset for record in records] == [0, 1, 2, 3]
    assert records[0].raw_bytes == len("userü?assistantb".encode())
    assert records[0].id == "3"
    assert records[1].conversation is not None
    called = {"function": {"name": "f", "arguments": {}}}
    assert records[1].conversation.turns[1].fields == {"tool_calls": [called]}
    halves = [record for part in sliced(piece, 2) for record in read_chat(part, ReadOptions())]
    assert halves == records


def test_parquet_that_is_not_utf8_costs_its_row(tmp_path: Path):
    prompts = pa.array([b"good", b"\xff\xfe", b"fine"], pa.binary()).view(pa.string())
    piece = parquet(tmp_path, pa.table({"prompt": prompts, "response": ["x", "y", "z"]}))
    assert outcomes(list(read_chat(piece, ReadOptions()))) == ["good\n\nx", "invalid_utf8", "fine\n\nz"]


def test_parquet_without_the_columns_is_an_error_that_names_them(tmp_path: Path):
    piece = parquet(tmp_path, pa.table({"dialog": ["x"], "text": ["y"]}))
    with pytest.raises(ValueError, match=r"a\.parquet has none of the columns.*'dialog', 'text'"):
        list(read_chat(piece, ReadOptions()))
    with pytest.raises(ValueError, match=r"a\.parquet has no column 'dialogue'; it has 'dialog'"):
        list(read_chat(piece, ReadOptions(chat=Shape(columns={"messages": "dialogue"}))))


def test_what_was_read_is_kept_where_it_is_asked_for(tmp_path: Path):
    data = lines(dialogue("a?", "b"), *BAD)
    records = list(read_chat(write(tmp_path, "a.jsonl", data), ReadOptions(keep_raw=True)))
    raw = [line.decode(errors="backslashreplace") or None for line in data.splitlines()]
    assert [record.raw for record in records] == raw
    piece = parquet(tmp_path, pa.Table.from_pylist([dialogue("a?", "")]))
    (record,) = read_chat(piece, ReadOptions(keep_raw=True))
    assert json.loads(record.raw or "") == dialogue("a?", "")
