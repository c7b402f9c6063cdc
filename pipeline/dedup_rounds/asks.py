"""Asking of other groups: the earlier documents of a group's edges, each once, by the group that knows of them."""

from collections.abc import Sequence

import numpy as np

from tokenmill.dedup.stars import distinct
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.dedup_rounds.bands import requests_of
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask
from tokenmill.pipeline.dedup_rounds.groups import U64, Group, group_bases, group_of
from tokenmill.pipeline.dedup_rounds.merge import merged, send
from tokenmill.pipeline.dedup_rounds.rows import hash_of
from tokenmill.pipeline.exchange import Columns, read_partition
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.storage import Storage

VERSION = 1
#: Files of a round that asks: by group of the number; `group` is the one that asks.
REQUEST_COLUMNS = {"number": "uint64", "group": "int32"}


def ask_for_earlier(context: Context, step: str, edges: Sequence[Sequence[Output]]) -> tuple[Output, ...]:
    """Run the round. `edges`: of each group, files of EDGE_COLUMNS, one partition each.

    Returns:
        Files of REQUEST_COLUMNS, partition = group.
    """
    bases = group_bases(context.groups).tolist()
    tasks = [
        RoundTask(group.name, run_ask, (step, group, found, bases))
        for group, found in zip(context.groups, edges, strict=True)
    ]
    asked = [output for receipt in context.run(step, tasks) for output in receipt.outputs]
    return merged(context, step.removeprefix("dedup_"), asked, len(bases))


def run_ask(
    run: TaskRun, recipe: Recipe, step: str, group: Group, edges: Sequence[Output], bases: list[int]
) -> Receipt:
    """Ask about the earlier documents of a group's edges."""
    task = Task(step, VERSION, "", group.name, {"bases": bases}, {"suspects": hash_of(edges)})

    def work(key: str) -> Work:
        earlier = np.concatenate([np.empty(0, np.uint64), *(_earlier(run.storage, file) for file in edges)])
        number, where = requests_of(earlier, np.full(len(earlier), group.index))
        path = f"dedup/{step.removeprefix('dedup_')}/{group.name}.{key}.arrow"
        columns: Columns = {"number": number, "group": where}
        target = group_of(number, np.array(bases, np.uint64))
        return Work((send(run.storage, "requests", path, columns, target, len(bases)),))

    return run.once(task, work)


def _earlier(storage: Storage, edges: Output) -> U64:
    """The earlier documents of one file, each once: it has many edges of each."""
    found = read_partition(storage, [edges], 0, ["earlier_number"])["earlier_number"]
    return distinct(found.astype(np.uint64, copy=False))
