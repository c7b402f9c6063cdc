"""Round 5 of a large run, first: documents that surely go, whichever group they lie in.

ends    (per group)  the earlier documents of its edges → by their group
roots   (per group)  of what it is asked, the documents without an earlier neighbour, which stay → to who asked
gone    (per group)  of what it is asked, the neighbours of roots, which go → to who asked

Of a cluster of n alike documents each meets the first 64, wherever they lie: a group that knows of its own documents
alone would send some 64 n edges to the one task that walks the component, with these rounds n. They take as many
records as there are documents in edges, for each group at most.
"""

from collections.abc import Sequence

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
BOOL = npt.NDArray[np.bool_]
#: An answer, to the group that asked.
ANSWER_COLUMNS = {"number": "uint64"}


def find_gone(context: Context, edges: Sequence[Sequence[Output]]) -> tuple[Output, ...]:
    """Run the rounds. `edges`: of each group, files of EDGE_COLUMNS, one partition each.

    Returns:
        Files of ANSWER_COLUMNS, partition = group: earlier documents of its edges that surely go.
    """
    asked = ask_for_earlier(context, "dedup_ends", edges)
    return _answers(context, "dedup_gone", edges, asked, _answers(context, "dedup_roots", edges, asked))


def _answers(
    context: Context,
    step: str,
    edges: Sequence[Sequence[Output]],
    asked: Sequence[Output],
    roots: Sequence[Output] | None = None,
) -> tuple[Output, ...]:
    tasks, groups = [], len(context.groups)
    for group, found in zip(context.groups, edges, strict=True):
        known = None if roots is None else of_partition(roots, group.index)
        told = (of_partition(asked, group.index), known, groups)
        tasks.append(RoundTask(group.name, run_answer, (step, group, tuple(found), *told)))
    answered = [receipt.outputs[0] for receipt in context.run(step, tasks)]
    return merged(context, step.removeprefix("dedup_"), answered, groups)


def run_answer(
    run: TaskRun,
    recipe: Recipe,
    step: str,
    group: Group,
    edges: Sequence[Output],
    asked: Sequence[Output],
    roots: Sequence[Output] | None,
    groups: int,
) -> Receipt:
    """Of the group's documents that are asked about, say which are roots; or, knowing roots, which surely go."""
    inputs = {"edges": hash_of(edges), "asked": hash_of(asked)}
    if roots is not None:
        inputs["roots"] = hash_of(roots)
    task = Task(step, VERSION, "", group.name, {"numbers": [group.base, group.rows], "groups": groups}, inputs)

    def work(key: str) -> Work:
        if roots is None:
            true = roots_of(run.storage, group, edges)
        else:
            true = gone_of(run.storage, group, edges, numbers_told(run.storage, roots, group))
        requests = read_records(run.storage, asked, group.index, REQUEST_COLUMNS)
        number = requests["number"].astype(np.uint64, copy=False)
        answered = is_among(number, true)
        target = requests["group"][answered].astype(np.int64)
        path = f"dedup/{step.removeprefix('dedup_')}/{group.name}.{key}.arrow"
        return Work((send(run.storage, "numbers", path, {"number": number[answered]}, target, groups),))

    return run.once(task, work)


def numbers_told(storage: Storage, files: Sequence[Output], group: Group) -> U64:
    """What a group was answered: uint64, ascending, each once. `files`: see ANSWER_COLUMNS."""
    found = read_records(storage, files, group.index, ANSWER_COLUMNS)
    return distinct(found["number"].astype(np.uint64, copy=False))


def roots_of(storage: Storage, group: Group, edges: Sequence[Output]) -> U64:
    """Documents of the group that have no earlier neighbour: numbers, ascending. `edges`: files of EDGE_COLUMNS."""
    root = np.ones(group.rows, np.bool_)
    for file in edges:
        root[_rows(read_partition(storage, [file], 0, ["later_number"])["later_number"], group)] = False
    return _numbers(root, group)


def gone_of(storage: Storage, group: Group, edges: Sequence[Output], roots: U64) -> U64:
    """Documents of the group that surely go: numbers, ascending. `roots`: those known, ascending."""
    gone = np.zeros(group.rows, np.bool_)
    for file in edges:
        found = read_partition(storage, [file], 0, ["earlier_number", "later_number"])
        earlier, later = (found[name].astype(np.uint64, copy=False) for name in ("earlier_number", "later_number"))
        gone[_rows(surely_gone(earlier, later, roots), group)] = True
    return _numbers(gone, group)


def _rows(numbers: npt.NDArray[np.generic], group: Group) -> I64:
    """Places of a group's documents among its rows."""
    return (numbers.astype(np.uint64, copy=False) - np.uint64(group.base)).astype(np.int64)


def _numbers(true: BOOL, group: Group) -> U64:
    return np.flatnonzero(true).astype(np.uint64) + np.uint64(group.base)
