"""The balance sheet by language, registrable domain, licence, month of the crawl or file extension.

A task looks at a unit: it reads one column of documents or signals, decisions, sizes, the unit's ledger and the
boundaries in its shards, no text and no token. Sums of all tasks meet in a DuckDB table of bounded memory, which
spills: a web crawl has some hundred million domains.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text
from tld import get_fld

from tokenmill.manifests.balance import Balance, BalanceError, sum_tallies
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.outcomes import PACKED, UnitFiles, UnitOutcomes
from tokenmill.pipeline.scan import Opening, scan_each
from tokenmill.pipeline.seen import visible
from tokenmill.pipeline.storage import Storage, scratch_folder
from tokenmill.pipeline.tables import read_table

#: What is summed, in the order in which documents walk through the steps.
MEASURES = (
    *("records", "raw_bytes", "gated", "failed", "dropped", "dropped_bytes"),
    *("duplicates", "duplicate_bytes", "left_out", "packed", "text_bytes", "tokens"),
)
KINDS = ("language", "domain", "licence", "date", "extension")
OTHERS = "others"
_UNKNOWN = "unknown"
_HOST = r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#@]*@)?(?P<value>[^/?#:]+)"
_EXTENSION = r"[^./](?P<value>\.[^./]+)$"
_MEMORY = "1GB"


@dataclass(frozen=True)
class Broken:
    """One line: `measures` in the order of MEASURES. `rest` counts the values that the line "others" stands for."""

    source: str
    value: str
    measures: tuple[int, ...]
    rest: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        more = {"values": self.rest} if self.rest else {}
        return {"source": self.source, "value": self.value, **more, **dict(zip(MEASURES, self.measures, strict=True))}


def breakdown(
    storage: Storage, units: Mapping[str, UnitFiles], kind: str, top: int, balance: Mapping[str, Any], opening: Opening
) -> list[Broken]:
    """The sheet by `kind` (of KINDS): of each source the `top` values with the most tokens, then "others".

    Args:
        storage: the run's folder.
        units: of the version.
        kind: what of a document is looked at.
        top: lines a source.
        balance: the version's balance sheet, as its manifest has it.
        opening: opens what the units are looked into by, where that takes long.

    Raises:
        BalanceError: the sums are not those of the sheet; `tokenmill audit --recount` finds which file is to blame.
    """
    with scratch_folder() as scratch, duckdb.connect() as connection:
        connection.execute(f"SET temp_directory = '{scratch}'")
        connection.execute(f"SET memory_limit = '{_MEMORY}'")
        columns = ", ".join(f"{name} BIGINT" for name in MEASURES)
        connection.execute(f"CREATE TABLE found (source VARCHAR, value VARCHAR, {columns})")
        for _, table in scan_each(opening, f"sum by {kind}", sums_of_unit, (storage, kind), list(units.values())):
            connection.register("one", table)
            connection.execute("INSERT INTO found SELECT * FROM one")
            connection.unregister("one")
        rows = connection.execute(_TOP.format(sums=_SUMS, top=top)).fetchall()
    found = [Broken(row[0], row[1], tuple(map(int, row[3:])), row[2]) for row in rows]
    for source, sheet in balance.items():
        _check(source, sheet, [line.measures for line in found if line.source == source])
    return found


_SUMS = ", ".join(f"sum({name})::BIGINT AS {name}" for name in MEASURES)
_TOP = f"""
WITH by_value AS (SELECT source, value, {{sums}} FROM found GROUP BY source, value),
ranked AS (SELECT *, row_number() OVER (
    PARTITION BY source ORDER BY tokens DESC, packed DESC, records DESC, value) AS place FROM by_value)
