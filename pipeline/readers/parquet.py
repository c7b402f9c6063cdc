"""Parquet: one `Record` a row, streamed by row group.

`Record.offset` is the row's number in the file. Row group g belongs to slice g * count // (number of row groups).

Failures: missing_text (a null), invalid_utf8, empty_file, not_parquet; bad_parquet for each row of a row group that
cannot be read, from the batch that breaks on.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenmill.pipeline.readers.records import Piece, ReadOptions, Record
from tokenmill.pipeline.storage import open_url

_ROWS_PER_BATCH = 256


def read_parquet(piece: Piece, options: ReadOptions) -> Iterator[Record]:
    """Records of a Parquet file: `text_column` and the other named columns. Raises ValueError for one it has not."""
    columns = named_columns(options)
    for item in table_rows(piece, options.text_column, columns):
        if isinstance(item, Record):
            yield item
            continue
        row, raw, named = item
        record = Record(row, **named)
        record.licence = record.licence or options.licence
        record.raw_bytes = 0 if raw is None else len(raw)
        if raw is None:
            record.failure = "missing_text"
        elif options.max_record_bytes is not None and len(raw) > options.max_record_bytes:
            record.gate = "gates.max_record_bytes"
        else:
            try:
                record.content = raw.decode()
            except UnicodeDecodeError:
                record.failure = "invalid_utf8"
        yield record


def named_columns(options: ReadOptions) -> dict[str, str]:
    """The columns asked for beside the text, by the `Record` field they fill."""
    columns = {
        "url": options.url_column,
        "date": options.date_column,
        "repository": options.repository_column,
        "path": options.path_column,
        "licence": options.licence_column,
    }
    return {field: column for field, column in columns.items() if column is not None}


def table_rows(
    piece: Piece, content_column: str, columns: dict[str, str]
) -> Iterator[Record | tuple[int, bytes | None, dict[str, Any]]]:
    """Rows of the slice: (row number, content as bytes, named columns as text), or a failure.

    Args:
        piece: the file.
        content_column: text or binary.
        columns: column by the `Record` field it fills.

    Raises:
        ValueError: a column is not there, or the content is neither text nor binary; names the file and both.
    """
    wanted = list(dict.fromkeys([content_column, *columns.values()]))
    for item in _batches(
        piece, lambda schema: _check(piece.file.url, schema, content_column, columns.values()), wanted
    ):
        if isinstance(item, Record):
            yield item
            continue
        first_row, batch = item
        contents = _as_bytes(batch.column(content_column))
        named = {field: _as_text(batch.column(column)) for field, column in columns.items()}
        for i in range(batch.num_rows):
            yield first_row + i, contents[i].as_py(), {field: values[i] for field, values in named.items()}


def object_rows(
    piece: Piece, options: ReadOptions, needed: Iterable[str], known: Iterable[str]
) -> Iterator[tuple[Record, dict[str, Any] | None]]:
    """Each row's record, with its place, and its columns as an object; None where the record failed or is gated.

    Args:
        piece: the file.
        options: the gate on size: bytes of all the strings of a row.
        needed: columns that must be there.
        known: columns that are read where they are there.

    Raises:
        ValueError: a needed column is not there, or none of the known.
    """
    needed, known = list(needed), list(known)
    read: list[str] = []

    def check(schema: pa.Schema) -> None:
        _check_there(piece.file.url, schema, needed)
        read.extend(name for name in schema.names if name in needed or name in known)
        if not any(name in known for name in read):
            raise ValueError(
                f"{piece.file.url} has none of the columns that conversations are kept in; it has "
                f"{', '.join(map(repr, schema.names))}: name them in the recipe, `chat: {{shape: …, columns: …}}`"
            )

    for item in _batches(piece, check, read):
        if isinstance(item, Record):
            yield item, None
            continue
        for i, value in enumerate(_objects(item[1])):
            record = Record(item[0] + i, raw_bytes=_string_bytes(value))
            if value is None:
                record.failure = "invalid_utf8"
            elif options.max_record_bytes is not None and record.raw_bytes > options.max_record_bytes:
                record.gate, value = "gates.max_record_bytes", None
            yield record, value


def _objects(batch: pa.RecordBatch) -> list[dict[str, Any] | None]:
    """Rows as objects; None for one that is not UTF-8, which Arrow takes a file's word for."""
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        half = batch.num_rows // 2
        return [*_objects(batch.slice(0, half)), *_objects(batch.slice(half))]


def _string_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode(errors="replace"))
    if isinstance(value, dict):
        return sum(map(_string_bytes, value.values()))
    return sum(map(_string_bytes, value)) if isinstance(value, list) else 0


def _batches(
    piece: Piece, check: Callable[[pa.Schema], None], columns: list[str]
) -> Iterator[Record | tuple[int, pa.RecordBatch]]:
    """Rows of the slice's row groups, with the number of the first of them, or failures.

    Args:
        piece: the file.
        check: raises ValueError unless the columns suit; it may fill `columns`.
        columns: to be read.
    """
    with open_url(piece.file.url) as file:
        try:
            table = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError):
            if piece.index == 0:
                yield Record(0, failure="not_parquet" if file.seek(0, 2) else "empty_file")
            return
        check(table.schema_arrow)
        first_row, groups = 0, table.num_row_groups
        if table.metadata.num_rows == 0 and piece.index == 0:
            yield Record(0, failure="empty_file")
        for group in range(groups):
            rows = table.metadata.row_group(group).num_rows
            if group * piece.count // groups == piece.index:
                yield from _group_batches(table, group, first_row, rows, columns)
            first_row += rows


def _group_batches(
    table: Any, group: int, first_row: int, rows: int, columns: list[str]
) -> Iterator[Record | tuple[int, pa.RecordBatch]]:
    row = first_row
    batches = table.iter_batches(_ROWS_PER_BATCH, row_groups=[group], columns=columns, use_threads=False)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (pa.ArrowInvalid, OSError):
            break
        yield row, batch
        row += batch.num_rows
    yield from (Record(lost, failure="bad_parquet") for lost in range(row, first_row + rows))


def _as_bytes(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    # Arrow takes a file's word that text is UTF-8; as bytes it is checked row by row.
    return column.cast(pa.large_binary())


def _as_text(column: pa.Array) -> list[str | None]:
    values = column.to_pylist() if not _is_text(column.type) else _as_bytes(column).to_pylist()
    return [value.decode(errors="replace") if isinstance(value, bytes) else _text(value) for value in values]


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return None if value is None else str(value)


def _is_text(dtype: pa.DataType) -> bool:
    kind = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return any(
        test(kind)
        for test in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
        )
    )


def _check(url: str, schema: pa.Schema, content_column: str, others: Iterable[str]) -> None:
    _check_there(url, schema, (content_column, *others))
    dtype = schema.field(content_column).type
    if not _is_text(dtype):
        raise ValueError(
            f"column {content_column!r} of {url} is {dtype}, not text or binary: name the column that holds the text"
        )


def _check_there(url: str, schema: pa.Schema, columns: Iterable[str]) -> None:
    for column in columns:
        if schema.get_field_index(column) < 0:
            near = difflib.get_close_matches(column, schema.names, n=len(schema.names), cutoff=0.0)
            raise ValueError(
                f"{url} has no column {column!r}; it has {', '.join(map(repr, near))} (nearest first): "
                "name one of them in the recipe"
            )
