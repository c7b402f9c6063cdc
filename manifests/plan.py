"""The plan of a run: stages, each so many rows of a mixture, and what each component has given before.

A stage begins where the one before it ends, or at a global row of its own (`at`), which cuts short those before it. So
a list of stages is only ever added to: the plan of a longer list continues the plan of its beginning, up to the row
at which a later stage cuts in. A plan's hash is a chain over its list,

    hash(0) = H(format),  hash(i + 1) = H(hash(i), mixture, rows, window bytes and `at` of stage i)

and a plan keeps the hash of every beginning of its list, with the rows that both have in common.

A component of a later stage goes on where the earlier one left it when both are the same packed rows: name, L, and the
hash of its part of the shard table agree. Other rows of the same name count on their own. Blocks restart at a stage:

    stage 0, 1,500 rows    blocks of 1,024 and 476, whose counts are those of the mixture's first 1,024 and 1,500 rows
    stage 1 at row 1,200   cuts stage 0 within its second block; what its first 176 places gave is carried on

A mixture of rows of several lengths makes a plan alone: a stage a length, and their batches among each other, see
`interleaving`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from tokenmill.manifests.interleaving import Interleaving, StagePlaces
from tokenmill.manifests.keyed import key64
from tokenmill.manifests.lengths import in_words
from tokenmill.manifests.limits import check_epochs, most_rows
from tokenmill.manifests.mixture import ROWS_PER_BLOCK, Mixture
from tokenmill.manifests.planned import batches_of
from tokenmill.manifests.shards import TOKENS_PER_BATCH, token_dtype
from tokenmill.manifests.stages import MixtureStage

PLAN_FORMAT = "tokenmill-plan/2"
WINDOW_BYTES = 256 << 20
I64 = npt.NDArray[np.int64]


class Packing(NamedTuple):
    """Stored rows that are counted together over all stages.

    Attributes:
        name: of the component.
        length: tokens a row (L).
        hash: of its part of the shard table, or of all that where no more is known.
    """

    name: str
    length: int
    hash: str


@dataclass(frozen=True)
class PlannedStage:
    """A stage and its place in the plan.

    Attributes:
        index: in the list of stages that was asked for; keys the permutation of its blocks. 0 for all lengths of one.
        mixture: what it draws from.
        rows: counted out; a later stage may cut them short.
        first_row: global row it begins at.
        end_row: global row the next one begins at, or the plan's end.
        window_bytes: bytes of decoded tokens that all components' shuffle windows may hold together.
        components: place of each of the mixture's components among the plan's packings.
        before: rows that earlier stages took of each.
    """

    index: int
    mixture: Mixture
    rows: int
    first_row: int
    end_row: int
    window_bytes: int
    components: tuple[int, ...]
    before: tuple[int, ...]

    def counts(self, rows: int) -> list[int]:
        """Rows of each component taken when `rows` of this stage are, those of earlier stages included.

        Whole blocks alone, and the stage's end: within a block their order decides, see `block`.
        """
        return [a + b for a, b in zip(self.before, self.mixture.counts(rows), strict=True)]

    def block(self, block: int, seed: int) -> I64:
        """Which of the mixture's components each row of a block of this stage comes from: int64 [1,024 or fewer]."""
        first = block * ROWS_PER_BLOCK
        size = min(ROWS_PER_BLOCK, self.rows - first)
        return self.mixture.split.block(first, size, key64("block", seed, self.index, block))

    def taken(self, rows: int, seed: int) -> list[int]:
        """As `counts`, of any first rows of the stage."""
        block, inside = divmod(rows, ROWS_PER_BLOCK)
        if not inside or rows == self.rows:
            return self.counts(rows)
        part = np.bincount(self.block(block, seed)[:inside], minlength=len(self.before))
        return [a + int(b) for a, b in zip(self.counts(block * ROWS_PER_BLOCK), part, strict=True)]