SELECT source, value, 0 AS rest, {", ".join(MEASURES)} FROM ranked WHERE place <= {{top}}
UNION ALL
SELECT source, '{OTHERS}', count(*), {{sums}} FROM ranked WHERE place > {{top}} GROUP BY source
ORDER BY source, rest, tokens DESC, packed DESC, records DESC, value
"""


def sums_of_unit(asked: tuple[Storage, str], files: UnitFiles) -> pa.Table:
    """Columns source, value and MEASURES, one row a value, of one unit."""
    storage, kind = asked
    outcomes = UnitOutcomes(storage, files)
    found = [_of_part(storage, kind, outcomes, part) for part in files.parts]
    sums = pa.concat_tables(found).group_by("value").aggregate([(name, "sum") for name in MEASURES])
    sums = sums.select(["value", *(f"{name}_sum" for name in MEASURES)]).rename_columns(["value", *MEASURES])
    return sums.add_column(0, "source", pa.repeat(pa.scalar(files.source, pa.string()), sums.num_rows))


def _of_part(storage: Storage, kind: str, outcomes: UnitOutcomes, part: str) -> pa.Table:
    tables = outcomes.files.parts[part]
    reasons = outcomes.of_part(part)
    raw_bytes = read_table(storage, tables["documents"].path, ["raw_bytes"]).column(0)
    text_bytes = read_table(storage, tables["signals/hashes"].path, ["text_bytes"]).column(0)
    sizes, raw = (pc.fill_null(column, 0).to_numpy() for column in (text_bytes, raw_bytes))
    tokens = outcomes.tokens_of(part, len(reasons))
    masks = _masks(reasons)
    measures = [
        *(np.ones(len(reasons), np.int64), raw, masks["gated"], masks["failed"]),
        *(masks["dropped"], masks["dropped"] * sizes, masks["duplicates"], masks["duplicates"] * sizes),
        *(masks["left_out"], masks["packed"], masks["packed"] * sizes, tokens),
    ]
    columns = [values_of(storage, kind, tables, len(reasons)), *(pa.array(each, pa.int64()) for each in measures)]
    return pa.table(columns, names=["value", *MEASURES])


def _masks(reasons: pa.StringArray) -> dict[str, npt.NDArray[np.int64]]:
    """Which rows went where: 0 or 1."""

    def starts(*prefixes: str) -> npt.NDArray[np.int64]:
        found = np.zeros(len(reasons), np.int64)
        for prefix in prefixes:
            found |= pc.starts_with(reasons, prefix).to_numpy(zero_copy_only=False)
        return found

    gone = {
        "gated": starts("gates."),
        "failed": starts("failed."),
        "duplicates": starts("dedup."),
        "left_out": starts("removed.", "pack."),
        "packed": pc.equal(reasons, PACKED).to_numpy(zero_copy_only=False).astype(np.int64),
    }
    dropped: npt.NDArray[np.int64] = 1 - sum(gone.values())
    return {**gone, "dropped": dropped}


def values_of(storage: Storage, kind: str, tables: Mapping[str, Output], rows: int) -> pa.StringArray:
    """What each row of a part is filed under; "unknown" where that is not known."""
    if kind == "language":
        if "signals/language" not in tables:
            return pa.repeat(pa.scalar(_UNKNOWN, pa.string()), rows)
        found = read_table(storage, tables["signals/language"].path, ["language"]).column(0)
    else:
        column = {"domain": "url", "extension": "path"}.get(kind, kind)
        found = read_table(storage, tables["documents"].path, [column]).column(0)
    found = pc.cast(found, pa.string())
    if kind == "date":
        found = pc.utf8_slice_codeunits(found, 0, 7)
    elif kind == "extension":
        found = pc.struct_field(pc.extract_regex(found, _EXTENSION), "value")
    elif kind == "domain":
        hosts = pc.struct_field(pc.extract_regex(found, _HOST), "value").combine_chunks().dictionary_encode()
        domains = pa.array([registrable(host) for host in hosts.dictionary.to_pylist()], pa.string())
        found = domains.take(hosts.indices)
    return pc.fill_null(found, _UNKNOWN)


@lru_cache(1 << 16)
def registrable(host: str) -> str:
    """The registrable domain of a host: a label more than its public suffix, by Mozilla's list as `tld` has it.

    A host under no public suffix is known by its last two labels, an IPv4 address by itself.
    """
    host = host.lower().rstrip(".")
    if host.replace(".", "").isdigit():
        return host
    found = get_fld(f"http://{host}", fail_silently=True)
    return str(found) if found else ".".join(host.split(".")[-2:])


def _check(source: str, sheet: Mapping[str, Any], lines: Sequence[tuple[int, ...]]) -> None:
    """Raise BalanceError unless the lines sum to the sheet."""
    steps = {step: Balance.from_json(value) for step, value in sheet["steps"].items()}
    dropped = {step: sum_tallies(balance.dropped.values()) for step, balance in steps.items()}
    failed = sum_tallies(steps["ingest"].failed.values())
    stated = (
        *(steps["ingest"].taken.documents, steps["ingest"].taken.bytes, dropped["ingest"].documents, failed.documents),
        *(dropped["select"].documents, dropped["select"].bytes),
        *(dropped["deduplicate"].documents, dropped["deduplicate"].bytes, dropped["pack"].documents),
        *(steps["pack"].out.documents, sheet["text_bytes"], sum(sheet["tokens"].values())),
    )
    summed = tuple(map(sum, zip(*lines, strict=True))) if lines else (0,) * len(MEASURES)
    for name, one, two in zip(MEASURES, stated, summed, strict=True):
        if one != two:
            raise BalanceError(
                f"source {source}: {name} sum to {two:,}, the balance sheet says {one:,}; `tokenmill audit --recount` "
                "finds the file that is not as it was written"
            )


def tables_of(lines: Sequence[Broken], kind: str) -> Iterator[Table]:
    """A breakdown for people, a table a source."""
    for source in dict.fromkeys(line.source for line in lines):
        table = Table(title=f"source {source}, by {kind}", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        table.add_column(kind, overflow="fold")
        titles = ("records", "gated", "failed", "dropped", "duplicates", "left out", "packed", "bytes", "tokens", "%")
        for title in titles:
            table.add_column(title, justify="right")
        mine = [(line, dict(zip(MEASURES, line.measures, strict=True))) for line in lines if line.source == source]
        tokens = sum(found["tokens"] for _, found in mine)
        for line, found in mine:
            name = f"{line.value} ({line.rest:,})" if line.rest else visible(line.value, 80)
            numbers = [*(found[title.replace(" ", "_")] for title in titles[:7]), found["text_bytes"], found["tokens"]]
            share = f"{100 * found['tokens'] / tokens:.2f}" if tokens else ""
            table.add_row(Text(name), *(f"{number:,}" for number in numbers), share)
        yield table
