"""repeated_lines: which lines of a part many documents share; the filter of that name waits for it.

Counts are wanted over a whole scope before any part's edits can be written. Three rounds, each a task with a receipt:

- `count_lines`, a part: the text as the filter reads it → (hash of a line, documents that hold it), by range of hash;
- `sum_lines`, a range of hashes: its counts of all parts → to each part, which of its lines are repeated;
- `gather_lines`, a part: these of all ranges → one file, the input of the part's edits.

So no task holds more than the lines of a part or of a range, and a part whose repeated lines did not change keeps its
edits. A document counts unless it was gated; what the filters after this one make of it is not known yet. Sums depend
neither on how parts are cut nor on the number of ranges. Records take 20 bytes (28 with `keep_first`) a distinct line
of a part, 12 (20) at rest.

`pipeline.line_scopes` says what is counted together, and runs the rounds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.dedup.radix import by_hash
from tokenmill.filters.line_hashes import Counts, push_counts, sum_stack
from tokenmill.filters.repeated_lines import RULE, VERSION, Repeated, RepeatedLinesParams, count_lines
from tokenmill.filters.scan import U64
from tokenmill.filters.splitter import SplitTexts
from tokenmill.manifests.keyed import key64, mix64
from tokenmill.manifests.receipts import Output, Receipt, Task, hash_json
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.dedup_rounds.merge import send
from tokenmill.pipeline.edited import edited_texts
from tokenmill.pipeline.exchange import Columns, read_partition, write_partitions
from tokenmill.pipeline.kept import edit_outputs
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.recipe import Recipe, Source
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import open_groups

Column = npt.NDArray[np.generic]

#: What names a document wherever it lies, as columns of `documents`.
PLACE = ["raw_file", "raw_offset"]


@dataclass(frozen=True)
class InScope:
    """What a part is told of its scope.

    Attributes:
        params: of the filter.
        ranges: of hashes.
        index: of the part among the scope's.
        sums: what each range says of its parts; None while lines are being counted.
        version: hash of all sums.
    """

    params: RepeatedLinesParams
    ranges: int
    index: int
    sums: tuple[Output, ...] | None = None
    version: str = ""


@dataclass(frozen=True)
class Gathered:
    """The repeated lines of a part: the hash of what they are, and how to read them."""

    hash: str
    read: Callable[[], Repeated]


def places_of(rows: pa.RecordBatch, source: str) -> U64:
    """Where documents come from, as hashes: uint64[n] of n rows of PLACE, the same in any part."""
    files = rows.column("raw_file").dictionary_encode()
    keys = np.array([key64(RULE, source, name) for name in files.dictionary.to_pylist()], np.uint64)
    return mix64(rows.column("raw_offset").to_numpy().astype(np.uint64), keys[files.indices.to_numpy()])


def run_count(run: TaskRun, source: Source, part: Part, scope: InScope, tables: Mapping[str, Output]) -> Receipt:
    """Count the lines of one part.

    Args:
        run: the run.
        source: the part's source.
        part: the part.
        scope: how it is counted.
        tables: outputs of *ingest* and of the groups before the filter, by name.
    """
    groups = [entry.group for entry in source.filters]
    edits = edit_outputs(tables, groups[: groups.index(RULE)])
    params = {"unit": scope.params.unit, "min_characters": scope.params.min_characters, "ranges": scope.ranges}
    if scope.params.keep_first:
        params["places"] = source.name
    inputs = {output.name: output.hash for output in (tables["documents"], *edits)}

    def work(key: str) -> Work:
        counts = _count(run.storage, source, scope.params, tables["documents"], edits)
        whose = np.full(len(counts.hashes), int(part.key, 16), np.uint64)
        columns: dict[str, Column] = {"hash": counts.hashes, "documents": counts.documents, "part": whose}
        if scope.params.keep_first:
            columns["place"] = counts.places
        path = f"lines/counts/{source.name}/{part.key}.{key}.arrow"
        to = by_hash(counts.hashes, scope.ranges)
        return Work((send(run.storage, "lines/counts", path, columns, to, scope.ranges),))

    return run.once(Task("count_lines", VERSION, source.name, part.key, params, inputs, ("numba", "pyarrow")), work)


def _count(
    storage: Storage, source: Source, params: RepeatedLinesParams, documents: Output, edits: Sequence[Output]
) -> Counts:
    stack: list[Counts] = []
    with open_groups(storage, documents.path) as groups:
        for index, (texts, _) in enumerate(edited_texts(storage, groups, [output.path for output in edits])):
            rows = groups.read(index, ["gate", *PLACE])
            counted = rows.column("gate").is_null().to_numpy(zero_copy_only=False)
            found = count_lines(SplitTexts(texts), params, counted, places_of(rows, source.name))
            stack = push_counts(stack, found)
    return sum_stack(stack)


def run_sum(
    run: TaskRun,
    recipe: Recipe,
    source: str,
    params: RepeatedLinesParams,
    parts: Sequence[int],
    index: int,
    counts: Sequence[Output],
) -> Receipt:
    """Sum the counts of one range of hashes.

    Args:
        run: the run.
        recipe: the recipe.
        source: of the scope, "" for the whole run.
        params: of the filter.
        parts: keys of the scope's parts, ascending.
        index: of the range.
        counts: the files that hold the range.
    """
    name = f"{source or 'run'}-{index:05d}"
    settings = {
        "scope": params.scope,
        "min_repeats": params.min_repeats,
        "range": index,
        "parts": hash_json(list(parts)),
    }
    inputs = {"lines/counts": hash_json([output.hash for output in counts])}
    task = Task("sum_lines", VERSION, source, name, settings, inputs)

    def work(key: str) -> Work:
        records = read_partition(run.storage, counts, index)
        columns, repeated = _sum(records, params.min_repeats)
        path = f"lines/sums/{name}.{key}.arrow"
        to = np.searchsorted(np.array(parts, np.uint64), records["part"][repeated].astype(np.uint64))
        return Work((send(run.storage, "lines/sums", path, columns, to, len(parts)),))

    return run.once(task, work)


def _sum(records: Columns, min_repeats: int) -> tuple[dict[str, Column], npt.NDArray[np.bool_]]:
    """Of n records, the hashes (and the least places) of those that are repeated, and which they are: bool[n]."""
    hashes = records["hash"]
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    opens = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(order) else order
    group = np.empty(len(order), np.int64)
    group[order] = np.repeat(np.arange(len(opens)), np.diff(np.append(opens, len(order))))
    documents = np.add.reduceat(records["documents"][order].astype(np.int64), opens) if len(opens) else opens
    repeated = documents[group] >= min_repeats
    columns = {"hash": hashes[repeated]}
    if "place" in records:
        least = np.minimum.reduceat(records["place"][order], opens) if len(opens) else records["place"]
        columns["place"] = least[group[repeated]]
    return columns, repeated


def run_gather(run: TaskRun, source: Source, part: Part, scope: InScope) -> Gathered:
    """Put the repeated lines of one part into one file."""
    assert scope.sums is not None, "lines are gathered when all are summed"
    sums = scope.sums
    task = Task("gather_lines", VERSION, source.name, part.key, {"index": scope.index}, {"lines/sums": scope.version})

    def work(key: str) -> Work:
        columns = read_partition(run.storage, sums, scope.index)
        path = f"lines/repeated/{source.name}/{part.key}.{key}.arrow"
        none = np.zeros(len(columns["hash"]), np.int64)
        return Work((write_partitions(run.storage, "lines/repeated", path, columns, none, 1),))

    output = run.once(task, work).outputs[0]
    return Gathered(output.hash, lambda: read_repeated(run.storage, output))


def read_repeated(storage: Storage, output: Output) -> Repeated:
    """The repeated lines of a part."""
    columns = read_partition(storage, [output], 0)
    hashes = columns["hash"].astype(np.uint64)
    return Repeated(hashes, columns.get("place", hashes[:0]).astype(np.uint64))