@dataclass(frozen=True)
class Plan:
    """Which rows a run takes. Build it with `compile_plan` or `compile_stages`.

    Attributes:
        seed: 64-bit, of the order of rows: the first stage's mixture's, in all stages.
        stages: those that have rows, in order.
        packings: what the stages draw from, in order of first appearance.
        beginnings: hash of each beginning of the list of stages, and how many rows its plan has in common with this.
        stored: rows come once, in stored order, and the last global batch of each stage is filled up with padding; else
            the order is the mixture's, and training drops what does not fill a global batch.
        interleaving: of stages of several lengths, which do not come one after another; None: they do.
    """

    seed: int
    stages: tuple[PlannedStage, ...]
    packings: tuple[Packing, ...]
    beginnings: tuple[tuple[str, int], ...]
    stored: bool = False
    interleaving: Interleaving | None = None

    @property
    def mixture(self) -> Mixture:
        """The first stage's; its tokenizer, vocabulary and special ids are those of all."""
        return self.stages[0].mixture

    @property
    def total_rows(self) -> int:
        """Global rows, all ranks together."""
        return self.stages[-1].end_row

    @property
    def hash(self) -> str:
        """xxh3-128 (hex) of all that decides which row comes when."""
        return self.beginnings[-1][0]

    @property
    def component_names(self) -> tuple[str, ...]:
        """Of the packings; one packed twice is there twice."""
        return tuple(packing.name for packing in self.packings)

    @cached_property
    def _first_rows(self) -> I64:
        return np.array([stage.first_row for stage in self.stages], np.int64)

    def stage_of(self, k: npt.ArrayLike) -> I64:
        """Which of `stages` each global row belongs to: int64."""
        asked = np.asarray(k, np.int64)
        return self.places(asked.reshape(-1)).stage.reshape(asked.shape)

    def places(self, k: I64) -> StagePlaces:
        """The stage of each global row, and its place there."""
        if self.interleaving is not None:
            return self.interleaving.places(k)
        stage = np.searchsorted(self._first_rows, k, side="right") - 1
        return StagePlaces(stage, k - self._first_rows[stage])

    def global_row(self, stage: int, row: int) -> int | None:
        """The global row of a row of a stage; None where another stage cut it short before."""
        if self.interleaving is not None:
            return self.interleaving.global_row(stage, row)
        k = self.stages[stage].first_row + row
        return k if k < self.stages[stage].end_row else None

    def rows_shared_with(self, plan_hash: str) -> int | None:
        """How many first rows this plan has in common with one that it continues, or is; None: it is another."""
        return max((rows for found, rows in self.beginnings if found == plan_hash), default=None)


def compile_plan(mixture: Mixture, rows_total: int | None = None, window_bytes: int | None = None) -> Plan:
    """Plan a run of one stage.

    Args:
        mixture: what to draw from.
        rows_total: global rows; by default as many as every component's `max_epochs` allows. Of rows of several
            lengths see `batches_of`.
        window_bytes: see PlannedStage; by default 256 MiB, or two record batches a component where that is more.
            Several lengths share it.

    Raises:
        ValueError: a component would be repeated more than its `max_epochs`; says what was asked, what there is,
            which component limits the run, and two remedies with values.
    """
    if mixture.batch_size is not None:
        return _compile_lengths(mixture, mixture.batch_size, rows_total, window_bytes)
    return compile_stages([MixtureStage(mixture, rows_total)], window_bytes)


def compile_stages(asked: Sequence[MixtureStage], window_bytes: int | None = None) -> Plan:
    """Plan a run of several stages; `max_epochs` is held over all of them together.

    Raises:
        ValueError: as `compile_plan`; or a stage begins where those before it have no row, or has rows of several
            lengths.
    """
    if not asked:
        raise ValueError("a plan needs at least one stage")
    if several := [index for index, one in enumerate(asked) if one.mixture.batch_size is not None]:
        raise ValueError(
            f"stage {several[0]} has rows of several lengths, which make a plan alone: open its mixture by itself, or "
            "pack it without `buckets`"
        )
    return _compile(asked, [_default_window(one.mixture) if window_bytes is None else window_bytes for one in asked])


