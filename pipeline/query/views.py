"""The views of `tokenmill sql`: what each is made of, and how DuckDB reads it.

Parquet tables are read by DuckDB itself, columns and row groups as the query needs them. A document's source and part
come from its file's name, so a filter on them leaves files unread; its row is the row's number in the file. Signal
groups join by part and row, and only groups that a query names are read. `pieces` is made from the sequence shards'
list columns as it is scanned.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokenmill.manifests.receipts import Output, Receipt, receipts_of
from tokenmill.manifests.schemas import CLUSTERS, LEDGER, TAKEDOWN, TURN, TURNS
from tokenmill.pipeline.packed import glanced_pieces
from tokenmill.pipeline.steps.publish import Published, manifest_table
from tokenmill.pipeline.storage import Storage

PIECES = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("part", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("component", pa.string()),  # "source/stratum"
        pa.field("unit", pa.string()),
        pa.field("shard", pa.string()),  # path under the run's root
        pa.field("sequence_row", pa.int64()),  # row in the shard
        pa.field("start", pa.int64()),  # first token of the piece within its document
        pa.field("tokens", pa.int64()),
    ]
)

VIEWS = (
    "documents",
    "turns",
    "signals",
    "decisions",
    "duplicates",
    "clusters",
    "takedown",
    "pieces",
    "shards",
    "tasks",
)

_SOURCE = "string_split(filename, '/')[-2]"
_PART = "parse_filename(filename)[:16]"
#: Of a unit's file: its name begins with the unit's, such as "web-g0-01".
_UNIT_SOURCE = "regexp_extract(parse_filename(filename), '^(.*)-g[0-9]+(-[01]+)?[.]', 1)"
#: Groups whose columns say themselves what they are.
_BARE = ("language", "hashes")
#: Bytes without a meaning for people.
_LEFT_OUT = ("signature",)


@dataclass(frozen=True)
class Asked:
    """What a query names.

    Attributes:
        names: every name in it, in lower case.
        everything: it may use columns that it does not name (`*`).
    """

    names: frozenset[str]
    everything: bool


class Views:
    """The views over one version of a run; nothing is read before a query asks for it."""

    def __init__(self, storage: Storage, published: Published) -> None:
        self.storage = storage
        self.published = published

    @cached_property
    def _tasks(self) -> pa.Table:
        return manifest_table(self.storage, self.published, "tasks")

    def _receipts(self, step: str) -> list[Receipt]:
        steps = self._tasks.column("step").to_numpy(zero_copy_only=False)
        return receipts_of(self._tasks.filter(pa.array(steps == step)))

    def _outputs(self, step: str, prefix: str) -> Iterator[tuple[str, Output]]:
        """Source and output of each file of a step whose name begins so."""
        for receipt in self._receipts(step):
            yield from ((receipt.source, output) for output in receipt.outputs if output.name.startswith(prefix))

    def paths_of(self, view: str) -> list[str]:
        """What DuckDB opens for a view, by the paths it opens."""
        if view == "signals":
            return [path for groups in self._signals.values() for files in groups.values() for path in files]
        if view == "turns":
            return [*self._turns, *self._texts_beside_turns()]
        if view in ("tasks", "shards"):
            return [self.storage.native(self.published.value[view])]
        step, name = {
            "documents": ("ingest", "documents"),
            "decisions": ("select", "decisions"),
            "duplicates": ("deduplicate", "ledger/"),
            "clusters": ("deduplicate", "clusters/"),
            "takedown": ("takedown", "takedown"),
        }[view]
        return [self.storage.native(output.path) for _, output in self._outputs(step, name)]

    @cached_property
    def _signals(self) -> Mapping[str, Mapping[str, list[str]]]:
        """Files by source and group; "decisions" are those that the groups join."""
        found: dict[str, dict[str, list[str]]] = {}
        of_steps = (("select", "decisions"), ("ingest", "signals/"), ("annotate", "signals/"))
        for source, output in (each for step, name in of_steps for each in self._outputs(step, name)):
            groups = found.setdefault(source, {})
            groups.setdefault(output.name.removeprefix("signals/"), []).append(output.path)
        return {
            source: {group: [self.storage.native(path) for path in paths] for group, paths in groups.items()}
            for source, groups in found.items()
        }

    def select(self, view: str, asked: Asked) -> str:
        """The SELECT that a view stands for."""
        if view == "signals":
            return self._select_signals(asked)
        if view == "turns":
            return self._select_turns(asked)
        paths = self.paths_of(view)
        if view == "tasks":
            return f"SELECT * FROM read_parquet({listed(paths)})"
        if view == "shards":
            source = "split_part(component, '/', 1) AS source"
            return f"SELECT {source}, component[length(source) + 2:] AS stratum, * FROM read_parquet({listed(paths)})"
        if view in ("documents", "decisions"):
            return (
                f"SELECT {_SOURCE} AS source, {_PART} AS part, file_row_number AS row, "
                f"* EXCLUDE (filename, file_row_number) FROM {_files(paths)}"
            )
        schema = {"duplicates": LEDGER, "clusters": CLUSTERS, "takedown": TAKEDOWN}[view]
        if not paths:
            names = ["source", *(_own(field.name) for field in schema)]
            return "SELECT " + ", ".join(f"NULL AS {name}" for name in names) + " WHERE false"
        renamed = " RENAME (removed_part AS part, removed_row AS row)" if view == "duplicates" else ""
        # older versions lack some columns
        files = f"read_parquet({listed(paths)}, union_by_name = true, filename = true)"
        return f"SELECT {_UNIT_SOURCE} AS source, * EXCLUDE (filename){renamed} FROM {files}"

    @cached_property
    def _turns(self) -> list[str]:
        return [self.storage.native(output.path) for _, output in self._outputs("ingest", "turns")]

    def _select_turns(self, asked: Asked) -> str:
        """A row a turn; the texts are read where the query may use `content`."""
        names = ["source", "part", "row", "turn", *TURN.names, *TURNS.names[1:]]
        with_content = asked.everything or "content" in asked.names
        if not self._turns:
            return "SELECT " + ", ".join(f'NULL AS "{name}"' for name in [*names, "content"]) + " WHERE false"
        turns = (
            f"SELECT {_SOURCE} AS source, {_PART} AS part, file_row_number AS row, {', '.join(TURNS.names[1:])}, "
            f"unnest(turns) AS t, generate_subscripts(turns, 1) - 1 AS turn FROM {_files(self._turns)}"
        )
        columns = ["source", "part", "row", "turn", *(f't."{name}"' for name in TURN.names), *TURNS.names[1:]]
        if not with_content:
            return f"SELECT {', '.join(columns)} FROM ({turns})"
        # Arrow's bytes from `start`, DuckDB's from 1
        content = 'decode(array_slice(encode("text"), t."start" + 1, t."end"))'
        documents = f"SELECT {_PART} AS part, file_row_number AS row, text FROM {_files(self._texts_beside_turns())}"
        return f"SELECT {', '.join(columns)}, {content} AS content FROM ({turns}) JOIN ({documents}) USING (part, row)"

    def _texts_beside_turns(self) -> list[str]:
        """Files of `documents` of the parts that have turns."""
        receipts = [each for each in self._receipts("ingest") if any(out.name == "turns" for out in each.outputs)]
        return [self.storage.native(receipt.output("documents").path) for receipt in receipts]

    def _select_signals(self, asked: Asked) -> str:
        return " UNION ALL BY NAME ".join(
            self._select_source(source, groups, asked) for source, groups in sorted(self._signals.items())
        )

    def _select_source(self, source: str, groups: Mapping[str, list[str]], asked: Asked) -> str:
        columns = [f"'{source}' AS source", f"{_PART} AS part", "file_row_number AS row"]
        joins = []
        for group, paths in sorted(groups.items()):
            names = {} if group == "decisions" else self._columns(group, paths[0], asked)
            if names:
                taken = ", ".join(f'"{name}" AS "{shown}"' for name, shown in names.items())
                joins.append(
                    f"LEFT JOIN (SELECT {_PART} AS part, file_row_number AS row, {taken} FROM {_files(paths)}) "
                    f'AS "{group}" USING (part, row)'
                )
                columns += [f'"{group}"."{shown}"' for shown in names.values()]
        base = f"(SELECT {', '.join(columns[1:3])} FROM {_files(groups['decisions'])})"
        return f"SELECT {', '.join([columns[0], 'part', 'row', *columns[3:]])} FROM {base} AS decided {' '.join(joins)}"

    def _columns(self, group: str, path: str, asked: Asked) -> dict[str, str]:
        """The columns of a group that a query may use, and what they are called in the view."""
        with self.storage.open(self._below(path)) as file:
            names = pq.ParquetFile(file).schema_arrow.names
        shown = {name: name if group in _BARE else f"{group.replace('.', '_')}_{name}" for name in names}
        return {
            name: called
            for name, called in shown.items()
            if name not in _LEFT_OUT and (asked.everything or called.lower() in asked.names)
        }

    def _below(self, native: str) -> str:
        return native.removeprefix(self.storage.native("")).lstrip("/")

    def pieces(self) -> "Pieces":
        """The view `pieces`."""
        return Pieces(self.storage, manifest_table(self.storage, self.published, "shards"))


class Pieces:
    """One row a piece of a packed document; made anew, a record batch at a time, whenever it is scanned."""

    def __init__(self, storage: Storage, shards: pa.Table) -> None:
        self._storage = storage
        self._shards = shards.select(["component", "unit", "path"]).to_pylist()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return pa.RecordBatchReader.from_batches(PIECES, self._batches()).__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for shard in self._shards:
            told = (shard["component"], shard["unit"], shard["path"])
            for some in glanced_pieces(self._storage, shard["path"]):
                count = len(some.part)
                component, unit, path = (pa.repeat(pa.scalar(value, pa.string()), count) for value in told)
                source = pa.repeat(pa.scalar(told[0].split("/")[0], pa.string()), count)
                part = pa.array(some.parts, pa.string()).take(pa.array(some.part))
                numbers = [pa.array(column, pa.int64()) for column in (some.row, some.start, some.tokens)]
                row = pa.array(some.document, pa.int64())
                yield pa.RecordBatch.from_arrays([source, part, row, component, unit, path, *numbers], schema=PIECES)


def listed(paths: list[str]) -> str:
    """Paths as a list in SQL."""
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"


def _files(paths: list[str]) -> str:
    return f"read_parquet({listed(paths)}, filename = true, file_row_number = true)"


def _own(name: str) -> str:
    return name.removeprefix("removed_")
