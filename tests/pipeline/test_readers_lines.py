"""Lines of a file in blocks: each line once, whole and in its place, whatever the chunks, the blocks and the limit."""

import gzip
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.raw_files import sliced, write
from tokenmill.pipeline.readers import inflate, lines
from tokenmill.pipeline.readers.lines import Line, LineBlock, read_blocks, read_lines
from tokenmill.pipeline.readers.records import Record


def lines_of(data: bytes, limit: int | None) -> Iterator[Line]:
    offset = 0
    for each in data.split(b"\n"):
        if each or offset < len(data):
            yield Line(offset, len(each), each if limit is None or len(each) <= limit else None)
        offset += len(each) + 1


@settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 0, 1, 5, 30, 300]), max_size=30),
    chunk=st.sampled_from([1, 3, 50, 1 << 17]),
    block=st.sampled_from([1, 40, 400, 1 << 20]),
    limit=st.sampled_from([None, 0, 4, 30, 299]),
    count=st.sampled_from([1, 2, 5]),
    ends=st.booleans(),
    packed=st.booleans(),
)
def test_each_line_once(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    chunk: int,
    block: int,
    limit: int | None,
    count: int,
    ends: bool,
    packed: bool,
) -> None:
    rng = random.Random(len(sizes))
    data = b"\n".join(bytes(rng.choices(b"ab", k=size)) for size in sizes) + b"\n" * ends
    piece = write(tmp_path_factory.mktemp("lines"), "a", gzip.compress(data) if packed else data)
    expected = list(lines_of(data, limit)) or [Record(0, failure="empty_file")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        patch.setattr(inflate, "_OUTPUT_BYTES", chunk)
        slices = [(list(read_lines(each, limit)), list(read_blocks(each, limit))) for each in sliced(piece, count)]
    assert [line for found, _ in slices for line in found] == expected
    size, longest = piece.file.bytes, max(sizes, default=0)
    longest = longest if limit is None else min(longest, limit)
    for index, (found, blocks) in enumerate(slices):
        begin, end = size * index // count, size * (index + 1) // count
        assert packed or all(isinstance(line, Record) or begin <= line.offset < end for line in found)
        for item in blocks:
            if isinstance(item, LineBlock):
                assert item.data.endswith(b"\n")
                assert len(item.data) < block + chunk + longest + 1
                assert data[item.offset : item.offset + len(item.data)] == item.data


def test_a_line_that_is_cut(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The failure stands at its line, and says how much of it was read."""
    rng = random.Random(5)
    data = b"\n".join(bytes(rng.choices(range(11, 256), k=200)) for _ in range(2000))
    piece = write(tmp_path_factory.mktemp("lines"), "a", gzip.compress(data)[:-20_000])
    for limit in (None, 100):
        *found, last = read_lines(piece, limit)
        assert found == list(lines_of(data, limit))[: len(found)]
        assert isinstance(last, Record)
        assert (last.failure, last.offset) == ("truncated_gzip", 201 * len(found))
        assert 0 <= last.raw_bytes <= 200
