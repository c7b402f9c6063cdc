"""JSONL, plain or in gzip, zstd or lz4 (told by its first bytes): one `Record` a line.

`Record.offset` is the byte offset of the line in the uncompressed stream. A plain file can be sliced: a line belongs to
the slice in which it starts.

Failures: not_json, not_an_object, missing_text, text_not_a_string, invalid_utf8, empty_file; and, where the stream
itself breaks, truncated_gzip, bad_gzip, truncated_zstd, bad_zstd, bad_lz4, at the line that is cut.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenmill.pipeline.readers.lines import Line, read_lines
from tokenmill.pipeline.readers.records import Piece, ReadOptions, Record

_BOM = b"\xef\xbb\xbf"


def read_jsonl(piece: Piece, options: ReadOptions) -> Iterator[Record]:
    """Records of a JSONL file: `text_column` and the other named keys of each line's object."""
    for record, value in json_lines(piece, options):
        if value is not None:
            _fill(record, value, options)
        yield record


def json_lines(piece: Piece, options: ReadOptions) -> Iterator[tuple[Record, dict[str, Any] | None]]:
    """Each line's record, with its place, and its object; None where it has none, and the record says why."""
    for item in read_lines(piece, options.max_record_bytes):
        yield (item, None) if isinstance(item, Record) else parsed_line(item, options.keep_raw)


def parsed_line(line: Line, keep_raw: bool) -> tuple[Record, dict[str, Any] | None]:
    """A line's record and its object; None where it has none."""
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
