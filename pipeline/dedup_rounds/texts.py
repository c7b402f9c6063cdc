"""Verification on the text, for edges whose signatures let them through: exact Jaccard of their shingle sets.

ask    (per group)  the earlier documents of its edges → by their group
sets   (per group)  reads the texts that are asked for, each part once, in order → shingles, to each group that asked
check  (per group)  reads its own texts, a stretch at a time, each against every file of shingles sent to it → edges,
                    their similarity in millionths

A task holds one stretch of its own sets and one file of others', however long the texts are.

Of a document that was taken down and erased there is no text. Against it the whole signature decides, as with
`verify: signature`: what duplicates it stays out, when it comes later too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from tokenmill.dedup.jaccard import MILLION, ShingleSets, joined, similar_texts
from tokenmill.dedup.minhash import MinHashParams
from tokenmill.dedup.verify import min_equal
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.compared import TEXT
from tokenmill.pipeline.dedup_rounds.asks import REQUEST_COLUMNS, ask_for_earlier
from tokenmill.pipeline.dedup_rounds.edges import EDGE_COLUMNS, Context, RoundTask
from tokenmill.pipeline.dedup_rounds.groups import I64, U64, Group, GroupPart
from tokenmill.pipeline.dedup_rounds.merge import merged, of_partition, send
from tokenmill.pipeline.dedup_rounds.rows import hash_of, place_of, storage_of
from tokenmill.pipeline.dedup_rounds.verify import write_edges
from tokenmill.pipeline.exchange import Columns, read_partition, read_records, rows_in
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.text_check import read_for_texts, sets_of_rows, text_outputs

VERSION = 2
#: Shingles of one file that *sets* writes (16 bytes each), and of one stretch of *check* (8 bytes each), about.
SENT_SHINGLES = 1 << 24
HELD_SHINGLES = 1 << 25
Edges = dict[str, npt.NDArray[np.generic]]


def check_texts(context: Context, suspects: Sequence[tuple[Output, ...]]) -> list[tuple[Output, ...]]:
    """Run the rounds: of each group, files of EDGE_COLUMNS, one partition each. `suspects`: likewise."""
    groups = context.groups
    files = ask_for_earlier(context, "dedup_ask", suspects)
    tasks = []
    for group in groups:
        tasks.append(RoundTask(group.name, run_sets, (group, of_partition(files, group.index), len(groups))))
    sent = [output for receipt in context.run("dedup_sets", tasks) for output in receipt.outputs]
    files = merged(context, "sets", sent, len(groups))
    tasks = []
    for group, found in zip(groups, suspects, strict=True):
        tasks.append(RoundTask(group.name, run_check, (group, found, of_partition(files, group.index))))
    return [receipt.outputs for receipt in context.run("dedup_check", tasks)]


def run_sets(run: TaskRun, recipe: Recipe, group: Group, asked: Sequence[Output], groups: int) -> Receipt:
    """Send the shingles of a group's documents to where they are needed."""
    params = {**_params(recipe, group), "groups": groups, "shingles": SENT_SHINGLES}
    inputs = {**_inputs(recipe, group), "asked": hash_of(asked)}

    def work(key: str) -> Work:
        found = read_records(run.storage, asked, group.index, REQUEST_COLUMNS)
        order = np.argsort(found["number"], kind="stable")
        number, where = found["number"][order].astype(np.uint64), found["group"][order].astype(np.int64)
        outputs = []
        for chunk, (columns, target) in enumerate(_sent(run.storage, recipe, group, number, where)):
            path = f"dedup/sets/{group.name}.{chunk}.{key}.arrow"
            outputs.append(send(run.storage, f"sets/{chunk}", path, columns, target, groups))
        return Work(tuple(outputs))

    return run.once(Task("dedup_sets", VERSION, "", group.name, params, inputs), work)


