"""*deduplicate* in one process, with everything in memory: what the rounds must come to, file for file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.dedup.exact import hash_matrix
from tokenmill.dedup.jaccard import ShingleSets, joined, similar_texts
from tokenmill.dedup.minhash import signature_matrix
from tokenmill.dedup.survivor_order import survivor_keys
from tokenmill.dedup.survivors import KINDS, CheckText, Removals, deduplicate
from tokenmill.manifests.balance import Balance, Tally
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.manifests.schemas import CLUSTERS, LEDGER
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.recipe import Dedup, Recipe
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.survivor import policy_columns, policy_tables
from tokenmill.pipeline.tables import one_chunk, read_table, write_table
from tokenmill.pipeline.text_check import sets_of_rows, text_outputs

VERSION = 1
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """The kept rows of all parts, in survivor order.

    Attributes:
        part: int64[n], index into the parts.
        row: int64[n], row of the document in its part.
        text_bytes: int64[n].
        content_hash: uint8[n, 16].
        signature: uint32[n, num_permutations].
    """

    part: I64
    row: I64
    text_bytes: I64
    content_hash: npt.NDArray[np.uint8]
    signature: npt.NDArray[np.uint32]


def run_deduplicate(
    run: TaskRun,
    recipe: Recipe,
    parts: Sequence[Part],
    tables: Mapping[str, Mapping[str, Output]],
    units: Mapping[str, str],
) -> Receipt:
    """Find all duplicates of the run.

    Args:
        run: the run.
        recipe: the recipe.
        parts: all parts.
        tables: outputs of each part, by part key and name.
        units: the unit of each part.
    """
    names = ["decisions", "signals/hashes", *(["signals/minhash"] if recipe.dedup.near else [])]
    inputs = {f"{name}/{part.key}": tables[part.key][name].hash for part in parts for name in names}
    for part in parts:
        own = tables[part.key]
        compared = [name for name in policy_tables(recipe.dedup.survivor) if name in own]
        inputs |= {f"{name}/{part.key}": own[name].hash for name in compared}
    if recipe.dedup.near and recipe.dedup.verify == "text":
        for part in parts:
            read = text_outputs(recipe, part.source, tables[part.key])
            inputs |= {f"{out.name}/{part.key}": out.hash for out in read}
    params = {
        "dedup": recipe.dedup.model_dump(mode="json"),
        "priorities": {source.name: source.priority for source in recipe.sources},
        "generations": {part.key: part.generation for part in parts if part.generation},
        "units": dict(sorted(units.items())),
    }
    task = Task("deduplicate", VERSION, "", "all", params, inputs)

    def work(key: str) -> Work:
        candidates = _gather(run.storage, recipe, parts, tables)
        check = None
        if recipe.dedup.verify == "text":
            check = text_check(run.storage, recipe, parts, tables, candidates.part, candidates.row)
        removals = _removals(recipe.dedup, candidates, check)
        return _write(run.storage, parts, units, candidates, removals, key)

    return run.once(task, work)


def _gather(
    storage: Storage, recipe: Recipe, parts: Sequence[Part], tables: Mapping[str, Mapping[str, Output]]
) -> Candidates:
    policy = recipe.dedup.survivor
    columns: dict[str, list[npt.NDArray[np.generic]]] = {
        name: [] for name in ("part", "row", "bytes", "hash", "sign", "keys")
    }
    for index, part in enumerate(parts):
        kept = read_table(storage, tables[part.key]["decisions"].path, ["kept"]).column(0).to_numpy()
        rows = np.flatnonzero(kept)
        content = read_table(storage, tables[part.key]["signals/hashes"].path).combine_chunks().take(rows)
        columns["part"].append(np.full(len(rows), index, np.int64))
        columns["row"].append(rows.astype(np.int64))
        compared = policy_columns(storage, policy, recipe.source(part.source), tables[part.key], rows)
        keys = survivor_keys(policy, compared)
        columns["keys"].append(np.array(keys, np.uint64).reshape(len(policy), len(rows)).T)
        columns["bytes"].append(content.column("text_bytes").to_numpy())
        columns["hash"].append(hash_matrix(one_chunk(content.column("content_hash"))))
        if recipe.dedup.near:
            table = read_table(storage, tables[part.key]["signals/minhash"].path).combine_chunks().take(rows)
            columns["sign"].append(signature_matrix(one_chunk(table.column("signature"))))
        else:
            columns["sign"].append(np.empty((len(rows), 0), np.uint32))
    joined = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    order = survivor_order(
        np.array([part.generation for part in parts])[joined["part"]],
        list(joined["keys"].T),
        np.array([int(part.key, 16) for part in parts], np.uint64)[joined["part"]],
        joined["row"].astype(np.int64),
    )
    return Candidates(*(joined[name][order] for name in ("part", "row", "bytes", "hash", "sign")))


def survivor_order(
    generation: I64, keys: Sequence[npt.NDArray[np.generic]], part: npt.NDArray[np.uint64], row: I64
) -> I64:
    """Indices in survivor order: generation, then the keys of the policy, then identity (part key, row)."""
    return np.lexsort([generation, *keys, part, row][::-1])


def _removals(dedup: Dedup, candidates: Candidates, check_text: CheckText | None) -> Removals:
    hashes = candidates.content_hash
    if not dedup.exact:  # then every text is its own: number them
        hashes = np.zeros((len(candidates.row), 16), np.uint8)
        hashes[:, :8] = np.arange(len(candidates.row), dtype=np.uint64)[:, None].view(np.uint8).reshape(-1, 8)
    return deduplicate(hashes, candidates.signature, dedup.minhash, dedup.bucket_limit, check_text)


def _write(
    storage: Storage,
    parts: Sequence[Part],
    units: Mapping[str, str],
    candidates: Candidates,
    removals: Removals,
    key: str,
) -> Work:
    part_keys = np.array([part.key for part in parts], object)
    sources = [part.source for part in parts]
    ledger = pa.table(
        [
            part_keys[candidates.part[removals.removed]],
            candidates.row[removals.removed].astype(np.int32),
            part_keys[candidates.part[removals.keeper]],
            candidates.row[removals.keeper].astype(np.int32),
            removals.similarity,
            np.array(KINDS, object)[removals.kind],
            pa.nulls(len(removals.kind), pa.string()),
        ],
        schema=LEDGER,
    ).sort_by([("removed_part", "ascending"), ("removed_row", "ascending")])
    clusters = _clusters(part_keys, candidates, removals)
    unit_names = sorted(set(units.values()))
    outputs = [
        write_table(storage, f"{name}/{unit}", f"{name}/{unit}.{key}.parquet", _of_unit(table, column, unit, units))
        for name, table, column in (("ledger", ledger, "removed_part"), ("clusters", clusters, "part"))
        for unit in unit_names
    ]
    books = {source: Balance().to_json() for source in dict.fromkeys(sources)}
    for source, balance in source_balances(parts, candidates, removals).items():
        books[source] = balance.to_json()
    total = sum((Balance.from_json(value) for value in books.values()), Balance())
    return Work(tuple(outputs), total, {"sources": books, "cut_pairs": int(removals.cut_pairs)})


def _clusters(part_keys: npt.NDArray[np.object_], candidates: Candidates, removals: Removals) -> pa.Table:
    members = np.flatnonzero(removals.cluster_documents > 1)
    first = removals.cluster[members]
    table = pa.table(
        [
            part_keys[candidates.part[members]],
            candidates.row[members].astype(np.int32),
            part_keys[candidates.part[first]],
            candidates.row[first].astype(np.int32),
            removals.cluster_documents[members].astype(np.int32),
            pa.nulls(len(members), pa.string()),
        ],
        schema=CLUSTERS,
    )
    return table.sort_by([("part", "ascending"), ("row", "ascending")])


def _of_unit(table: pa.Table, column: str, unit: str, units: Mapping[str, str]) -> pa.Table:
    parts = pa.array([part for part, name in units.items() if name == unit], pa.string())
    return table.filter(pc.is_in(table.column(column), parts))


def source_balances(parts: Sequence[Part], candidates: Candidates, removals: Removals) -> dict[str, Balance]:
    """Books of *deduplicate* by source; bytes are those of the text."""
    reason = np.zeros(len(candidates.row), np.int64)  # 0 kept, 1 exact, 2 near
    reason[removals.removed] = removals.kind + 1
    books: dict[str, Balance] = {}
    source_of = np.array([part.source for part in parts], object)[candidates.part]
    for source in dict.fromkeys(part.source for part in parts):
        mine = source_of == source
        tallies = [
            Tally(int(((reason == code) & mine).sum()), int(candidates.text_bytes[(reason == code) & mine].sum()))
            for code in range(3)
        ]
        balance = Balance(taken=tallies[0] + tallies[1] + tallies[2], out=tallies[0])
        for name, tally in (("dedup.exact", tallies[1]), ("dedup.near", tallies[2])):
            if tally.documents:
                balance.drop(name, tally)
        books[source] = balance
    return books


def text_check(
    storage: Storage,
    recipe: Recipe,
    parts: Sequence[Part],
    tables: Mapping[str, Mapping[str, Output]],
    part: I64,
    row: I64,
) -> CheckText:
    """The check of documents that are numbered as in `part` and `row`.

    Args:
        storage: the run's folder.
        recipe: the recipe.
        parts: all parts.
        tables: outputs of each part, by part key and name.
        part: int64[n], index into the parts.
        row: int64[n], row of the document in its part.
    """
    minhash = recipe.dedup.minhash

    def check(earlier: I64, later: I64) -> I32:
        asked = np.unique(np.concatenate((earlier, later)))
        asked = asked[np.lexsort((row[asked], part[asked]))]
        sets: list[ShingleSets] = []
        for index in np.unique(part[asked]).tolist():
            outputs = text_outputs(recipe, parts[index].source, tables[parts[index].key])
            sets += sets_of_rows(storage, outputs, row[asked[part[asked] == index]], recipe.dedup)
        place = np.zeros(len(row), np.int64)
        place[asked] = np.arange(len(asked))
        found = joined(sets)
        return similar_texts(found, found, place[earlier], place[later], minhash.threshold)

    return check
