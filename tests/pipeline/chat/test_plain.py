"""Plain conversations, which a kernel reads: the same rows as Python's own reader makes, and that they are plain."""

import gzip
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.chat.fixed_lines import GOOD_TURNS, OTHER, PLAIN, RAW_OTHER, RAW_PLAIN, messages, sharegpt
from tests.pipeline.chat.raw_lines import line
from tests.pipeline.raw_files import sliced, write
from tokenmill.filters.urls import UrlRules
from tokenmill.pipeline import row_groups
from tokenmill.pipeline.chat.plain import plain_of, read_plain
from tokenmill.pipeline.chat.shapes import Shape
from tokenmill.pipeline.extraction import ExtractionOptions
from tokenmill.pipeline.ingestion import READERS, DocumentGates, ingest
from tokenmill.pipeline.readers import inflate, lines
from tokenmill.pipeline.readers.records import Piece, ReadOptions
from tokenmill.pipeline.row_groups import IngestBatch

#: With a record on the skip list, which no file has, every line is read by Python.
SKIPS = {("elsewhere", 0): "extractor_crashed"}
OPTIONS, GATES = ReadOptions(), DocumentGates()
ROLES = Shape(roles={"Mensch": "user", "": "tool", "gpt": "system"})


def read(
    pieces: Sequence[Piece], options: ReadOptions = OPTIONS, gates: DocumentGates = GATES, *, by_python: bool = False
) -> list[IngestBatch]:
    return list(ingest(pieces, "chat", options, ExtractionOptions(), gates, SKIPS if by_python else {}))


