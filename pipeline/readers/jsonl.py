"""JSONL, plain or in gzip, zstd or lz4 (told by its first bytes): one `Record` a line.

`Record.offset` is the byte offset of the line in the uncompressed stream. A plain file can be sliced: a line belongs to
the slice in which it starts.

Failures: not_json, not_an_object, missing_text, text_not_a_string, invalid_utf8, empty_file; and, where the stream
itself breaks, truncated_gzip, bad_gzip, truncated_zstd, bad_zstd, bad_lz4, at the line that is cut.
"""

import json
from collections.abc import Generator, Iterator, Mapping
from typing import Any, NamedTuple

from tokenmill.pipeline.readers.inflate import CorruptStreamError, chunks, detect_codec
from tokenmill.pipeline.readers.records import Piece, ReadOptions, Record
from tokenmill.pipeline.storage import open_url

_BOM = b"\xef\xbb\xbf"


class _Line(NamedTuple):
    """A line without its end; `data` is None when it is over the limit."""

    offset: int
    size: int
    data: bytes | None


def read_jsonl(piece: Piece, options: ReadOptions) -> Iterator[Record]:
    """Records of a JSONL file: `text_column` and the other named keys of each line's object."""
    for record, value in json_lines(piece, options):
        if value is not None:
            _fill(record, value, options)
        yield record


def json_lines(piece: Piece, options: ReadOptions) -> Iterator[tuple[Record, dict[str, Any] | None]]:
    """Each line's record, with its place, and its object; None where it has none, and the record says why."""
    with open_url(piece.file.url) as file:
        codec = detect_codec(file)
        begin, end = (0, None) if piece.count == 1 or codec != "plain" else piece.byte_range
        if piece.index > 0 and (codec != "plain" or begin == end):
            return
        # A slice looks at the byte before it: when that ends a line, the slice's first line starts at `begin`.
        start = max(0, begin - 1)
        data = (block for block in chunks(file, codec, start) if isinstance(block, bytes))
        lines = _lines(data, start, options.max_record_bytes)
        if begin > 0:
            next(lines, None)
        seen = False
        for item in lines:
            if isinstance(item, _Line) and end is not None and item.offset >= end:
                return
            seen = True
            yield _parsed(item, options.keep_raw) if isinstance(item, _Line) else (item, None)
        if not seen and begin == 0:
            yield Record(0, failure="empty_file"), None


def _lines(blocks: Iterator[bytes], start: int, limit: int | None) -> Iterator[_Line | Record]:
    """Lines of the stream; at last a failure at the line that was being read, when the stream breaks."""
    offset, held, size = start, bytearray(), 0
    blocks_or_error = _until_broken(blocks)
    while True:
        try:
            block = next(blocks_or_error)
        except StopIteration as end:
            broken: CorruptStreamError | None = end.value
            break
        position = 0
        while (line_end := block.find(b"\n", position)) >= 0:
            size += line_end - position
            fits = limit is None or size <= limit
            if fits:
                held += memoryview(block)[position:line_end]
            yield _Line(offset, size, bytes(held) if fits else None)
            offset, position, size = offset + size + 1, line_end + 1, 0
            held.clear()
        size += len(block) - position
        if limit is None or size <= limit:
            held += memoryview(block)[position:]
        else:
            held.clear()
    if broken is not None:
        yield Record(offset, raw_bytes=size, failure=broken.reason)
    elif size:
        yield _Line(offset, size, bytes(held) if limit is None or size <= limit else None)


def _until_broken(blocks: Iterator[bytes]) -> Generator[bytes, None, CorruptStreamError | None]:
    try:
        yield from blocks
    except CorruptStreamError as error:
        return error
    return None


def _parsed(line: _Line, keep_raw: bool) -> tuple[Record, dict[str, Any] | None]:
    record = Record(line.offset, raw_bytes=line.size)
    if line.data is None:
        record.gate = "gates.max_record_bytes"
        return record, None
    data = line.data.removeprefix(_BOM) if line.offset == 0 else line.data
    if not data.strip():
        record.other = "blank_line"
        return record, None
    if keep_raw:
        record.raw = data.decode(errors="backslashreplace")
    try:
        value = json.loads(data.decode())
    except UnicodeDecodeError:
        record.failure = "invalid_utf8"
    except (ValueError, RecursionError):
        record.failure = "not_json"
    else:
        if isinstance(value, dict):
            return record, value
        record.failure = "not_an_object"
    return record, None


def _fill(record: Record, value: dict[str, Any], options: ReadOptions) -> None:
    record.url = named_value(value, options.url_column)
    record.date = named_value(value, options.date_column)
    record.repository = named_value(value, options.repository_column)
    record.path = named_value(value, options.path_column)
    record.licence = named_value(value, options.licence_column) or options.licence
    text = value.get(options.text_column)
    if text is None:
        record.failure = "missing_text"
    elif not isinstance(text, str):
        record.failure = "text_not_a_string"
    else:
        record.content = text


def named_value(value: Mapping[str, Any], column: str | None) -> str | None:
    """The value of a key as text; None where there is none."""
    found = None if column is None else value.get(column)
    if found is None or isinstance(found, str):
        return found
    return str(found) if type(found) is int else json.dumps(found, default=str)