def run_check(
    run: TaskRun, recipe: Recipe, group: Group, suspects: Sequence[Output], sent: Sequence[Output]
) -> Receipt:
    """Keep a group's edges whose texts are similar enough."""
    threshold = recipe.dedup.threshold
    params = {**_params(recipe, group), "threshold": str(threshold), "shingles": HELD_SHINGLES}
    inputs = {**_inputs(recipe, group), "suspects": hash_of(suspects), "sent": hash_of(sent)}

    def work(key: str) -> Work:
        files = [output for output in sent if rows_in(output, group.index)]
        notes = {"edges": 0, "by_signature": 0}

        def found() -> Iterator[Columns]:
            for columns, by_signature in _checked(run.storage, recipe, group, suspects, files):
                notes["edges"] += len(columns["equal"])
                notes["by_signature"] += len(columns["equal"]) * by_signature
                yield columns

        outputs = tuple(write_edges(run.storage, f"dedup/check/{group.name}.{{}}.{key}.arrow", found()))
        return Work(outputs, notes=notes)

    return run.once(Task("dedup_check", VERSION, "", group.name, params, inputs), work)


def _sent(storage: Storage, recipe: Recipe, group: Group, number: U64, where: I64) -> Iterator[tuple[Columns, I64]]:
    """Records (number, hash) with the group that each goes to, a file at a time.

    A set lies whole in one of the files that go to a group; `number` is ascending, with repeats.
    """
    opens = np.diff(number, prepend=~number[:1]) != 0
    set_of = np.cumsum(opens) - 1
    for at, sets in _stretches(storage, recipe, group, number[opens], SENT_SHINGLES):
        begin, end = np.searchsorted(set_of, (at, at + len(sets.bounds) - 1)).tolist()
        rows = set_of[begin:end] - at
        ends = np.cumsum(np.diff(sets.bounds)[rows])
        files = (ends - 1) // SENT_SHINGLES  # more than one where many groups ask for the same
        for file in np.unique(files).tolist():
            mine = np.flatnonzero(files == file)
            hashes, counts = _gathered(sets, rows[mine])
            columns: Columns = {"number": np.repeat(number[begin + mine], counts), "hash": hashes}
            yield columns, np.repeat(where[begin + mine], counts)


def _gathered(sets: ShingleSets, rows: I64) -> tuple[U64, I64]:
    """Hashes of some sets, one after another, and how many each has."""
    counts = np.diff(sets.bounds)[rows]
    ends = np.cumsum(counts)
    places = np.repeat(sets.bounds[rows] - (ends - counts), counts) + np.arange(int(counts.sum()))
    return sets.hashes[places], counts


def _stretches(
    storage: Storage, recipe: Recipe, group: Group, numbers: U64, shingles: int
) -> Iterator[tuple[int, ShingleSets]]:
    """Sets of some of the group's documents, about so many shingles at a time; how many documents came before."""
    at = held = 0
    waiting: list[ShingleSets] = []
    for sets in _sets_of_group(storage, recipe, group, numbers):
        waiting.append(sets)
        held += len(sets.hashes)
        if held >= shingles:
            whole = joined(waiting)
            yield at, whole
            at, held, waiting = at + len(whole.bounds) - 1, 0, []
    if waiting:
        yield at, joined(waiting)


def _sets_of_group(storage: Storage, recipe: Recipe, group: Group, numbers: U64) -> Iterator[ShingleSets]:
    """Sets of some of the group's documents, ascending, row group by row group."""
    bases = np.array([*(part.base for part in group.parts), group.base + group.rows], np.uint64)
    bounds = np.searchsorted(numbers, bases).tolist()
    for part, begin, end in zip(group.parts, bounds, bounds[1:], strict=False):
        if begin < end:
            rows = (numbers[begin:end] - np.uint64(part.base)).astype(np.int64)
            there = storage_of(storage, part)
            yield from sets_of_rows(there, _texts_of(recipe, part), rows, recipe.dedup)