def assert_same(found: Sequence[IngestBatch], expected: Sequence[IngestBatch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.turns is not None
        one.documents.validate(full=True)
        one.turns.validate(full=True)
        assert one.documents.equals(other.documents, check_metadata=True)
        assert one.turns.equals(other.turns, check_metadata=True)
        assert one.ids == other.ids
    # Python reads some records ahead, and so may count a blank line with the group before its own
    assert sum((Counter(batch.other) for batch in found), Counter()) == sum(
        (Counter(batch.other) for batch in expected), Counter()
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    count=st.integers(0, 60),
    block=st.sampled_from([1, 200, 1000, 1 << 20]),
    chunk=st.sampled_from([7, 100, 1 << 17]),
    group=st.sampled_from([(1024, 8 << 20), (7, 8 << 20), (1024, 300), (1, 1)]),
    limit=st.sampled_from([None, 150, 16 << 20]),
    characters=st.sampled_from([(None, None), (20, 90), (None, 60), (60, None)]),
    shape=st.sampled_from([Shape(), ROLES, Shape("messages"), Shape("sharegpt"), Shape("verifiable")]),
    packed=st.booleans(),
    slices=st.sampled_from([1, 1, 3]),
)
def test_rows_are_those_of_pythons_reader(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    count: int,
    block: int,
    chunk: int,
    group: tuple[int, int],
    limit: int | None,
    characters: tuple[int | None, int | None],
    shape: Shape,
    packed: bool,
    slices: int,
) -> None:
    rng = random.Random(seed)
    data = b"\n".join(line(rng) for _ in range(count)) + rng.choice([b"", b"\n", b"\r\n"])
    if packed:
        data = gzip.compress(data, 1)[: rng.choice([None, None, -9])]
    pieces = sliced(write(tmp_path_factory.mktemp("plain"), "a.jsonl", data), slices)
    options = ReadOptions(max_record_bytes=limit, chat=shape, licence=rng.choice([None, "MIT\x00"]))
    gates = DocumentGates(*characters, sample_fraction=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_groups, "ROWS_PER_GROUP", group[0])
        patch.setattr(row_groups, "TEXT_BYTES_PER_GROUP", group[1])
        expected = read(pieces, options, gates, by_python=True)
        patch.setattr(lines, "BLOCK_BYTES", block)
        patch.setattr(inflate, "_OUTPUT_BYTES", chunk)
        assert_same(read(pieces, options, gates), expected)


def are_plain(data: bytes, shape: Shape) -> list[bool]:
    """Of each line."""
    plain = plain_of(shape)
    assert plain is not None
    found = read_plain(data, plain)
    said = dict.fromkeys(found.starts.tolist(), True) | dict.fromkeys(found.others[:, 0].tolist(), False)
    return [said[start] for start in sorted(said)]


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_what_is_plain(tmp_path: Path, ensure_ascii: bool) -> None:
    """And what is not; each line stands at the end of a block once, where eight bytes are not to be had."""
    known = [(json.dumps(value, ensure_ascii=ensure_ascii), True) for value in PLAIN.values()]
    known += [(json.dumps(value, ensure_ascii=ensure_ascii), False) for value in OTHER.values()]
    raw = [(text.encode(errors="surrogatepass"), is_plain) for text, is_plain in known]
    raw += [(data, True) for data in RAW_PLAIN]
    raw += [(data, False) for data in RAW_OTHER]
    expected = [is_plain for _, is_plain in raw]
    assert [are_plain(each + b"\n", Shape()) for each, _ in raw] == [[is_plain] for is_plain in expected]
    good = raw[0][0] + b"\n"  # lest so many odd lines in a row make the kernel give up
    data = b"".join(good + each + b"\n" for each, _ in raw)
    assert are_plain(data, Shape()) == [found for is_plain in expected for found in (True, is_plain)]
    piece = write(tmp_path, "a", data)
    assert_same(read([piece]), read([piece], by_python=True))


def test_there_is_room_for_the_shortest_turns() -> None:
    turns = ['{"from":"u","value":"?"}', '{"from":"a","value":"!"}'] + ['{"from":"","value":""}'] * 5000
    data = ('{"conversations":[' + ",".join(turns) + ',{"from":"a","value":"!"}]}\n').encode()
    plain = plain_of(Shape(roles={"u": "user", "a": "assistant", "": "tool"}))
    assert plain is not None
    data = data.replace(b'"!"', b'"<tool_call>"', 1)
    found = read_plain(data, plain)
    assert found.turns.tolist() == [0, len(turns) + 1]
    assert found.turn_roles.tolist() == [1, 2, *[3] * 5000, 2]
    assert (len(turns) + 1) * 24 > len(data)


@pytest.mark.parametrize("group", [(7, 1 << 20), (1024, 90), (5, 60)])
def test_row_groups_end_where_they_do_for_python(
    tmp_path: Path, group: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of plain lines and of others, each longer than a group and shorter; those of a text, and of none."""
    rng = random.Random(11)
    monkeypatch.setattr(row_groups, "ROWS_PER_GROUP", group[0])
    monkeypatch.setattr(row_groups, "TEXT_BYTES_PER_GROUP", group[1])
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1500)
    monkeypatch.setattr(inflate, "_OUTPUT_BYTES", 700)
    told = []
    for run in range(80):
        others = rng.choice(
            [{}, {"id": f"run {run}"}, {"tools": []}, {"tools": [], "id": None}, {"tools": 1, "id": "x"}]
        )
        told += [messages("q" * rng.randint(1, 20), "a", **others) for _ in range(rng.choice([1, 2, 3, 20]))]
    data = b"".join(json.dumps(each).encode() + b"\n" for each in told)
    piece = write(tmp_path, "a", data)
    assert 0.2 < np.mean(are_plain(data, Shape())) < 0.8
    assert_same(read([piece, piece]), read([piece, piece], by_python=True))


def test_the_kernel_gives_up_where_no_line_is_plain() -> None:
    good, other = (b"{%s}\n" % data for data in (GOOD_TURNS, b""))
    assert are_plain((other * 63 + good) * 2, Shape()) == ([False] * 63 + [True]) * 2
    assert are_plain(other * 64 + good, Shape()) == [False] * 65


def test_the_recipe_says_what_is_plain() -> None:
    data = b"".join(json.dumps(value).encode() + b"\n" for value in (messages("a", "b"), sharegpt("a", "b")))
    assert are_plain(data, Shape()) == [True, True]
    assert are_plain(data, Shape("messages")) == [True, False]
    assert are_plain(data, Shape("sharegpt")) == [False, True]
    assert are_plain(data, Shape(roles={"gpt": "tool"})) == [True, False]
    assert plain_of(Shape("alpaca")) is None
    assert plain_of(Shape(columns={"messages": "turns"})) is None


@pytest.mark.parametrize(
    ("options", "gates"),
    [
        (ReadOptions(url_column="url"), GATES),
        (ReadOptions(licence_column="l"), GATES),
        (ReadOptions(keep_raw=True), GATES),
        (ReadOptions(chat=Shape(columns={"id": "name"})), GATES),
        (OPTIONS, DocumentGates(urls=UrlRules(np.zeros(0, np.uint64), np.zeros(0, np.uint64), frozenset()))),
    ],
)
def test_what_asks_for_more_is_read_by_python(
    tmp_path: Path, options: ReadOptions, gates: DocumentGates, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = messages("a", "b", url="http://a/", l="MIT", name="n", id="i")
    piece = write(tmp_path, "a", json.dumps(said).encode() + b"\n")
    expected = read([piece], options, gates, by_python=True)
    asked: list[Piece] = []
    by_python = READERS["chat"]
    monkeypatch.setitem(READERS, "chat", lambda *said: asked.append(said[0]) or by_python(*said))
    assert_same(read([piece], options, gates), expected)
    assert asked == [piece]
    assert_same(read([piece]), read([piece], by_python=True))
    assert asked == [piece] * 2  # by the second of them
