"""Round 6: the walk over whole components → what becomes of every document that is like another, by group.

A component is never split over tasks: the fate of a document hangs on those before it. The task holds 150 bytes for
each edge that may still matter, its documents included; of a large cluster that is one or a few edges a document, in
however many groups it lies (see `gone`): 1M documents, 64M edges, come to 0.15 GB. Time is near linear.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.dedup.fates import walk_ranks
from tokenmill.dedup.radix import order_by, places_in
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.dedup_rounds.components import Components, partition_name
from tokenmill.pipeline.dedup_rounds.contract import LABELLED_COLUMNS, PAIR_COLUMNS, as_ranks
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask
from tokenmill.pipeline.dedup_rounds.groups import U64, group_bases, group_of
from tokenmill.pipeline.dedup_rounds.merge import merged, of_partition, send
from tokenmill.pipeline.dedup_rounds.rows import hash_of
from tokenmill.pipeline.exchange import read_records
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.storage import Storage

VERSION = 1
#: In place of a keeper's number: the document stays.
STAYS = np.uint64(0xFFFFFFFFFFFFFFFF)
#: What becomes of a document that has a verified neighbour, by group of `number`.
OUTCOME_COLUMNS = {
    "number": "uint64",
    "keeper": "uint64",  # number, or STAYS
    "equal": "int32",  # similarity with the keeper, see `survivors.walk`; 0 where it stays
    "cluster": "uint64",  # number of its cluster's first document
    "cluster_documents": "int32",
}


@dataclass(frozen=True)
class Walked:
    """What the walk left.

    Attributes:
        outcomes: files of OUTCOME_COLUMNS.
        largest: the component of most texts: number of its first document, and how many distinct texts it has.
    """

    outcomes: tuple[Output, ...]
    largest: Mapping[str, int]


def walk_components(context: Context, components: Components) -> Walked:
    """Run the round."""
    bases = tuple(int(base) for base in group_bases(context.groups))
    tasks = []
    for index in range(components.partitions):
        edges, nodes = of_partition(components.edges, index), of_partition(components.nodes, index)
        tasks.append(RoundTask(partition_name(index), run_walk, (index, edges, nodes, bases)))
    walked = context.run("dedup_walk", tasks)
    largest = max((receipt.notes["largest"] for receipt in walked), key=lambda one: (one["texts"], -one["number"]))
    return Walked(merged(context, "outcomes", [receipt.outputs[0] for receipt in walked], len(bases)), largest)


def run_walk(
    run: TaskRun,
    recipe: Recipe,
    index: int,
    edges: Sequence[Output],
    nodes: Sequence[Output],
    bases: tuple[int, ...],
) -> Receipt:
    """Walk the components of one partition of labels."""
    inputs = {"edges": hash_of(edges), "nodes": hash_of(nodes)}
    task = Task("dedup_walk", VERSION, "", partition_name(index), {"bases": list(bases)}, inputs)

    def work(key: str) -> Work:
        found = _nodes(run.storage, nodes, index)
        ranks, numbers = as_ranks(found.pop("rank")), as_ranks(found.pop("number"))
        keeper, best, pairs = _walked(run.storage, edges, index, ranks)
        first = places_in(ranks, as_ranks(found.pop("label")))
        del ranks
        outcomes = {
            "number": numbers,
            "keeper": np.where(keeper >= 0, numbers[keeper], STAYS),
            "equal": best,
            "cluster": numbers[first],
            "cluster_documents": _sums(first, found.pop("documents")),
        }
        notes = _notes(numbers, first, pairs)
        del keeper, first
        path = f"dedup/walk/{partition_name(index)}.{key}.arrow"
        groups = group_of(numbers, np.array(bases, np.uint64))
        return Work((send(run.storage, "outcomes", path, outcomes, groups, len(bases)),), notes=notes)

    return run.once(task, work)


def _nodes(storage: Storage, nodes: Sequence[Output], index: int) -> dict[str, npt.NDArray[np.generic]]:
    """LABELLED_COLUMNS of one partition, sorted by rank."""
    found = read_records(storage, nodes, index, LABELLED_COLUMNS)
    order = order_by(as_ranks(found["rank"]))
    return {name: found.pop(name)[order] for name in LABELLED_COLUMNS}


def _walked(
    storage: Storage, edges: Sequence[Output], index: int, ranks: U64
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], int]:
    """See `fates.walk_ranks`; and how many edges there were, which are let go of on the way."""
    found = read_records(storage, edges, index, PAIR_COLUMNS)
    pairs = len(found["equal"])
    earlier, later, equal = (found.pop(name) for name in PAIR_COLUMNS)
    keeper, best = walk_ranks(ranks, as_ranks(earlier), as_ranks(later), equal.astype(np.int32, copy=False))
    return keeper, best, pairs


def _sums(first: npt.NDArray[np.int64], documents: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    """Documents of each node's component; floats hold such sums exactly."""
    return np.bincount(first, documents, len(first))[first].astype(np.int32)


def _notes(numbers: U64, first: npt.NDArray[np.int64], pairs: int) -> Mapping[str, object]:
    texts = np.bincount(first, minlength=1)
    largest = int(np.argmax(texts))
    number = int(numbers[largest]) if len(numbers) else 0
    return {"pairs": pairs, "largest": {"number": number, "texts": int(texts[largest])}}
