"""Documents drawn by mixture weight from kept text: those a tokenizer is trained on, and those it is measured on.

The documents of a component stand in one order for ever, and a draw is its shortest beginning that holds the
component's share of bytes. So it is the same whatever the workers and the order of parts, and a larger draw begins
with the smaller one. The order:

    level   by a keyed hash of the document's identity: 0 for one in 16, 1 for one in 16 of the others, then 2, 4 and
            8 in 16. A small share of a large run so comes from the first parts, 16 times its size, and no other is
            read; where that is all there is, the next level follows.
    part    by a keyed hash of its key
    place   by the hash of the document's identity

Choosing reads no text: *select* knows what is kept and in which stratum, the signal group `hashes` knows how long it
is. One document in 32, drawn by another hash, and all of the validation split are held out: no tokenizer is trained
on them. What deduplication removed or what is taken down is on neither side.

Shares count bytes, the mixture's weights tokens, and ranges of copies (`…/copies=2-4`) are left out of account: they
shift as a run grows. Only parts of the first generation are drawn from, so a run that grows keeps its tokenizer.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.keyed import key64, mix64
from tokenmill.manifests.lengths import without_length
from tokenmill.manifests.receipts import Output
from tokenmill.manifests.schemas import SAMPLE
from tokenmill.pipeline.copies import MARK
from tokenmill.pipeline.kept import KeptBatch, edit_outputs, kept_documents
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.progress import Reporter
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.recipe.mixture import claim_of
from tokenmill.pipeline.removals import Request, read_requests
from tokenmill.pipeline.steps.takedown import taken_down_in
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import one_chunk, open_groups, read_table

#: First of 16 values of a hash's top bits that are of the next level.
_LEVELS = np.array([1, 2, 4, 8], np.uint64)
#: A pool is cut back to what it needs when it has grown by so many documents.
_ROOM = 1 << 16
_ORDER = ("level", "rank", "hash")
_CANDIDATE = np.dtype([("level", "u1"), ("rank", "i4"), ("hash", "u8"), ("row", "i4"), ("bytes", "i8")])
Candidates = npt.NDArray[np.void]


@dataclass(frozen=True)
class SamplePart:
    """A part that documents are drawn from.

    Attributes:
        source: its source.
        key: its key.
        tables: its outputs by name.
        edits: its edit tables, in the order in which they apply.
        ledger: its unit's ledger.
    """

    source: str
    key: str
    tables: Mapping[str, Output]
    edits: list[Output]
    ledger: Output


def sample_parts(
    recipe: Recipe,
    parts: Sequence[Part],
    tables: Mapping[str, Mapping[str, Output]],
    ledgers: Mapping[str, Output],
) -> list[SamplePart]:
    """The parts of the first generation, by key.

    Args:
        recipe: the recipe they were made by.
        parts: all parts.
        tables: outputs of each, by part key and name.
        ledgers: the ledger of each part's unit, by part key.
    """
    first = min(part.generation for part in parts)
    order = {source.name: [entry.group for entry in source.filters] for source in recipe.sources}
    return [
        SamplePart(
            part.source, part.key, tables[part.key], edit_outputs(tables[part.key], order[part.source]),
            ledgers[part.key],
        )
        for part in sorted(parts, key=lambda part: part.key)
        if part.generation == first
    ]  # fmt: skip


def component_shares(
    recipe: Recipe, parts: Sequence[SamplePart], kept_bytes: Mapping[str, int], sample_bytes: int
) -> dict[str, int]:
    """Bytes to draw from each component that `mixture.weights` names, or from each source by what *select* kept.

    Args:
        recipe: has the weights.
        parts: from `sample_parts`; a source that came later has none of them, and no share.
        kept_bytes: text that *select* kept, by part key.
        sample_bytes: bytes of the whole sample.
    """
    sources = {part.source for part in parts}
    weights: dict[str, float] = defaultdict(float)
    named = [name for name in recipe.mixture.weights if name == without_length(name)]
    for name, weight in recipe.mixture.weights.items():
        if name.split("/")[0] in sources:
            told = without_length(name)  # how long rows are is not known yet: a length's weight is of all lengths
            claimed = name if told == name else claim_of(told, named) or told
            weights[claimed.split(MARK)[0]] += weight
    if not recipe.mixture.weights:
        for part in parts:
            weights[part.source] += kept_bytes[part.key]
    whole = sum(weights.values())
    return {name: int(sample_bytes * (weight / whole)) for name, weight in weights.items() if weight}


def draw(
    storage: Storage,
    parts: Sequence[SamplePart],
    shares: Mapping[str, int],
    removals: Sequence[str],
    show: Reporter,
    held_out: bool = False,
) -> pa.Table:
    """The documents drawn, of SAMPLE.

    Args:
        storage: the run's folder.
        parts: to draw from.
        shares: bytes of each component.
        removals: the removal list; what it names is not drawn.
        show: told of parts looked into.
        held_out: draw from what no tokenizer is trained on; else from the rest.
    """
    requests = read_requests(storage, removals)
    tables = [SAMPLE.empty_table()]
    for source in sorted({part.source for part in parts}):
        pools = {name: _Pool(share) for name, share in shares.items() if name.split("/")[0] == source and share}
        mine = sorted((part for part in parts if part.source == source), key=_part_order)
        for rank, part in enumerate(mine):
            if all(pool.is_full for pool in pools.values()):
                break
            for name, found in _candidates(storage, part, rank, requests, tuple(pools), held_out):
                pools[name].add(found)
            show.step(f"choose {source}", rank + 1, len(mine))
        for name, pool in pools.items():
            drawn = pool.drawn()
            keys = pa.array([part.key for part in mine], pa.string()).take(pa.array(drawn["rank"]))
            names = pa.array([name] * len(drawn), pa.string())
            tables.append(pa.table([keys, drawn["row"], names, drawn["bytes"]], schema=SAMPLE))
    return pa.concat_tables(tables).sort_by([("part", "ascending"), ("row", "ascending")]).combine_chunks()


class _Pool:
    """Documents of one component that may be drawn: no more are held than its share asks for, and _ROOM."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._found = [np.zeros(0, _CANDIDATE)]
        self._new = 0
        self._sure = 0  # bytes on level 0: of later parts, only that level comes before what is here

    @property
    def is_full(self) -> bool:
        """Whether no document of a later part can be drawn."""
        return self._sure >= self._share

    def add(self, found: Candidates) -> None:
        self._found.append(found)
        self._new += len(found)
        self._sure += int(found["bytes"][found["level"] == 0].sum())
        if self._new > _ROOM:
            self._found, self._new = [self.drawn()], 0

    def drawn(self) -> Candidates:
        """The shortest beginning that holds the share, or all there is."""
        found = np.concatenate(self._found)
        found = found[np.lexsort([found[name] for name in reversed(_ORDER)])]
        before = np.cumsum(found["bytes"]) - found["bytes"]
        drawn: Candidates = found[before < self._share]
        return drawn


