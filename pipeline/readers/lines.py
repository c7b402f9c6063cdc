"""Lines of a file, plain or in gzip, zstd or lz4 (told by its first bytes), in blocks or one by one.

A plain file can be sliced: a line belongs to the slice in which it starts. Offsets are in the uncompressed stream.
"""

from collections.abc import Generator, Iterator
from typing import NamedTuple

from tokenmill.pipeline.readers.inflate import CorruptStreamError, chunks, detect_codec
from tokenmill.pipeline.readers.records import Piece, Record
from tokenmill.pipeline.storage import open_url

#: Of lines that are held together; a block has a chunk of the file more at most.
BLOCK_BYTES = 1 << 20


class Line(NamedTuple):
    """A line without its end; `data` is None when it is over the limit."""

    offset: int
    size: int
    data: bytes | None


class LineBlock(NamedTuple):
    """Whole lines with their ends: at least one."""

    offset: int
    data: bytes

    def line(self, start: int, end: int, limit: int | None) -> Line:
        """The line whose bytes are start … end of `data`."""
        fits = limit is None or end - start <= limit
        return Line(self.offset + start, end - start, self.data[start:end] if fits else None)

    def lines(self, limit: int | None) -> Iterator[Line]:
        """All of them."""
        start = 0
        while (end := self.data.find(b"\n", start)) >= 0:
            yield self.line(start, end, limit)
            start = end + 1


def read_lines(piece: Piece, limit: int | None) -> Iterator[Line | Record]:
    """Lines of a slice; where the stream breaks a failure at the line that is cut; of an empty file a failure."""
    for item in read_blocks(piece, limit):
        if isinstance(item, LineBlock):
            yield from item.lines(limit)
        else:
            yield item


def read_blocks(piece: Piece, limit: int | None) -> Iterator[LineBlock | Line | Record]:
    """As `read_lines`, but lines come in blocks, unless one is cut short by the end or is longer than `limit` bytes.

    Lines in a block may be over the limit too; those that are not are never held in memory.
    """
    with open_url(piece.file.url) as file:
        codec = detect_codec(file)
        begin, end = (0, None) if piece.count == 1 or codec != "plain" else piece.byte_range
        if piece.index > 0 and (codec != "plain" or begin == end):
            return
        # A slice looks at the byte before it: when that ends a line, the slice's first line starts at `begin`.
        start = max(0, begin - 1)
        data = (block for block in chunks(file, codec, start) if isinstance(block, bytes))
        items = _blocks(data, start, limit)
        if begin > 0:
            items = _without_first(items)
        yield from items if end is None else _starting_before(end, items)


def _without_first(items: Iterator[LineBlock | Line | Record]) -> Iterator[LineBlock | Line | Record]:
    """All but the first line."""
    first = next(items, None)
    if isinstance(first, LineBlock):
        start = first.data.index(b"\n") + 1
        if start < len(first.data):
            yield LineBlock(first.offset + start, first.data[start:])
    yield from items


def _starting_before(end: int, items: Iterator[LineBlock | Line | Record]) -> Iterator[LineBlock | Line | Record]:
    """The lines that start before a byte of the stream."""
    for item in items:
        if item.offset >= end and not isinstance(item, Record):
            return
        if isinstance(item, LineBlock) and item.offset + len(item.data) >= end:
            last = item.data.find(b"\n", end - item.offset - 1) + 1
            yield LineBlock(item.offset, item.data[:last])
            return
        yield item


def _blocks(chunks: Iterator[bytes], start: int, limit: int | None) -> Iterator[LineBlock | Line | Record]:
    """Lines of a stream that begins at `start`; at last a failure at the line being read, if the stream breaks."""
    offset = start
    whole: list[bytes] = []  # lines that have ended
    partial: list[bytes] = []  # the line being read, `size` bytes so far; none of one that is over the limit
    held = size = 0
    until_broken = _until_broken(chunks)
    while True:
        try:
            chunk = next(until_broken)
        except StopIteration as end:
            broken: CorruptStreamError | None = end.value
            break
        ended = chunk.rfind(b"\n") + 1
        if ended and limit is not None and size > limit:
            if whole:
                yield LineBlock(offset, b"".join(whole))
                offset, whole, held = offset + held, [], 0
            first = chunk.index(b"\n")
            yield Line(offset, size + first, None)
            offset += size + first + 1
            chunk, ended = chunk[first + 1 :], ended - first - 1
            size = 0
        if ended:
            whole += (*partial, chunk[:ended])
            held, partial, size = held + size + ended, [], 0
            if held >= BLOCK_BYTES:
                yield LineBlock(offset, b"".join(whole))
                offset, whole, held = offset + held, [], 0
        partial.append(chunk[ended:])
        size += len(chunk) - ended
        if limit is not None and size > limit:
            partial.clear()
    if whole:
        yield LineBlock(offset, b"".join(whole))
    if broken is not None:
        yield Record(offset + held, raw_bytes=size, failure=broken.reason)
    elif size:
        yield Line(offset + held, size, b"".join(partial) if limit is None or size <= limit else None)
    elif offset + held == 0:
        yield Record(0, failure="empty_file")


def _until_broken(blocks: Iterator[bytes]) -> Generator[bytes, None, CorruptStreamError | None]:
    try:
        yield from blocks
    except CorruptStreamError as error:
        return error
    return None
