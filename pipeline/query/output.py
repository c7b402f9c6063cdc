"""What a query found: a table in a terminal, tab-separated lines in a pipe, JSON, or a Parquet or CSV file."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, TextIO

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokenmill.pipeline.seen import visible
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import new_table

#: Rows and characters of a cell that a terminal is shown; everything else gets all of them.
ROWS_SHOWN = 100
_CHARACTERS_SHOWN = 200


def print_table(reader: pa.RecordBatchReader, console: Console) -> None:
    """The first rows as a table, for people; control characters are shown as what they are."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for field in reader.schema:
        table.add_column(Text(visible(field.name, _CHARACTERS_SHOWN)), justify=_justify(field.type), overflow="fold")
    total = 0
    for row in _rows(reader):
        total += 1
        if total <= ROWS_SHOWN:
            table.add_row(*(Text(visible(_people(value), _CHARACTERS_SHOWN)) for value in row))
    console.print(table)
    if total > ROWS_SHOWN:
        console.print(f"{ROWS_SHOWN} of {total:,} rows; --output FILE.parquet takes all", highlight=False)


def write_separated(reader: pa.RecordBatchReader, sink: TextIO, separator: str) -> int:
    """A line a row, under a line of names; quoted as `csv` does where a cell needs it. Returns the number of rows."""
    writer = csv.writer(sink, delimiter=separator, lineterminator="\n")
    writer.writerow(reader.schema.names)
    total = 0
    for row in _rows(reader):
        writer.writerow(["" if value is None else _text(value) for value in row])
        total += 1
    return total


def write_json(reader: pa.RecordBatchReader, sink: TextIO) -> None:
    """A list of objects, one a row. Numbers that JSON has no sign for are null, bytes are hex."""
    sink.write("[")
    names = _distinct(reader.schema.names)
    for index, row in enumerate(_rows(reader)):
        value = {name: _plain(cell) for name, cell in zip(names, row, strict=True)}
        sink.write(("," if index else "") + "\n  " + json.dumps(value, ensure_ascii=False))
    sink.write("\n]\n")


def write_file(reader: pa.RecordBatchReader, path: str) -> int:
    """Write FILE.parquet or FILE.csv, whole or not at all. Returns the number of rows.

    Raises:
        ValueError: the name ends in neither.
    """
    folder, _, name = path.rpartition("/")
    storage = Storage(folder or ("/" if path.startswith("/") else "."))
    check_output(path)
    if name.endswith(".parquet"):
        with new_table(storage, reader.schema) as writer:
            for batch in reader:
                writer.write_group(batch)
            writer.commit(name, name)
            total = writer.rows
    else:
        with storage.temporary() as draft:
            text = io.TextIOWrapper(draft.file, encoding="utf-8", newline="", write_through=True)
            total = write_separated(reader, text, ",")
            text.detach()
            draft.commit(name)
    storage.forget_drafts()
    return total


def check_output(path: str) -> None:
    """Raise ValueError unless the file is of a kind that is written."""
    if not path.endswith((".parquet", ".csv")):
        raise ValueError(f"--output {path!r}: give a file that ends in .parquet or .csv")


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[Sequence[Any]]:
    for batch in batches:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names as keys of an object: one that comes again gets a number."""
    found: list[str] = []
    for name in names:
        again = sum(1 for other in found if other == name or other.rpartition("_")[0] == name)
        found.append(f"{name}_{again}" if name in found else name)
    return found


def _justify(type_: pa.DataType) -> Any:
    is_number = pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    return "right" if is_number else "left"


def _people(value: Any) -> str:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:,.6g}" if isinstance(value, float) else "" if value is None else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(_plain(value), ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)