def _part_order(part: SamplePart) -> tuple[int, str]:
    return key64("tokenizer-part", part.key), part.key


def _candidates(
    storage: Storage,
    part: SamplePart,
    rank: int,
    requests: tuple[Request, ...],
    names: tuple[str, ...],
    held_out: bool,
) -> Iterator[tuple[str, Candidates]]:
    """Documents of one part that may be drawn, by component."""
    decisions = read_table(storage, part.tables["decisions"].path, ["kept", "stratum"])
    if not decisions.num_rows:
        return
    sizes = one_chunk(read_table(storage, part.tables["signals/hashes"].path, ["text_bytes"]).column(0))
    there = one_chunk(decisions.column("kept")).to_numpy(zero_copy_only=False).copy()
    there &= sizes.is_valid().to_numpy(zero_copy_only=False)
    there[_gone(storage, part, requests)] = False
    rows = np.flatnonzero(there).astype(np.int32)
    aside = mix64(rows.astype(np.uint64), key64("tokenizer-held-out", part.key)) >> np.uint64(59) == 0
    strata = one_chunk(decisions.column("stratum")).take(pa.array(rows)).dictionary_encode()
    hashes = mix64(rows.astype(np.uint64), key64("tokenizer-sample", part.key))
    found = np.empty(len(rows), _CANDIDATE)
    found["level"] = np.searchsorted(_LEVELS, hashes >> np.uint64(60), "right")
    found["rank"], found["hash"], found["row"] = rank, hashes, rows
    found["bytes"] = sizes.take(pa.array(rows)).to_numpy()
    codes = strata.indices.to_numpy()
    for code, stratum in enumerate(strata.dictionary.to_pylist()):
        split, slash, rest = stratum.partition("/")
        name = claim_of(f"{part.source}/train{slash}{rest}", names)
        if name is not None:
            side = (aside | (split != "train")) == held_out
            yield name, found[(codes == code) & side]


def _gone(storage: Storage, part: SamplePart, requests: tuple[Request, ...]) -> npt.NDArray[np.int32]:
    """Rows of a part that deduplication removed, or that are taken down."""
    ledger = read_table(storage, part.ledger.path)
    ledger = ledger.filter(pc.equal(ledger.column("removed_part"), part.key))
    removed: npt.NDArray[np.int32] = ledger.column("removed_row").to_numpy()
    if requests:
        taken = taken_down_in(storage, part.key, part.tables, requests, ledger)
        removed = np.union1d(removed, taken.column("row").to_numpy())
    return removed


def drawn_documents(
    storage: Storage, parts: Sequence[SamplePart], drawn: pa.Table
) -> Iterator[tuple[SamplePart, KeptBatch]]:
    """The documents of a draw, a row group at a time, with the part of each.

    Args:
        storage: the run's folder.
        parts: that they were drawn from.
        drawn: from `draw`.
    """
    by_key = {part.key: part for part in parts}
    keys, counts = np.unique(np.array(drawn.column("part").to_pylist(), object), return_counts=True)
    rows = one_chunk(drawn.column("row")).to_numpy()
    for key, end, count in zip(keys.tolist(), np.cumsum(counts).tolist(), counts.tolist(), strict=True):
        part = by_key[key]
        with open_groups(storage, part.tables["documents"].path) as groups:
            total = sum(groups.group_rows)
        others = np.setdiff1d(np.arange(total, dtype=np.int32), rows[end - count : end])
        for batch in kept_documents(storage, part.tables, part.edits, others):
            yield part, batch


def drawn_shares(drawn: pa.Table, shares: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """What was asked of each component, and what there was of it: `asked_bytes`, `documents`, `bytes`."""
    sums = drawn.group_by("component").aggregate([("text_bytes", "sum"), ([], "count_all")]).to_pylist()
    there = {row["component"]: (row["count_all"], row["text_bytes_sum"]) for row in sums}
    found = {name: (share, *there.get(name, (0, 0))) for name, share in sorted(shares.items())}
    return {
        name: dict(zip(("asked_bytes", "documents", "bytes"), values, strict=True)) for name, values in found.items()
    }
