"""Equal texts: of all documents with one content hash, over all sources, the first in survivor order goes on.

exact   (per group)      (hash, rank, number) by range of the hash
equal   (per partition)  copies → the copy's group; documents that have copies, with how many → their group
"""

from collections.abc import Sequence

import numpy as np

from tokenmill.dedup.exact import repeats
from tokenmill.dedup.radix import by_hash
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline import exchange
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.compared import hashes_table
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask
from tokenmill.pipeline.dedup_rounds.groups import U64, Group, group_of
from tokenmill.pipeline.dedup_rounds.merge import merged, of_partition, send
from tokenmill.pipeline.dedup_rounds.rows import hash_halves, hash_of, inputs_of, place_of, ranks_of
from tokenmill.pipeline.exchange import Columns, read_partition
from tokenmill.pipeline.recipe import Recipe

VERSION = 1
#: Bytes of a record of `exact`: two halves of a hash, rank and number.
_RECORD_BYTES = 32


def find_copies(context: Context, ranks: Sequence[Output], bases: U64) -> tuple[tuple[Output, ...], tuple[Output, ...]]:
    """Run the rounds: files of COPY_COLUMNS and of FIRST_COLUMNS, a partition a group."""
    partitions = exchange.num_partitions(sum(group.documents for group in context.groups) * _RECORD_BYTES)
    tasks = [
        RoundTask(group.name, run_exact, (group, of_partition(ranks, group.index), partitions))
        for group in context.groups
    ]
    hashed = [output for receipt in context.run("dedup_exact", tasks) for output in receipt.outputs]
    files = merged(context, "exact", hashed, partitions)
    tasks = [
        RoundTask(f"partition-{index:05d}", run_equal, (index, of_partition(files, index), bases.tolist()))
        for index in range(partitions)
    ]
    receipts = context.run("dedup_equal", tasks)
    copies, firsts = (
        merged(context, name, [receipt.output(name) for receipt in receipts], len(context.groups))
        for name in ("copies", "firsts")
    )
    return copies, firsts


def run_exact(run: TaskRun, recipe: Recipe, group: Group, ranks: Sequence[Output], partitions: int) -> Receipt:
    """Send the hashes of a group to their partitions."""
    table = hashes_table(recipe.dedup.of)
    inputs = {**inputs_of(group, ("decisions", table)), "ranks": hash_of(ranks)}
    params = {"numbers": place_of(group), "partitions": partitions}

    def work(key: str) -> Work:
        number, rank = ranks_of(run.storage, ranks, group)
        high, low = hash_halves(run.storage, group, table)
        columns = {"high": high, "low": low, "rank": rank, "number": number}
        path = f"dedup/exact/{group.name}.{key}.arrow"
        return Work((send(run.storage, "hashes", path, columns, by_hash(high, partitions), partitions),))

    return run.once(Task("dedup_exact", VERSION, "", group.name, params, inputs), work)


def run_equal(run: TaskRun, recipe: Recipe, index: int, hashed: Sequence[Output], bases: list[int]) -> Receipt:
    """Find the first of each text in a partition."""
    name = f"partition-{index:05d}"
    task = Task("dedup_equal", VERSION, "", name, {"index": index, "bases": bases}, {"hashes": hash_of(hashed)})

    def work(key: str) -> Work:
        found = {
            column: array.astype(np.uint64, copy=False)
            for column, array in read_partition(run.storage, hashed, index).items()
        }
        number, rank = found["number"], found["rank"]
        copy, first = repeats(found["high"], found["low"], rank)
        begins = np.flatnonzero(np.diff(first, prepend=-1))  # repeats of one text follow one another
        copied = first[begins]
        copies: Columns = {
            "number": number[copy],
            "rank": rank[copy],
            "first": rank[first],
            "first_number": number[first],
        }
        firsts: Columns = {
            "number": number[copied],
            "rank": rank[copied],
            "copies": np.diff(begins, append=len(first)).astype(np.int32),
        }
        outputs = []
        for kind, columns, owner in (("copies", copies, number[copy]), ("firsts", firsts, number[copied])):
            groups = group_of(owner, np.array(bases, np.uint64))
            path = f"dedup/equal/{name}.{kind}.{key}.arrow"
            outputs.append(send(run.storage, kind, path, columns, groups, len(bases)))
        return Work(tuple(outputs), notes={"copies": len(copy)})

    return run.once(task, work)
