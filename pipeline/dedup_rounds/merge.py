"""What stands between two rounds of many partitions: see `exchange`. Where there are few, nothing does."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline import exchange
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask
from tokenmill.pipeline.dedup_rounds.rows import hash_of
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.storage import Storage

VERSION = 1


def send(
    storage: Storage,
    name: str,
    path: str,
    columns: Mapping[str, npt.NDArray[np.generic]],
    partition: npt.NDArray[np.int64],
    partitions: int,
) -> Output:
    """`exchange.write_partitions`, its receipt telling stretches where `merged` merges them."""
    stretch = exchange.FAN_OUT if partitions > exchange.FAN_OUT else 1
    return exchange.write_partitions(storage, name, path, columns, partition, partitions, stretch)


def merged(context: Context, label: str, outputs: Sequence[Output], partitions: int) -> tuple[Output, ...]:
    """The files of a round, merged where they have more than FAN_OUT partitions; in the same order for each.

    Args:
        context: of the rounds.
        label: names the tasks.
        outputs: what the round wrote, by `send`.
        partitions: of each.
    """
    if partitions <= exchange.FAN_OUT:
        return tuple(outputs)
    width = exchange.FAN_OUT
    tasks = []
    for begin in range(0, len(outputs), width):
        files = tuple(outputs[begin : begin + width])
        for first in range(0, partitions, width):
            name = f"{label}-{begin // width:05d}-{first // width:05d}"
            tasks.append(RoundTask(name, run_merge, (name, files, first, min(width, partitions - first))))
    return tuple(output for receipt in context.run("dedup_merge", tasks) for output in receipt.outputs)


def of_partition(outputs: Sequence[Output], index: int) -> tuple[Output, ...]:
    """The files that have a partition, be it empty: what its task is given."""
    return tuple(output for output in outputs if exchange.has_partition(output, index))


def run_merge(
    run: TaskRun, recipe: Recipe, name: str, outputs: Sequence[Output], first: int, partitions: int
) -> Receipt:
    """Merge one stretch of partitions of several files."""
    task = Task(
        "dedup_merge", VERSION, "", name, {"first": first, "partitions": partitions}, {"files": hash_of(outputs)}
    )

    def work(key: str) -> Work:
        path = f"dedup/merge/{name}.{key}.arrow"
        return Work((exchange.merge_stretch(run.storage, path, outputs, first, partitions),))

    return run.once(task, work)
