"""Verification: a pair counts if enough of its whole signatures agrees.

carry   (per group)  reads the group's signatures, each part once, in order, and sends each that is needed once to each
                     group that needs it
verify  (per group)  joins the pairs whose later document is its own, counts equal minima → edges, or, where the text
                     decides, those worth a look (see `texts`)

A task holds the signatures of its own group that are in pairs, and those of one other group.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokenmill.dedup import survivors
from tokenmill.dedup.radix import places_in
from tokenmill.dedup.verify import equal_minima_between, min_equal, min_equal_for_text
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.dedup_rounds.asks import REQUEST_COLUMNS
from tokenmill.pipeline.dedup_rounds.bands import Met, requests_of
from tokenmill.pipeline.dedup_rounds.edges import FIRST_COLUMNS, Context, RoundTask
from tokenmill.pipeline.dedup_rounds.groups import I64, U64, Group
from tokenmill.pipeline.dedup_rounds.merge import merged, of_partition, send
from tokenmill.pipeline.dedup_rounds.rows import U32, hash_of, inputs_of, place_of, ranks_of, signatures_of
from tokenmill.pipeline.exchange import Columns, read_partition, read_records, rows_in, write_partitions
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.storage import Storage

VERSION = 1
#: Signatures of one file that *carry* writes, and edges of one that *verify* does, at most.
SIGNATURES = 1 << 19
EDGES = 1 << 22
_READS = ("decisions", "signals/minhash")
_LOW = np.uint64(32)
_MASK = np.uint64(0xFFFFFFFF)
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Told:
    """What earlier rounds left about all groups.

    Attributes:
        ranks: see `edges.Verified`.
        firsts: see there.
    """

    ranks: tuple[Output, ...]
    firsts: tuple[Output, ...]

    def of(self, group: Group) -> "Told":
        """What of it tells of one group."""
        return Told(of_partition(self.ranks, group.index), of_partition(self.firsts, group.index))

    @property
    def inputs(self) -> dict[str, str]:
        """Their hashes."""
        return {"ranks": hash_of(self.ranks), "firsts": hash_of(self.firsts)}


@dataclass(frozen=True, eq=False)
class Kept:
    """Kept documents of a group, in order of number: uint64[n], uint64[n], and 1 + exact copies, int32[n]."""

    number: U64
    rank: U64
    documents: I32


def verify_candidates(context: Context, told: Told, met: Met) -> list[tuple[Output, ...]]:
    """Run the rounds: of each group, files of EDGE_COLUMNS, one partition each."""
    groups = context.groups
    tasks = []
    for group in groups:
        asked = of_partition(met.requests, group.index)
        tasks.append(RoundTask(group.name, run_carry, (group, told.of(group), asked, len(groups))))
    sent = [output for receipt in context.run("dedup_carry", tasks) for output in receipt.outputs]
    carried = merged(context, "carry", sent, len(groups))
    tasks = []
    for group in groups:
        files = (of_partition(met.pairs, group.index), of_partition(carried, group.index))
        tasks.append(RoundTask(group.name, run_verify, (group, told.of(group), *files)))
    return [receipt.outputs for receipt in context.run("dedup_verify", tasks)]


def run_carry(
    run: TaskRun, recipe: Recipe, group: Group, told: Told, requests: Sequence[Output], groups: int
) -> Receipt:
    """Send a group's signatures to where they are needed."""
    width = recipe.dedup.num_permutations
    params = {"numbers": place_of(group), "groups": groups, "num_permutations": width, "signatures": SIGNATURES}
    inputs = {**inputs_of(group, _READS), **told.inputs, "requests": hash_of(requests)}

    def work(key: str) -> Work:
        asked = read_records(run.storage, requests, group.index, REQUEST_COLUMNS)
        number, where = requests_of(asked["number"].astype(np.uint64), asked["group"].astype(np.int64))
        kept = _kept(run.storage, told, group)
        outputs = []
        for begin in range(0, len(number), SIGNATURES):
            chunk = slice(begin, begin + SIGNATURES)
            name = f"signatures/{begin // SIGNATURES}"
            path = f"dedup/carry/{group.name}.{begin // SIGNATURES}.{key}.arrow"
            columns = _carried(run.storage, group, kept, number[chunk], width)
            outputs.append(send(run.storage, name, path, columns, where[chunk].astype(np.int64), groups))
        return Work(tuple(outputs))

    return run.once(Task("dedup_carry", VERSION, "", group.name, params, inputs), work)


def _kept(storage: Storage, told: Told, group: Group) -> Kept:
    number, rank = ranks_of(storage, told.ranks, group)
    firsts = read_records(storage, told.firsts, group.index, FIRST_COLUMNS)
    documents = np.ones(len(number), np.int32)
    documents[np.searchsorted(number, firsts["number"])] += firsts["copies"].astype(np.int32)
    return Kept(number, rank, documents)


def _carried(storage: Storage, group: Group, kept: Kept, number: U64, width: int) -> Columns:
    """What other groups need to know of documents: `number` is ascending, with repeats."""
    opens = np.diff(number, prepend=~number[:1]) != 0
    distinct = number[opens]
    row_of = np.cumsum(opens) - 1  # of `distinct`
    signature = np.empty((len(number), width), np.uint32)
    for at, matrix in signatures_of(storage, group, distinct, width):
        begin, end = np.searchsorted(row_of, (at, at + len(matrix)))
        signature[begin:end] = matrix[row_of[begin:end] - at]
    place = np.searchsorted(kept.number, number)
    return {
        "number": number,
        "rank": kept.rank[place],
        "documents": kept.documents[place],
        "signature": signature,
    }


