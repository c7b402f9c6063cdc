"""Candidates: documents that share a bucket of a band.

bands   (per group)      drops exact copies, reads the signatures of the rest → (band key, rank, number) by key
meet    (per partition)  each document meets the first members of its bucket, in survivor order → pairs, by group of the
                         later document; and who is needed where, by group of the earlier one

Of a heavy bucket the pairs go to as many groups as it has documents; its first members get one request a group, not
one a pair. A pair that meets in several bands comes several times: the group of its later document joins them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.dedup.bands import Buckets, band_keys, buckets_of, chunk_ends, pairs_between
from tokenmill.dedup.radix import by_hash
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline import exchange
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.dedup_rounds.edges import COPY_COLUMNS, Context, RoundTask
from tokenmill.pipeline.dedup_rounds.groups import I64, U64, Group, end_of_own, group_of
from tokenmill.pipeline.dedup_rounds.merge import merged, of_partition, send
from tokenmill.pipeline.dedup_rounds.rows import hash_of, inputs_of, place_of, ranks_of, signatures_of
from tokenmill.pipeline.exchange import Columns, read_partition, read_records
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.storage import Storage

VERSION = 1
#: Pairs of one file, about: what a heavy bucket makes is written in pieces of 128 MB.
PAIRS = 1 << 23
#: Buckets told of in a receipt, the largest first.
HEAVIEST = 8
#: Bytes of a record: band key, rank and number.
_RECORD_BYTES = 24
_READS = ("decisions", "signals/minhash")
_GROUP_BITS = np.uint64(24)
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Met:
    """What *meet* leaves.

    Attributes:
        pairs: files of (earlier_number, later_number), uint64, partition = group of the later; with repeats.
        requests: files of (number uint64, group int32), partition = group of the number: where its signature is needed.
        cut: meetings that the bucket limit left out.
        heaviest: see `edges.Verified`.
    """

    pairs: tuple[Output, ...]
    requests: tuple[Output, ...]
    cut: int
    heaviest: tuple[tuple[int, int, str], ...]


def find_candidates(context: Context, ranks: Sequence[Output], copies: Sequence[Output], bases: U64) -> Met:
    """Run the rounds."""
    params = context.recipe.dedup.minhash
    total = sum(group.documents for group in context.groups) * params.bands * _RECORD_BYTES
    partitions = exchange.num_partitions(total)
    tasks = []
    for group in context.groups:
        told = (of_partition(ranks, group.index), of_partition(copies, group.index))
        tasks.append(RoundTask(group.name, run_bands, (group, *told, partitions)))
    keyed = [output for receipt in context.run("dedup_bands", tasks) for output in receipt.outputs]
    files = merged(context, "bands", keyed, partitions)
    own = end_of_own(context.groups)
    tasks = [
        RoundTask(f"partition-{index:05d}", run_meet, (index, of_partition(files, index), bases.tolist(), own))
        for index in range(partitions)
    ]
    receipts = context.run("dedup_meet", tasks)
    outputs = [output for receipt in receipts for output in receipt.outputs]
    buckets = [(size, number, key) for receipt in receipts for size, number, key in receipt.notes["heaviest"]]
    pairs, requests = (
        merged(context, kind, [output for output in outputs if output.name.startswith(f"{kind}/")], len(context.groups))
        for kind in ("pairs", "requests")
    )
    return Met(
        pairs,
        requests,
        sum(receipt.notes["cut"] for receipt in receipts),
        tuple(sorted(buckets, key=lambda bucket: (-bucket[0], *bucket[1:]))[:HEAVIEST]),
    )


def run_bands(
    run: TaskRun, recipe: Recipe, group: Group, ranks: Sequence[Output], copies: Sequence[Output], partitions: int
) -> Receipt:
    """Send the band keys of a group to their partitions."""
    minhash = recipe.dedup.minhash
    inputs = {**inputs_of(group, _READS), "ranks": hash_of(ranks), "copies": hash_of(copies)}
    params = {
        "numbers": place_of(group),
        "partitions": partitions,
        "num_permutations": minhash.num_permutations,
        "bands": [minhash.bands, minhash.rows],
    }

    def work(key: str) -> Work:
        number, rank = standing_of(run.storage, ranks, copies, group)
        keys = np.empty((minhash.bands, len(number)), np.uint64)
        for at, matrix in signatures_of(run.storage, group, number, minhash.num_permutations):
            keys[:, at : at + len(matrix)] = band_keys(matrix, minhash)
        flat = keys.reshape(-1)
        columns = {"key": flat, "rank": np.tile(rank, minhash.bands), "number": np.tile(number, minhash.bands)}
        path = f"dedup/bands/{group.name}.{key}.arrow"
        return Work((send(run.storage, "keys", path, columns, by_hash(flat, partitions), partitions),))

    return run.once(Task("dedup_bands", VERSION, "", group.name, params, inputs), work)


def standing_of(storage: Storage, ranks: Sequence[Output], copies: Sequence[Output], group: Group) -> tuple[U64, U64]:
    """Numbers, ascending, and ranks of the group's kept documents that are first of their text: uint64[n] both."""
    number, rank = ranks_of(storage, ranks, group)
    repeated = read_records(storage, copies, group.index, COPY_COLUMNS)["number"]
    standing = np.ones(len(number), np.bool_)
    standing[np.searchsorted(number, repeated)] = False
    return number[standing], rank[standing]


