"""Conversations in JSONL (plain or compressed) or Parquet, told by their first bytes: one `Record` a conversation.

`Record.offset` is that of readers/jsonl.py (byte of the line in the uncompressed stream) or readers/parquet.py (row in
the file), and so are the failures of what is no line or row. A line or row that is no conversation fails with
"chat.…", of pipeline/chat/shapes.py; `Record.detail` says which turn is wrong.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenmill.pipeline.chat.messages import RefusedError
from tokenmill.pipeline.chat.plain import read_plain
from tokenmill.pipeline.chat.plain_lines import Plain
from tokenmill.pipeline.chat.plain_rows import PlainRows, plain_rows
from tokenmill.pipeline.chat.shapes import COLUMNS, conversation_of
from tokenmill.pipeline.chat.turns import text_of
from tokenmill.pipeline.readers.jsonl import json_lines, named_value, parsed_line
from tokenmill.pipeline.readers.lines import LineBlock, read_blocks
from tokenmill.pipeline.readers.parquet import named_columns, object_rows
from tokenmill.pipeline.readers.records import Piece, ReadOptions, Record
from tokenmill.pipeline.storage import open_url


def read_chat(piece: Piece, options: ReadOptions) -> Iterator[Record]:
    """Records of a file: `conversation` holds each one's turns, `content` their text."""
    if _is_parquet(piece):
        yield from _of_table(piece, options)
        return
    for record, value in json_lines(piece, options):
        yield _filled(record, value, options)


def read_chat_rows(piece: Piece, options: ReadOptions, plain: Plain) -> Iterator[Record | PlainRows]:
    """As `read_chat`, but lines that are `plain` come as rows of tables, of which `options` knows no columns."""
    if _is_parquet(piece):
        yield from _of_table(piece, options)
        return
    for item in read_blocks(piece, options.max_record_bytes):
        if isinstance(item, LineBlock):
            yield from _of_block(item, piece, options, plain)
        else:
            yield item if isinstance(item, Record) else _filled(*parsed_line(item, options.keep_raw), options)


def _of_block(block: LineBlock, piece: Piece, options: ReadOptions, plain: Plain) -> Iterator[Record | PlainRows]:
    """Records of the lines that are not plain, and between them rows of those that are."""
    lines = read_plain(block.data, plain)
    rows = plain_rows(lines, block.data, block.offset, piece.file.path, options.licence)
    done = 0
    for start, end, before in lines.others.tolist():
        if before > done:
            yield rows.part(done, before)
            done = before
        line = block.line(start, end, options.max_record_bytes)
        yield _filled(*parsed_line(line, options.keep_raw), options)
    if rows.end > done:
        yield rows.part(done, rows.end)


def _is_parquet(piece: Piece) -> bool:
    with open_url(piece.file.url) as file:
        return file.read(4) == b"PAR1"


def _of_table(piece: Piece, options: ReadOptions) -> Iterator[Record]:
    columns = options.chat.columns
    needed = [*columns.values(), *named_columns(options).values()]
    for record, value in object_rows(piece, options, needed, [columns.get(name, name) for name in COLUMNS]):
        yield _filled(record, value, options)


def _filled(record: Record, value: Mapping[str, Any] | None, options: ReadOptions) -> Record:
    """The record with the conversation that its object holds, or why there is none; without an object as it is."""
    if value is None:
        return record
    for field, column in named_columns(options).items():
        setattr(record, field, named_value(value, column))
    record.licence = record.licence or options.licence
    record.id = named_value(value, options.chat.columns.get("id", "id"))
    if options.keep_raw and record.raw is None:
        record.raw = json.dumps(value, ensure_ascii=False, default=str)
    try:
        conversation = conversation_of(value, options.chat)
    except RefusedError as error:
        record.failure, record.detail = error.reason, error.detail
    else:
        record.conversation, record.content = conversation, text_of(conversation)
    return record
