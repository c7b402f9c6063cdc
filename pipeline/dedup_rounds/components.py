"""Round 5: verified edges → whole components, each in one partition.

Where edges are more than one partition's worth, groups tell each other first which documents surely go (see `gone`).
The edges of every group are contracted where they lie and dealt out by the rank of the later end; small and large stars
take turns (see dedup.stars) until a round of large stars finds no node unsettled, which one partition reaches at once;
then edges and nodes go to the partition of their label, the least rank of their component. A partition is a hash of the
rank, and nothing in the outcome depends on how many there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.dedup.radix import order_by, places_in
from tokenmill.dedup.stars import Tied, contract, large_star
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.dedup_rounds.contract import (
    END_COLUMNS,
    NODE_COLUMNS,
    PAIR_COLUMNS,
    STAR_COLUMNS,
    as_ranks,
    each_once,
    run_contract,
    send_by_rank,
)
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask
from tokenmill.pipeline.dedup_rounds.gone import find_gone
from tokenmill.pipeline.dedup_rounds.merge import merged, of_partition
from tokenmill.pipeline.dedup_rounds.rows import hash_of
from tokenmill.pipeline.exchange import num_partitions, read_records
from tokenmill.pipeline.recipe import Recipe

VERSION = 1
U64 = npt.NDArray[np.uint64]

#: What the walk holds for an edge, its nodes included: 150 measured in one large cluster; 300 where each is a pair.
WALKED_BYTES = 160


@dataclass(frozen=True)
class Components:
    """Whole components by partition of their label.

    Attributes:
        edges: files of PAIR_COLUMNS, without many that cannot name a keeper.
        nodes: files of LABELLED_COLUMNS, each document once.
        partitions: how many there are.
        rounds: of small and large stars.
        verified_pairs: edges that came in.
    """

    edges: tuple[Output, ...]
    nodes: tuple[Output, ...]
    partitions: int
    rounds: int
    verified_pairs: int


@dataclass(frozen=True)
class Dealt:
    """What the round has dealt out by rank.

    Attributes:
        edges: files of PAIR_COLUMNS, by the later end.
        nodes: files of NODE_COLUMNS; a document may be in several.
        stars: files of STAR_COLUMNS, by node: each node that is not its own label, with its label.
    """

    edges: tuple[Output, ...]
    nodes: tuple[Output, ...]
    stars: tuple[Output, ...]

    def of(self, index: int) -> "Dealt":
        """What one partition's task is given."""
        return Dealt(of_partition(self.edges, index), of_partition(self.nodes, index), of_partition(self.stars, index))


def find_components(context: Context, edges: Sequence[Output]) -> Components:
    """Run the round. `edges`: files of EDGE_COLUMNS, one partition each, at least one file."""
    pairs = sum(sum(output.detail["rows"]) for output in edges)
    partitions = num_partitions(pairs * WALKED_BYTES)
    by_group: dict[str, list[Output]] = {group.name: [] for group in context.groups}
    for output in edges:
        by_group[_group_name(output)].append(output)
    held = list(by_group.values())
    # a small run has no more rounds than it needs: one task can walk all its edges
    gone = find_gone(context, held) if partitions > 1 else None
    tasks = []
    for group, found in zip(context.groups, held, strict=True):
        if found:
            told = None if gone is None else of_partition(gone, group.index)
            tasks.append(RoundTask(group.name, run_contract, (group, tuple(found), told, partitions)))
    contracted = context.run("dedup_contract", tasks)
    files, rounds = merged(context, "stars", [receipt.output("stars") for receipt in contracted], partitions), 0
    while True:
        rounds += 1
        files, _ = _stars(context, "dedup_small_star", files, partitions, rounds)
        files, unsettled = _stars(context, "dedup_large_star", files, partitions, rounds)
        if not unsettled:
            break
    dealt_out = [output for receipt in contracted for output in receipt.outputs]
    dealt = Dealt(
        merged(context, "edges", [output for output in dealt_out if output.name.startswith("edges/")], partitions),
        merged(context, "nodes", [receipt.output("nodes") for receipt in contracted], partitions),
        files,
    )
    labelled = context.run(
        "dedup_labels",
        [
            RoundTask(partition_name(index), run_labels, (index, dealt.of(index), partitions))
            for index in range(partitions)
        ],
    )
    return Components(
        merged(context, "labelled-edges", [receipt.output("edges") for receipt in labelled], partitions),
        merged(context, "labelled-nodes", [receipt.output("nodes") for receipt in labelled], partitions),
        partitions,
        rounds,
        pairs,
    )


