"""Run one SELECT over the views of a run with DuckDB: it writes nothing, and reads no file but those the run names."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from tokenmill.pipeline.query.views import VIEWS, Asked, Views
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage, scratch_folder

_ROWS_A_BATCH = 1 << 16


@contextmanager
def query(storage: Storage, published: Published, sql: str) -> Iterator[pa.RecordBatchReader]:
    """What a SELECT finds in a version of a run, read as it is asked for.

    Raises:
        ValueError: it is not one SELECT, or DuckDB refuses it or cannot go on; says why.
    """
    with scratch_folder() as scratch, duckdb.connect() as connection:
        try:
            asked = _asked(connection, sql)
            _prepare(connection, Views(storage, published), asked, scratch)
            yield connection.sql(sql).to_arrow_reader(_ROWS_A_BATCH)
        except duckdb.Error as error:
            raise ValueError(str(error)) from error


def _asked(connection: duckdb.DuckDBPyConnection, sql: str) -> Asked:
    """The names in a query, and whether it may use others, from DuckDB's own parser."""
    statements = connection.extract_statements(sql)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        kinds = [statement.type.name for statement in statements]
        raise ValueError(f"give one SELECT (FROM, WITH, DESCRIBE, SUMMARIZE and SHOW TABLES will do); this is {kinds}")
    found = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    names: set[str] = set()
    kinds_seen: set[str] = set()
    _walk(json.loads(found[0][0]), names, kinds_seen)
    everything = bool(kinds_seen & {"STAR", "SHOW_REF", "NATURAL"})
    return Asked(frozenset(names | (set(VIEWS) if "SHOW_REF" in kinds_seen else set())), everything)


def _walk(value: Any, names: set[str], kinds: set[str]) -> None:
    """Every string of a parsed query: names of columns and tables among them, and kinds of its nodes."""
    if isinstance(value, dict):
        kinds |= {str(value.get("type")), str(value.get("ref_type"))}
        for each in value.values():
            _walk(each, names, kinds)
    elif isinstance(value, list):
        for each in value:
            _walk(each, names, kinds)
    elif isinstance(value, str):
        names.add(value.lower())


def _prepare(connection: duckdb.DuckDBPyConnection, views: Views, asked: Asked, scratch: str) -> None:
    """Make the views that the query names, then shut the door: no other file, no change of a setting."""
    if not views.storage.is_local:
        connection.register_filesystem(views.storage.filesystem)
    connection.execute(f"SET temp_directory = '{scratch}'")
    connection.execute("SET autoload_known_extensions = false")
    allowed: list[str] = []
    for view in VIEWS:
        if view not in asked.names:
            continue
        if view == "pieces":
            connection.register(view, views.pieces())
        else:
            allowed += views.paths_of(view)
            connection.execute(f'CREATE VIEW "{view}" AS {views.select(view, asked)}')
    connection.execute("SET allowed_paths = ?", [allowed])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
