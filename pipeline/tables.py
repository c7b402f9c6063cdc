"""Parquet tables of a part: written row group by row group, read back the same way.

Row group i of every table of a part holds the same rows. The writer gets whole row groups, so a file's bytes depend on
the rows alone, never on how they arrived. Every page has a CRC-32, checked when it is read: flipped bits pass zstd.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.storage import Draft, Storage


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array; it is copied only where it has several."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


class TableWriter:
    """Writes one Parquet file; `close` commits it."""

    def __init__(self, draft: Draft, schema: pa.Schema) -> None:
        self._draft = draft
        self._writer = pq.ParquetWriter(
            draft.file,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=False,  # a row group has few rows: zstd does as well on what repeats, better on what doesn't
            write_statistics=True,
            store_schema=True,
            write_page_checksum=True,
        )
        self.rows = 0

    def write_group(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Append `batch` as one row group; one without rows adds none."""
        if batch.num_rows == 0:
            return
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch.combine_chunks()
        self._writer.write_table(table, row_group_size=table.num_rows)
        self.rows += table.num_rows

    def close(self) -> None:
        """Finish the file where it lies; more than once is harmless."""
        self._writer.close()

    def commit(self, name: str, path: str, detail: Mapping[str, Any] | None = None, *, replace: bool = True) -> Output:
        """Finish the file and put it at `path`; see `Draft.commit`."""
        self.close()
        stored = self._draft.commit(path, replace=replace)
        return Output(name, stored.path, stored.bytes, stored.hash, dict(detail or {}))


@contextmanager
def new_table(storage: Storage, schema: pa.Schema) -> Iterator[TableWriter]:
    """A table to write; not committed, it leaves nothing behind."""
    with storage.temporary() as draft:
        writer = TableWriter(draft, schema)
        try:
            yield writer
        finally:
            writer.close()


def write_table(
    storage: Storage, name: str, path: str, table: pa.Table, *, group_rows: int = 1 << 16, replace: bool = True
) -> Output:
    """Write a whole table as row groups of so many rows; see `Draft.commit`."""
    with new_table(storage, table.schema) as writer:
        for start in range(0, table.num_rows, group_rows):
            writer.write_group(table.slice(start, group_rows))
        return writer.commit(name, path, replace=replace)


def read_table(storage: Storage, path: str, columns: list[str] | None = None) -> pa.Table:
    """The whole table, or some columns of it. Raises ValueError naming a file that is damaged."""
    with storage.open(path) as file, _named(storage, path):
        opened = pq.ParquetFile(file, page_checksum_verification=True)
        return _whole(opened.read(columns=columns, use_threads=False), opened.metadata.num_rows)


@contextmanager
def open_groups(storage: Storage, path: str) -> Iterator["GroupReader"]:
    """Row groups of a table, read one at a time. Raises ValueError naming a damaged file, here or in `read`."""
    with storage.open(path) as file:
        with _named(storage, path):
            opened = pq.ParquetFile(file, page_checksum_verification=True)
        yield GroupReader(opened, storage, path)


@contextmanager
def _named(storage: Storage, path: str) -> Iterator[None]:
    """Name the file in what goes wrong while it is read. Nothing but reading belongs inside."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"cannot read {storage.url(path)}: {error}; if it is damaged (`tokenmill verify` says which files of a run "
            "are), delete it and run that run's recipe again: its task writes it anew"
        ) from error


def _whole(table: pa.Table, rows: int) -> pa.Table:
    """The table, if it has so many rows: a damaged page header, which no CRC covers, may say that a page has none."""
    if table.num_rows != rows:
        raise pa.ArrowInvalid(f"{table.num_rows} rows were found, the footer says {rows}")
    table.validate()
    return table


class GroupReader:
    """Row groups of an open Parquet file."""

    def __init__(self, file: pq.ParquetFile, storage: Storage, path: str) -> None:
        self._file = file
        self._storage = storage
        self._path = path

    def __len__(self) -> int:
        return int(self._file.num_row_groups)

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the table."""
        return self._file.schema_arrow

    @property
    def group_rows(self) -> list[int]:
        """Rows of each row group."""
        return [self._file.metadata.row_group(index).num_rows for index in range(len(self))]

    def check_places(self, file_bytes: int) -> None:
        """Raise ValueError unless the footer puts all columns' pages into a file of so many bytes."""
        footer = self._file.metadata
        chunks = [
            footer.row_group(group).column(column)
            for group in range(footer.num_row_groups)
            for column in range(footer.num_columns)
        ]
        with _named(self._storage, self._path):
            if any(not 4 <= chunk.data_page_offset <= file_bytes - chunk.total_compressed_size for chunk in chunks):
                raise pa.ArrowInvalid("pages lie outside the file")
            if sum(self.group_rows) != footer.num_rows:
                raise pa.ArrowInvalid(f"row groups have {sum(self.group_rows)} rows, the footer says {footer.num_rows}")

    def read(self, index: int | range, columns: list[str] | None = None) -> pa.RecordBatch:
        """Row group `index`, or several in a row, as one record batch."""
        groups = [index] if isinstance(index, int) else list(index)
        with _named(self._storage, self._path):
            table = self._file.read_row_groups(groups, columns=columns, use_threads=False)
            _whole(table, sum(self._file.metadata.row_group(group).num_rows for group in groups))
        return pa.RecordBatch.from_arrays(
            [one_chunk(column) for column in table.columns],
            schema=table.schema,
        )
