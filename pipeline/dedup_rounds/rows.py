"""Reading what a group has: its kept rows, their ranks, hashes and signatures, part by part."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.dedup.exact import hash_matrix
from tokenmill.dedup.minhash import signature_matrix
from tokenmill.manifests.receipts import Output, hash_json
from tokenmill.pipeline.dedup_rounds.groups import I64, U64, Group, GroupPart
from tokenmill.pipeline.exchange import read_records
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import one_chunk, open_groups, read_table

U32 = npt.NDArray[np.uint32]

#: Signatures read at once; 15 MB with 112 permutations.
SIGNATURE_ROWS = 1 << 15
#: Of an earlier run: tables of a unit that name documents which *select* kept and the run does not, and the columns.
_LEFT_OUT = {"ledger": ["removed_part", "removed_row"], "takedown": ["part", "row"]}
RANK_COLUMNS = {"number": "uint64", "rank": "uint64"}


def storage_of(storage: Storage, part: GroupPart) -> Storage:
    """Where the part's tables lie; `storage` is the run's own."""
    return storage if part.elsewhere is None else Storage(part.elsewhere.root)


def kept_rows(storage: Storage, part: GroupPart) -> I64:
    """Rows of a part that *select* kept, ascending: int64[n]; of an earlier run's those that it still keeps."""
    storage = storage_of(storage, part)
    kept = read_table(storage, part.tables["decisions"].path, ["kept"]).column(0).to_numpy()
    rows = np.flatnonzero(kept)
    if len(kept) != part.rows or len(rows) != part.documents:
        raise ValueError(
            f"decisions of part {part.key} keep {len(rows)} of {len(kept)} rows, its receipt says {part.documents} of "
            f"{part.rows}: {storage.url(part.tables['decisions'].path)} is damaged; delete it and run again"
        )
    for name, columns in _LEFT_OUT.items():
        if name in part.tables:
            table = read_table(storage, part.tables[name].path, columns)
            gone = table.filter(pc.equal(table.column(0), part.key)).column(1).to_numpy()
            rows = rows[~np.isin(rows, gone)]
    return rows


def ranks_of(storage: Storage, ranks: Sequence[Output], group: Group) -> tuple[U64, U64]:
    """Numbers of the group's kept documents, ascending, and the rank of each: uint64[n] both."""
    found = read_records(storage, ranks, group.index, RANK_COLUMNS)
    order = np.argsort(found["number"])
    return found["number"][order].astype(np.uint64, copy=False), found["rank"][order].astype(np.uint64, copy=False)


def signatures_of(storage: Storage, group: Group, numbers: U64, num_permutations: int) -> Iterator[tuple[int, U32]]:
    """Signatures of some of the group's documents, each part read once, in order.

    Args:
        storage: the run's folder.
        group: the group.
        numbers: uint64[n], ascending; kept documents of the group.
        num_permutations: what the signatures must have.

    Yields:
        How many of `numbers` came before, and uint32[m, num_permutations] of the next m.
    """
    bases = np.array([*(part.base for part in group.parts), group.base + group.rows], np.uint64)
    bounds = np.searchsorted(numbers, bases)
    for index, part in enumerate(group.parts):
        begin, end = int(bounds[index]), int(bounds[index + 1])
        if begin < end:
            rows = (numbers[begin:end] - np.uint64(part.base)).astype(np.int64)
            there = storage_of(storage, part)
            for at, matrix in _signatures_of_part(there, part, rows):
                if matrix.shape[1] != num_permutations:
                    raise ValueError(
                        f"signatures of part {part.key} have {matrix.shape[1]} minima, the recipe asks for "
                        f"{num_permutations}: delete {there.url(part.tables['signals/minhash'].path)} and run again"
                    )
                yield begin + at, matrix


def _signatures_of_part(storage: Storage, part: GroupPart, rows: I64) -> Iterator[tuple[int, U32]]:
    with open_groups(storage, part.tables["signals/minhash"].path) as groups:
        ends = np.cumsum(groups.group_rows)
        taken = first = 0
        while taken < len(rows):
            first = int(np.searchsorted(ends, rows[taken], side="right"))
            start = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, start + SIGNATURE_ROWS, side="right")))
            upto = int(np.searchsorted(rows, ends[last - 1]))
            column = groups.read(range(first, last), ["signature"]).column(0)
            yield taken, signature_matrix(column.take(pa.array(rows[taken:upto] - start)))
            taken = upto


def content_of(storage: Storage, part: GroupPart, columns: list[str], name: str = "signals/hashes") -> pa.Table:
    """Columns of a table of hashes at the kept rows of a part."""
    path = part.tables[name].path
    table = read_table(storage_of(storage, part), path, columns).combine_chunks()
    return table.take(pa.array(kept_rows(storage, part)))


def hash_halves(storage: Storage, group: Group, name: str) -> tuple[U64, U64]:
    """The two halves of each kept document's content hash in the tables of that name: uint64[n] both."""
    columns = [content_of(storage, part, ["content_hash"], name).column(0) for part in group.parts]
    matrices = [hash_matrix(one_chunk(column)) for column in columns]
    halves = np.ascontiguousarray(np.concatenate(matrices)).view(np.uint64).reshape(-1, 2)
    return halves[:, 0].copy(), halves[:, 1].copy()


def inputs_of(group: Group, names: Sequence[str]) -> dict[str, str]:
    """Content hashes of the group's tables of those names, as far as a part has them; and of what leaves rows out."""
    return {
        f"{name}/{part.key}": part.tables[name].hash
        for part in group.parts
        for name in (*names, *_LEFT_OUT)
        if name in part.tables
    }


def hash_of(outputs: Sequence[Output]) -> str:
    """One hash for the files of a round: a task that reads some of each has one input, not thousands."""
    return hash_json([output.hash for output in outputs])


def place_of(group: Group) -> list[list[object]]:
    """Which numbers the group's rows have, as a task's parameter."""
    return [[part.key, part.base] for part in group.parts]