def _compile(asked: Sequence[MixtureStage], windows: Sequence[int]) -> Plan:
    """Plan stages one after another, each with its window."""
    seed = asked[0].mixture.seed
    packings: dict[Packing, int] = {}
    stages: list[PlannedStage] = []
    hashes, total, starts = [chained("", PLAN_FORMAT)], 0, []
    for index, (one, window) in enumerate(zip(asked, windows, strict=True)):
        first = total if one.at is None else one.at
        if (one.at is not None and not index) or not (first == 0 if not index else 0 < first <= total):
            raise ValueError(
                f"stage {index} is to begin at row {one.at}: "
                + (f"those before it have rows 0 … {total - 1}, give 1 … {total}" if index else "the first begins at 0")
            )
        stages = [_cut(stage, first) for stage in stages if stage.first_row < first]
        mine = [packings.setdefault(packing, len(packings)) for packing in packings_of(one)]
        taken = _taken(stages, seed)
        before = [taken.get(number, 0) for number in mine]
        rows = most_rows(one.mixture, before) if one.rows is None else one.rows
        check_epochs(one.mixture, rows, before, index)
        stages.append(PlannedStage(index, one.mixture, rows, first, first + rows, window, tuple(mine), tuple(before)))
        total = first + rows
        starts.append(first)
        hashes.append(chained(hashes[-1], one.mixture.order_hash, rows, window, one.at))
    shared = [min([first for first in starts[index + 1 :]] + [total]) for index in range(len(asked))]
    return Plan(seed, tuple(stages), tuple(packings), tuple(zip(hashes[1:], shared, strict=True)))


def _compile_lengths(mixture: Mixture, size: int, rows_total: int | None, window_bytes: int | None) -> Plan:
    """Plan rows of several lengths: a stage a length, that of most batches first."""
    batches = batches_of(mixture, rows_total)
    lengths = sorted((length for length in batches if batches[length]), key=lambda length: (-batches[length], length))
    if not lengths:
        raise ValueError(
            f"of rows of {in_words(batches)} tokens none fill a batch of {size}: publish with a smaller "
            "mixture.batch_size, or a larger max_epochs"
        )
    window = WINDOW_BYTES if window_bytes is None else window_bytes
    listed = [MixtureStage(mixture.of_length(length), batches[length] * size) for length in lengths]
    # each keeps its own window under way: together they hold what one would
    windows = [max(window // len(listed), least_window(one.mixture)) for one in listed]
    plan = _compile(listed, windows)
    hashed = chained(plan.hash, "interleaving", size)
    return replace(
        plan,
        stages=tuple(replace(stage, index=0) for stage in plan.stages),
        beginnings=((hashed, plan.total_rows),),
        interleaving=Interleaving(plan.seed, size, tuple(batches[length] for length in lengths)),
    )


def chained(before: str, *values: object) -> str:
    """A hash that goes on from one before: xxh3-128 (hex) of it and plain values."""
    return xxhash.xxh3_128_hexdigest(json.dumps([before, *values]).encode())


def packings_of(stage: MixtureStage) -> Iterable[Packing]:
    """What a stage's components draw from."""
    mixture = stage.mixture
    for component in mixture.components:
        packed = stage.packings.get(component.name, mixture.shard_table_hash)
        yield Packing(component.name, mixture.sequence_length, packed)


def _cut(stage: PlannedStage, row: int) -> PlannedStage:
    """The stage, ending at a global row if it would go on beyond it."""
    return replace(stage, end_row=min(stage.end_row, row))


def _taken(stages: Sequence[PlannedStage], seed: int) -> dict[int, int]:
    """Rows that these stages take of each packing."""
    found: dict[int, int] = {}
    for stage in stages:
        found |= zip(stage.components, stage.taken(stage.end_row - stage.first_row, seed), strict=True)
    return found


def _default_window(mixture: Mixture) -> int:
    return max(WINDOW_BYTES, least_window(mixture))


def least_window(mixture: Mixture) -> int:
    """Two record batches of each component."""
    batch_bytes: int = max(TOKENS_PER_BATCH, mixture.sequence_length) * token_dtype(mixture.vocab_size).bit_width // 8
    return 2 * len(mixture.components) * batch_bytes
