"""Round 5 of a large run, first: documents that surely go, whichever group they lie in.

ends    (per group)  the earlier documents of its edges → by their group
roots   (per group)  of what it is asked, the documents without an earlier neighbour but such as surely go: they stay
                     → to who asked
gone    (per group)  of what it is asked, the neighbours of roots, which go → to who asked

Of a cluster of n alike documents each meets the first 64, wherever they lie: a group that knows of its own documents
alone would send some 64 n edges to the one task that walks the component, with these rounds n. They send as many
records as there are earlier documents, to each group that has edges of them. Where members of a cluster are not all
alike, roots and gone take turns while edges are many and a turn leaves out half of them: with each edge of such a
cluster there or not by a coin, 3 a document are left.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.dedup.fates import is_among, surely_gone
from tokenmill.dedup.stars import distinct
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.dedup_rounds.asks import REQUEST_COLUMNS, ask_for_earlier
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask
from tokenmill.pipeline.dedup_rounds.groups import I64, U64, Group
from tokenmill.pipeline.dedup_rounds.merge import merged, of_partition, send
from tokenmill.pipeline.dedup_rounds.rows import hash_of
from tokenmill.pipeline.exchange import read_partition, read_records
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.storage import Storage

VERSION = 1
#: Edges that are few enough to be walked, for each document that has an earlier neighbour; one that goes needs one.
FEW_EDGES = 2
#: An answer, to the group that asked.
ANSWER_COLUMNS = {"number": "uint64"}
BOOL = npt.NDArray[np.bool_]


class Roots(NamedTuple):
    """What a group's edges say when some documents are known to go.

    Attributes:
        numbers: uint64, ascending: documents of the group that have no earlier neighbour left.
        edges: how many are left.
        laters: documents of the group that have an earlier neighbour, left or not.
    """

    numbers: U64
    edges: int
    laters: int


@dataclass(frozen=True)
class Asked:
    """What one group's tasks are given.

    Attributes:
        group: the group.
        edges: files of EDGE_COLUMNS whose later end is the group's, one partition each.
        asked: files of REQUEST_COLUMNS.
        groups: how many there are.
    """

    group: Group
    edges: tuple[Output, ...]
    asked: tuple[Output, ...]
    groups: int

    @property
    def inputs(self) -> dict[str, str]:
        """Hashes of the files."""
        return {"edges": hash_of(self.edges), "asked": hash_of(self.asked)}

    @property
    def params(self) -> dict[str, object]:
        """What else decides the outcome."""
        return {"numbers": [self.group.base, self.group.rows], "groups": self.groups}


def find_gone(context: Context, edges: Sequence[Sequence[Output]]) -> tuple[Output, ...] | None:
    """Run the rounds. `edges`: of each group, files of EDGE_COLUMNS, one partition each.

    Returns:
        Files of ANSWER_COLUMNS, partition = group: earlier documents of its edges that surely go; None: edges are few.
    """
    groups = len(context.groups)
    files = ask_for_earlier(context, "dedup_ends", edges)
    asked = [
        Asked(group, tuple(found), of_partition(files, group.index), groups)
        for group, found in zip(context.groups, edges, strict=True)
    ]
    gone: tuple[Output, ...] | None = None
    before = 0
    for turn in count(1):
        tasks = []
        for one in asked:
            told = None if gone is None else of_partition(gone, one.group.index)
            tasks.append(RoundTask(_name(one, turn), run_roots, (one, turn, told)))
        receipts = context.run("dedup_roots", tasks)
        left, laters = (sum(receipt.notes[name] for receipt in receipts) for name in ("edges", "laters"))
        if left <= FEW_EDGES * laters or (turn > 1 and 2 * left > before):
            break
        before = left
        roots = merged(context, f"roots-{turn:02d}", [receipt.outputs[0] for receipt in receipts], groups)
        tasks = []
        for one in asked:
            tasks.append(RoundTask(_name(one, turn), run_gone, (one, turn, of_partition(roots, one.group.index))))
        receipts = context.run("dedup_gone", tasks)
        gone = merged(context, f"gone-{turn:02d}", [receipt.outputs[0] for receipt in receipts], groups)
    return gone


def _name(asked: Asked, turn: int) -> str:
    return f"{asked.group.name}-turn-{turn:02d}"


def run_roots(run: TaskRun, recipe: Recipe, asked: Asked, turn: int, gone: Sequence[Output] | None) -> Receipt:
    """Say which of the group's documents stay whatever the fate of those of which nothing is known."""
    name, inputs = _name(asked, turn), asked.inputs
    if gone is not None:
        inputs["gone"] = hash_of(gone)

    def work(key: str) -> Work:
        known = np.empty(0, np.uint64) if gone is None else numbers_told(run.storage, gone, asked.group)
        roots = roots_of(run.storage, asked.group, asked.edges, known)
        output = _answer(run.storage, asked, roots.numbers, f"dedup/roots/{name}.{key}.arrow")
        return Work((output,), notes={"edges": roots.edges, "laters": roots.laters})

    return run.once(Task("dedup_roots", VERSION, "", name, asked.params, inputs), work)