def run_meet(
    run: TaskRun, recipe: Recipe, index: int, keyed: Sequence[Output], bases: list[int], own: int | None = None
) -> Receipt:
    """Pair the documents of each bucket of a partition; documents numbered from `own` on are not paired together."""
    limit = recipe.dedup.bucket_limit
    name = f"partition-{index:05d}"
    params: dict[str, object] = {"index": index, "bases": bases, "bucket_limit": limit, "pairs": PAIRS}
    if own is not None:
        params["own"] = own

    def work(key: str) -> Work:
        found = {
            column: array.astype(np.uint64, copy=False)
            for column, array in read_partition(run.storage, keyed, index).items()
        }
        buckets = buckets_of(found["key"], found.pop("rank"), limit)
        heaviest = heaviest_buckets(buckets, found["key"], found["number"])
        del found["key"]
        path = f"dedup/meet/{name}.{{}}.{key}.arrow"
        outputs = _write_pairs(run.storage, path, buckets, found["number"], np.array(bases, np.uint64), own)
        return Work(tuple(outputs), notes={"cut": buckets.cut, "heaviest": heaviest})

    return run.once(Task("dedup_meet", VERSION, "", name, params, {"keys": hash_of(keyed)}), work)


def _write_pairs(
    storage: Storage, path: str, buckets: Buckets, number: U64, bases: U64, own: int | None
) -> Iterator[Output]:
    begin = 0
    for chunk, end in enumerate(chunk_ends(buckets, PAIRS)):
        earlier_row, later_row = pairs_between(buckets, begin, end)
        begin = end
        if own is not None:  # those of earlier runs all stay, and rank first
            mine = number[later_row] < own
            earlier_row, later_row = earlier_row[mine], later_row[mine]
        if not len(earlier_row):
            continue
        earlier, later = number[earlier_row], number[later_row]
        target = group_of(later, bases)
        columns = {"earlier_number": earlier, "later_number": later}
        yield send(storage, f"pairs/{chunk}", path.format(f"pairs-{chunk}"), columns, target, len(bases))
        wanted, where = requests_of(earlier, target)
        asked: Columns = {"number": wanted, "group": where}
        yield send(
            storage,
            f"requests/{chunk}",
            path.format(f"requests-{chunk}"),
            asked,
            group_of(wanted, bases),
            len(bases),
        )


def requests_of(number: U64, group: I64) -> tuple[U64, I32]:
    """The distinct (number, group) of many, ascending: uint64[k], int32[k]. Numbers < 2^40, groups < 2^24."""
    codes = (number << _GROUP_BITS) | group.astype(np.uint64)
    codes.sort()
    codes = codes[np.flatnonzero(np.diff(codes, prepend=~codes[:1]))]
    return codes >> _GROUP_BITS, (codes & np.uint64((1 << 24) - 1)).astype(np.int32)


def heaviest_buckets(buckets: Buckets, key: U64, number: U64) -> list[tuple[int, int, str]]:
    """The buckets with most documents, heaviest first: documents, number of the first, key in hex."""
    ends = np.flatnonzero(np.diff(buckets.place, append=0) < 0)  # a bucket of one begins and ends at place 0
    sizes = buckets.place[ends] + 1
    firsts = buckets.order[ends - buckets.place[ends]]
    top = np.lexsort((number[firsts], -sizes))[:HEAVIEST]
    return [(int(sizes[i]), int(number[firsts[i]]), f"{int(key[firsts[i]]):016x}") for i in top]
