"""Round 5, first task: the edges of a group, contracted where they lie, and all there is of them dealt out by rank."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tokenmill.dedup.fates import is_among
from tokenmill.dedup.radix import by_hash, order_by
from tokenmill.dedup.stars import Tied, contract
from tokenmill.manifests.keyed import mix64
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.dedup_rounds.gone import gone_of, numbers_told, roots_of
from tokenmill.pipeline.dedup_rounds.groups import I64, U64, Group
from tokenmill.pipeline.dedup_rounds.merge import send
from tokenmill.pipeline.dedup_rounds.rows import hash_of
from tokenmill.pipeline.exchange import read_partition
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.storage import Storage

VERSION = 1
Columns = dict[str, npt.NDArray[np.generic]]

#: Edges on their way to components: by `node` after a large star, by `end` (each edge twice) after a small one.
STAR_COLUMNS = {"node": "uint64", "least": "uint64"}
END_COLUMNS = {"end": "uint64", "other": "uint64"}
#: Edges and documents of components; ranks but for `number`.
PAIR_COLUMNS = {"earlier": "uint64", "later": "uint64", "equal": "int32"}
NODE_COLUMNS = {"rank": "uint64", "number": "uint64", "documents": "int32"}
LABELLED_COLUMNS = {**NODE_COLUMNS, "label": "uint64"}


def run_contract(
    run: TaskRun, recipe: Recipe, group: Group, files: Sequence[Output], told: Sequence[Output] | None, partitions: int
) -> Receipt:
    """Contract the edges whose later end is in one group, and deal edges and nodes out by rank.

    It holds the edges of one file at a time, and some 80 bytes for each document in them. An edge whose earlier end
    surely goes connects, but is not sent: that is known from `told`, see `gone`, or of the group's own documents.
    """
    params = {"partitions": partitions, "numbers": [group.base, group.rows]}
    inputs = {"edges": hash_of(files)}
    if told is not None:
        inputs["gone"] = hash_of(told)
    task = Task("dedup_contract", VERSION, "", group.name, params, inputs)

    def work(key: str) -> Work:
        tied, nodes = Tied(*[np.empty(0, np.uint64)] * 2), None
        for file in files:
            found = read_partition(run.storage, [file], 0)
            earlier, later = as_ranks(found["earlier"]), as_ranks(found["later"])
            tied = contract(np.concatenate((tied.node, earlier)), np.concatenate((tied.least, later)))
            nodes = _joined(nodes, _nodes(found))
        assert nodes is not None
        if told is None:
            roots = roots_of(run.storage, group, files, np.empty(0, np.uint64)).numbers
            gone = gone_of(run.storage, group, files, roots)
        else:
            gone = numbers_told(run.storage, told, group)
        path = f"dedup/contract/{{}}-{group.name}.{key}.arrow"
        outputs = [
            send_by_rank(run.storage, "stars", path.format("stars"), tied._asdict(), tied.node, partitions),
            send_by_rank(run.storage, "nodes", path.format("nodes"), nodes, as_ranks(nodes["rank"]), partitions),
        ]
        for index, file in enumerate(files):
            found = read_partition(run.storage, [file], 0, ("earlier_number", *PAIR_COLUMNS))
            matters = ~is_among(as_ranks(found.pop("earlier_number")), gone)
            kept = {name: column[matters] for name, column in found.items()}
            name = f"edges/{index}"
            by = as_ranks(kept["later"])
            outputs.append(send_by_rank(run.storage, name, path.format(f"edges-{index}"), kept, by, partitions))
        return Work(tuple(outputs))

    return run.once(task, work)


def of_rank(ranks: U64, partitions: int) -> I64:
    """Partition of each rank: int64[n]."""
    return by_hash(mix64(ranks, 0), partitions)


def send_by_rank(
    storage: Storage, name: str, path: str, columns: Mapping[str, npt.NDArray[np.generic]], by: U64, partitions: int
) -> Output:
    """`merge.send` of records to the partitions of ranks, `by`: uint64[n]."""
    return send(storage, name, path, columns, of_rank(by, partitions), partitions)


def _nodes(found: Mapping[str, npt.NDArray[np.generic]]) -> Columns:
    """Both ends of each edge, each document once: rank, number, documents."""
    return each_once(
        {
            "rank": np.concatenate((found["earlier"], found["later"])),
            "number": np.concatenate((found["earlier_number"], found["later_number"])),
            "documents": np.concatenate((found["earlier_documents"], found["later_documents"])),
        }
    )


def _joined(nodes: Columns | None, new: Columns) -> Columns:
    if nodes is None:
        return new
    return each_once({name: np.concatenate((column, new[name])) for name, column in nodes.items()})


def each_once(nodes: Columns) -> Columns:
    """The first record of each rank, sorted by rank."""
    order = order_by(as_ranks(nodes["rank"]))
    ranks = nodes["rank"][order]
    first = np.ones(len(order), np.bool_)
    first[1:] = ranks[1:] != ranks[:-1]
    return {name: column[order[first]] for name, column in nodes.items()}


def as_ranks(column: npt.NDArray[np.generic]) -> U64:
    """The column as what it is: no copy."""
    return column.astype(np.uint64, copy=False)