def run_gone(run: TaskRun, recipe: Recipe, asked: Asked, turn: int, roots: Sequence[Output]) -> Receipt:
    """Say which of the group's documents go, knowing what stays."""
    name, inputs = _name(asked, turn), {**asked.inputs, "roots": hash_of(roots)}

    def work(key: str) -> Work:
        gone = gone_of(run.storage, asked.group, asked.edges, numbers_told(run.storage, roots, asked.group))
        return Work((_answer(run.storage, asked, gone, f"dedup/gone/{name}.{key}.arrow"),))

    return run.once(Task("dedup_gone", VERSION, "", name, asked.params, inputs), work)


def _answer(storage: Storage, asked: Asked, true: U64, path: str) -> Output:
    """Of the numbers that are asked about, those in `true`, which ascends, to who asked."""
    requests = read_records(storage, asked.asked, asked.group.index, REQUEST_COLUMNS)
    number = requests["number"].astype(np.uint64, copy=False)
    found = is_among(number, true)
    target = requests["group"][found].astype(np.int64)
    return send(storage, "numbers", path, {"number": number[found]}, target, asked.groups)


def numbers_told(storage: Storage, files: Sequence[Output], group: Group) -> U64:
    """What a group was answered: uint64, ascending, each once. `files`: see ANSWER_COLUMNS."""
    found = read_records(storage, files, group.index, ANSWER_COLUMNS)
    return distinct(found["number"].astype(np.uint64, copy=False))


def roots_of(storage: Storage, group: Group, edges: Sequence[Output], gone: U64) -> Roots:
    """Documents of the group that surely stay. `edges`: files of EDGE_COLUMNS; `gone`: what surely goes, ascending."""
    is_later, has_one = np.zeros(group.rows, np.bool_), np.zeros(group.rows, np.bool_)
    left = 0
    for earlier, later in _ends(storage, edges):
        rows = _rows(later, group)
        is_later[rows] = True
        stands = ~is_among(earlier, gone)
        has_one[rows[stands]] = True
        left += int(stands.sum())
    return Roots(_numbers(~has_one, group), left, int(is_later.sum()))


def gone_of(storage: Storage, group: Group, edges: Sequence[Output], roots: U64) -> U64:
    """Documents of the group that surely go: numbers, ascending. `roots`: those known, ascending."""
    gone = np.zeros(group.rows, np.bool_)
    for earlier, later in _ends(storage, edges):
        gone[_rows(surely_gone(earlier, later, roots), group)] = True
    return _numbers(gone, group)


def _ends(storage: Storage, edges: Sequence[Output]) -> Iterator[tuple[U64, U64]]:
    """Numbers of both ends of each edge, a file at a time."""
    for file in edges:
        found = read_partition(storage, [file], 0, ["earlier_number", "later_number"])
        yield found["earlier_number"].astype(np.uint64, copy=False), found["later_number"].astype(np.uint64, copy=False)


def _rows(numbers: U64, group: Group) -> I64:
    """Places of a group's documents among its rows."""
    return (numbers - np.uint64(group.base)).astype(np.int64)


def _numbers(true: BOOL, group: Group) -> U64:
    return np.flatnonzero(true).astype(np.uint64) + np.uint64(group.base)
