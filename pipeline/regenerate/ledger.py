"""The ledger: requests and what came of them, at rest; it is only ever added to, but for what is erased.

    tail/<hash>.jsonl     answers as they came, some at a time: durable as soon as `record` returns
    parts/<hash>.parquet  4,096 of them each, of ASKED: `fold` makes a part of what is in the tail, then clears the tail

Both kinds of files are written atomically and named by what is in them. A process that is killed leaves a tail, which
the next one folds; killed between a part and the clearing of its tail, it leaves rows twice, which is harmless, and so
are two processes at work in one ledger: they may ask the same, and the earliest answer counts for both.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.schemas import ASKED
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import one_chunk, open_groups, read_table, write_table

I64 = npt.NDArray[np.int64]
_TAIL, _PARTS = "tail", "parts"
#: A part is made of so many answers, or of so much text.
_PART_ROWS = 4096
_PART_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Known:
    """What the ledger has, a place for each request.

    Attributes:
        requests: binary16[n], each once.
        failed: bool[n], whether there is no answer to it, but failures.
        files: int64[n], index into `paths`.
        rows: int64[n], row in that file.
        paths: of the parts.
    """

    requests: pa.Array
    failed: npt.NDArray[np.bool_]
    files: I64
    rows: I64
    paths: list[str]

    def places(self, requests: pa.Array) -> I64:
        """The place of each of m requests, int64[m]; -1 where it was never asked."""
        found = pc.fill_null(pc.index_in(requests, value_set=self.requests), -1)
        places: I64 = found.to_numpy().astype(np.int64)
        return places

    def answered(self, requests: pa.Array) -> npt.NDArray[np.bool_]:
        """Whether each of m requests has an answer."""
        places = self.places(requests)
        there: npt.NDArray[np.bool_] = places >= 0
        there[there] = ~self.failed[places[there]]
        return there


class Ledger:
    """A ledger that is added to."""

    def __init__(self, storage: Storage) -> None:
        """Open a folder, and fold what a killed process left in it."""
        self._storage = storage
        self._rows: list[Mapping[str, Any]] = []
        self._tail: list[str] = []
        self._bytes = 0
        for path in storage.sizes(_TAIL):
            with suppress(FileNotFoundError):  # another process folded it, and its rows are in a part
                lines = storage.read(path).decode().split("\n")[:-1]  # texts may hold other ends of lines
                self._rows += [_from_line(line) for line in lines]
                self._tail.append(path)
        self.fold()

    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows of ASKED; they are at rest when it returns."""
        data = b"".join(_to_line(row) for row in rows)
        with self._storage.temporary() as draft:
            draft.file.write(data)
            self._tail.append(draft.commit(f"{_TAIL}/{{hash}}.jsonl").path)
        self._rows += rows
        self._bytes += len(data)
        if len(self._rows) >= _PART_ROWS or self._bytes >= _PART_BYTES:
            self.fold()

    def fold(self) -> None:
        """Make a part of what is in the tail."""
        if self._rows:
            write_table(self._storage, _PARTS, f"{_PARTS}/{{hash}}.parquet", pa.Table.from_pylist(self._rows, ASKED))
        for path in self._tail:
            self._storage.delete(path)
        self._rows, self._tail, self._bytes = [], [], 0

    def forget(self, documents: set[str]) -> None:
        """Take out the rows of some documents, "part:row"; fold first. Parts that hold none stay as they are."""
        gone = pa.array(sorted(documents), pa.string())
        for path in [path for path in self._storage.sizes(_PARTS) if path.endswith(".parquet")]:
            table = read_table(self._storage, path)
            left = table.filter(pc.invert(pc.is_in(table.column("document"), value_set=gone)))
            if left.num_rows == table.num_rows:
                continue
            if left.num_rows:
                write_table(self._storage, _PARTS, f"{_PARTS}/{{hash}}.parquet", left.combine_chunks())
            self._storage.delete(path)

    def known(self) -> Known:
        """What is in the parts; fold first."""
        paths = [path for path in self._storage.sizes(_PARTS) if path.endswith(".parquet")]
        tables = [read_table(self._storage, path, ["request", "failure", "known"]) for path in paths]
        table = pa.concat_tables([ASKED.empty_table().select(["request", "failure", "known"]), *tables])
        failed = one_chunk(table.column("failure")).is_valid().to_numpy(zero_copy_only=False)
        when = table.column("known").to_numpy()
        sizes = [each.num_rows for each in tables]
        files = np.repeat(np.arange(len(tables)), sizes).astype(np.int64)
        rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(size) for size in sizes)]).astype(np.int64)
        # answers before failures, the earliest answer and the latest failure first
        order = np.lexsort([rows, files, np.where(failed, -when, when), failed])
        requests = one_chunk(table.column("request")).take(pa.array(order))
        codes = requests.dictionary_encode().indices.to_numpy(zero_copy_only=False)
        firsts = np.unique(codes, return_index=True)[1]
        best = order[firsts]
        return Known(requests.take(pa.array(firsts)), failed[best], files[best], rows[best], paths)

    def read(self, known: Known, places: I64) -> list[dict[str, Any]]:
        """The rows at some places, but for their `body`."""
        columns = [name for name in ASKED.names if name != "body"]
        found: list[dict[str, Any]] = [{}] * len(places)
        files = known.files[places]
        for file in np.unique(files).tolist():
            mine = np.flatnonzero(files == file)
            for at, row in zip(mine.tolist(), self._read(known, file, places[mine], columns), strict=True):
                found[at] = row
        return found

    def _read(self, known: Known, file: int, places: I64, columns: list[str]) -> list[dict[str, Any]]:
        rows = known.rows[places]
        with open_groups(self._storage, known.paths[file]) as groups:
            tables = [groups.read(index, columns) for index in range(len(groups))]
        return [dict(row) for row in pa.Table.from_batches(tables).take(pa.array(rows)).to_pylist()]


def _to_line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps({**row, "request": row["request"].hex()}, ensure_ascii=False) + "\n").encode()


def _from_line(line: str) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(line)
    return {**row, "request": bytes.fromhex(row["request"])}