def _checked(
    storage: Storage, recipe: Recipe, group: Group, suspects: Sequence[Output], files: Sequence[Output]
) -> Iterator[tuple[Columns, bool]]:
    """Edges that hold, and whether signatures decided.

    A file of suspects after another, in it a stretch of the later documents after another.
    """
    for suspect in suspects:
        edges = read_partition(storage, [suspect], 0)
        order = np.argsort(edges["later_number"], kind="stable")
        edges = {name: column[order] for name, column in edges.items()}
        later = edges["later_number"].astype(np.uint64)
        opens = np.diff(later, prepend=~later[:1]) != 0
        row_of = np.cumsum(opens) - 1
        for at, sets in _stretches(storage, recipe, group, later[opens], HELD_SHINGLES):
            begin, end = np.searchsorted(row_of, (at, at + len(sets.bounds) - 1)).tolist()
            mine = {name: column[begin:end] for name, column in edges.items()}
            rows = row_of[begin:end] - at
            erased = np.ones(end - begin, np.bool_)
            for file in files:
                here, found = _against(storage, group, file, mine, sets, rows, recipe.dedup.threshold)
                erased[here] = False
                yield found, False
            erased |= np.diff(sets.bounds)[rows] == 0
            gone = {name: column[erased] for name, column in mine.items()}
            yield _by_signature(gone, recipe.dedup.minhash), True


def _against(
    storage: Storage, group: Group, file: Output, edges: Edges, later: ShingleSets, later_row: I64, threshold: float
) -> tuple[I64, Columns]:
    """Places of the edges whose earlier document's shingles are in `file`; those of them that are similar enough."""
    sent = read_partition(storage, [file], group.index)
    number = sent["number"].astype(np.uint64, copy=False)
    begins = np.flatnonzero(np.diff(number, prepend=~number[:1]))
    earlier = ShingleSets(sent["hash"].astype(np.uint64, copy=False), np.append(begins, len(number)))
    place = np.minimum(np.searchsorted(number[begins], edges["earlier_number"]), len(begins) - 1)
    here = np.flatnonzero(number[begins][place] == edges["earlier_number"])
    similar = similar_texts(earlier, later, place[here], later_row[here], threshold)
    stays = here[similar > 0]
    found = {name: edges[name][stays] for name in EDGE_COLUMNS}
    return here, {**found, "equal": similar[similar > 0]}


def _by_signature(edges: Edges, minhash: MinHashParams) -> Columns:
    """Edges of an erased document whose whole signatures are similar enough, `equal` in millionths, too.

    Only a text that is gone has no shingles: an empty one has one.
    """
    stays = edges["equal"].astype(np.int32, copy=False) >= min_equal(minhash)
    found = {name: edges[name][stays] for name in EDGE_COLUMNS}
    equal = found["equal"].astype(np.int64) * MILLION // minhash.num_permutations
    return {**found, "equal": equal.astype(np.int32)}


def _texts_of(recipe: Recipe, part: GroupPart) -> list[Output]:
    if part.elsewhere is not None:
        return read_for_texts(recipe.dedup, part.tables, list(part.elsewhere.edits))
    return text_outputs(recipe, part.source, part.tables)


def _inputs(recipe: Recipe, group: Group) -> dict[str, str]:
    """Hashes of the texts; one that was erased in part has another: what is left of it is read."""
    texts = {f"{out.name}/{part.key}": out for part in group.parts for out in _texts_of(recipe, part)}
    return {name: out.detail.get("erased", {}).get("hash", out.hash) for name, out in texts.items()}


def _params(recipe: Recipe, group: Group) -> dict[str, object]:
    shingling = recipe.dedup.minhash.shingling
    rules = {part.source: [out.name for out in _texts_of(recipe, part)] for part in group.parts}
    params: dict[str, object] = {"numbers": place_of(group), "shingling": asdict(shingling), "rules": rules}
    return params if recipe.dedup.of == TEXT else params | {"of": recipe.dedup.of}
