"""Conversations in JSONL (plain or compressed) or Parquet, told by their first bytes: one `Record` a conversation.

`Record.offset` is that of readers/jsonl.py (byte of the line in the uncompressed stream) or readers/parquet.py (row in
the file), and so are the failures of what is no line or row. A line or row that is no conversation fails with
"chat.…", of pipeline/chat/shapes.py; `Record.detail` says which turn is wrong.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenmill.pipeline.chat.messages import RefusedError
from tokenmill.pipeline.chat.shapes import COLUMNS, conversation_of
from tokenmill.pipeline.chat.turns import text_of
from tokenmill.pipeline.readers.jsonl import json_lines, named_value
from tokenmill.pipeline.readers.parquet import named_columns, object_rows
from tokenmill.pipeline.readers.records import Piece, ReadOptions, Record
from tokenmill.pipeline.storage import open_url


def read_chat(piece: Piece, options: ReadOptions) -> Iterator[Record]:
    """Records of a file: `conversation` holds each one's turns, `content` their text."""
    with open_url(piece.file.url) as file:
        is_parquet = file.read(4) == b"PAR1"
    for record, value in _table_rows(piece, options) if is_parquet else json_lines(piece, options):
        if value is not None:
            _fill(record, value, options)
        yield record


def _table_rows(piece: Piece, options: ReadOptions) -> Iterator[tuple[Record, dict[str, Any] | None]]:
    columns = options.chat.columns
    needed = [*columns.values(), *named_columns(options).values()]
    return object_rows(piece, options, needed, [columns.get(name, name) for name in COLUMNS])


def _fill(record: Record, value: Mapping[str, Any], options: ReadOptions) -> None:
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
        return
    record.conversation, record.content = conversation, text_of(conversation)