def _stars(
    context: Context, step: str, files: Sequence[Output], partitions: int, rounds: int
) -> tuple[tuple[Output, ...], int]:
    """One round of stars: their files, and how many nodes are unsettled."""
    tasks = []
    for index in range(partitions):
        name = f"{partition_name(index)}-round-{rounds:02d}"
        tasks.append(RoundTask(name, run_star, (step, name, index, of_partition(files, index), partitions)))
    receipts = context.run(step, tasks)
    label = f"{step.removeprefix('dedup_')}-{rounds:02d}"
    found = merged(context, label, [receipt.outputs[0] for receipt in receipts], partitions)
    return found, sum(receipt.notes["unsettled"] for receipt in receipts)


def _group_name(output: Output) -> str:
    """Group of an edge file: it is named by it."""
    return output.path.rpartition("/")[2].partition(".")[0]


def partition_name(index: int) -> str:
    """Name of a partition's task."""
    return f"partition-{index:05d}"


def run_star(
    run: TaskRun, recipe: Recipe, step: str, name: str, index: int, files: Sequence[Output], partitions: int
) -> Receipt:
    """The stars of one partition's nodes.

    A small star contracts the edges; each goes to the partitions of both its ends. A large star has all edges of a
    node, and sends each to the partition of its larger end.
    """
    task = Task(step, VERSION, "", name, {"partitions": partitions}, {"stars": hash_of(files)})

    def work(key: str) -> Work:
        small = step == "dedup_small_star"
        found = read_records(run.storage, files, index, STAR_COLUMNS if small else END_COLUMNS)
        one, other = (as_ranks(column) for column in found.values())
        if small:
            tied = contract(one, other)
            columns, unsettled = {"end": np.concatenate(tied), "other": np.concatenate(tied[::-1])}, 0
        else:
            settled = large_star(one, other)
            columns, unsettled = settled.tied._asdict(), settled.unsettled
        by = next(iter(columns.values()))
        path = f"dedup/{step.removeprefix('dedup_')}/{name}.{key}.arrow"
        output = send_by_rank(run.storage, "stars", path, columns, by, partitions)
        return Work((output,), notes={"unsettled": unsettled})

    return run.once(task, work)


def run_labels(run: TaskRun, recipe: Recipe, index: int, dealt: Dealt, partitions: int) -> Receipt:
    """Send the edges and nodes of one partition of ranks to the partitions of their labels."""
    inputs = {"edges": hash_of(dealt.edges), "nodes": hash_of(dealt.nodes), "stars": hash_of(dealt.stars)}
    task = Task("dedup_labels", VERSION, "", partition_name(index), {"partitions": partitions}, inputs)

    def work(key: str) -> Work:
        found = read_records(run.storage, dealt.stars, index, STAR_COLUMNS)
        tied = Tied(as_ranks(found["node"]), as_ranks(found["least"]))
        order = order_by(tied.node)
        tied = Tied(tied.node[order], tied.least[order])
        path = f"dedup/labels/{{}}-{index:05d}.{key}.arrow"
        pairs = read_records(run.storage, dealt.edges, index, PAIR_COLUMNS)
        by = _labels(tied, as_ranks(pairs["later"]))
        written = send_by_rank(run.storage, "edges", path.format("edges"), pairs, by, partitions)
        members = each_once(read_records(run.storage, dealt.nodes, index, NODE_COLUMNS))
        members["label"] = _labels(tied, as_ranks(members["rank"]))
        by = as_ranks(members["label"])
        return Work((written, send_by_rank(run.storage, "nodes", path.format("nodes"), members, by, partitions)))

    return run.once(task, work)


def _labels(tied: Tied, ranks: U64) -> U64:
    """Label of each rank: what it is tied to, or itself. `tied` is sorted by node."""
    if not len(tied.node):
        return ranks
    at = np.minimum(places_in(tied.node, ranks), len(tied.node) - 1)
    return np.where(tied.node[at] == ranks, tied.least[at], ranks)