def run_verify(
    run: TaskRun, recipe: Recipe, group: Group, told: Told, pairs: Sequence[Output], carried: Sequence[Output]
) -> Receipt:
    """Verify the pairs whose later document is the group's."""
    minhash = recipe.dedup.minhash
    least = min_equal(minhash) if recipe.dedup.verify == "signature" else min_equal_for_text(minhash)
    params = {
        "numbers": place_of(group),
        "num_permutations": minhash.num_permutations,
        "min_equal": least,
        "edges": EDGES,
    }
    inputs = {**inputs_of(group, _READS), **told.inputs, "pairs": hash_of(pairs), "carried": hash_of(carried)}

    def work(key: str) -> Work:
        kept = _kept(run.storage, told, group)
        files = [output for output in carried if rows_in(output, group.index)]
        numbers = [read_partition(run.storage, [file], group.index, ["number"])["number"] for file in files]
        codes = _distinct_pairs(run.storage, pairs, group, kept.number, numbers)
        found = _edges(run.storage, group, kept, files, codes, minhash.num_permutations, least)
        path = f"dedup/verify/{group.name}.{{}}.{key}.arrow"
        outputs = tuple(write_edges(run.storage, path, found))
        edges = sum(output.detail["rows"][0] for output in outputs)
        return Work(outputs, notes={"candidates": len(codes), "edges": edges})

    return run.once(Task("dedup_verify", VERSION, "", group.name, params, inputs), work)


def _distinct_pairs(
    storage: Storage, pairs: Sequence[Output], group: Group, number: U64, carried: Sequence[npt.NDArray[np.generic]]
) -> U64:
    """Pairs, each once, as place among the carried numbers << 32 | place among the group's: uint64[k], ascending.

    Carried numbers ascend over all files: groups come in order, and each sends its own in order.
    """
    numbers = np.concatenate(carried) if carried else np.empty(0, np.uint64)
    codes = np.empty(0, np.uint64)
    for output in pairs:
        if rows_in(output, group.index):
            met = read_partition(storage, [output], group.index)
            earlier, later = (met[name].astype(np.uint64, copy=False) for name in ("earlier_number", "later_number"))
            new = (places_in(numbers, earlier).astype(np.uint64) << _LOW) | places_in(number, later).astype(np.uint64)
            new.sort()
            codes = survivors.merged(codes, new[np.flatnonzero(np.diff(new, prepend=~new[:1]))])
    return codes


def _edges(
    storage: Storage, group: Group, kept: Kept, files: Sequence[Output], codes: U64, width: int, least: int
) -> Iterator[Columns]:
    """Verified pairs, file by file of carried signatures."""
    later = (codes & _MASK).astype(np.int64)
    needed = np.zeros(len(kept.number), np.bool_)
    needed[later] = True
    row_of = np.cumsum(needed) - 1  # of the signatures
    signature = _signatures(storage, group, kept.number[needed], width)
    before = 0
    for file in files:
        sent = read_partition(storage, [file], group.index)
        ends = (np.array([before, before + len(sent["number"])], np.uint64)) << _LOW
        begin, end = np.searchsorted(codes, ends)
        for start in range(begin, end, EDGES):
            mine = slice(start, min(start + EDGES, end))
            rows = (codes[mine] >> _LOW).astype(np.int64) - before
            theirs: U32 = sent["signature"].astype(np.uint32, copy=False)
            equal = equal_minima_between(theirs, signature, rows, row_of[later[mine]])
            yield _columns(kept, sent, rows, later[mine], equal, equal >= least)
        before += len(sent["number"])


def _signatures(storage: Storage, group: Group, number: U64, width: int) -> U32:
    signature = np.empty((len(number), width), np.uint32)
    for at, matrix in signatures_of(storage, group, number, width):
        signature[at : at + len(matrix)] = matrix
    return signature


def _columns(kept: Kept, sent: Columns, earlier: I64, later: I64, equal: I32, passed: npt.NDArray[np.bool_]) -> Columns:
    earlier, later = earlier[passed], later[passed]
    return {
        "earlier": sent["rank"][earlier],
        "later": kept.rank[later],
        "earlier_number": sent["number"][earlier],
        "later_number": kept.number[later],
        "equal": equal[passed],
        "earlier_documents": sent["documents"][earlier],
        "later_documents": kept.documents[later],
    }


def write_edges(storage: Storage, path: str, found: Iterator[Columns]) -> Iterator[Output]:
    """Files of at most EDGES + what one more step brings; none without edges."""
    waiting: list[Columns] = []
    held = written = 0

    def flush() -> Output:
        joined = {name: np.concatenate([columns[name] for columns in waiting]) for name in waiting[0]}
        partition = np.zeros(held, np.int64)
        return write_partitions(storage, f"edges/{written}", path.format(written), joined, partition, 1)

    for columns in found:
        if len(columns["equal"]):
            waiting.append(columns)
            held += len(columns["equal"])
        if held >= EDGES:
            yield flush()
            waiting, held, written = [], 0, written + 1
    if held:
        yield flush()
