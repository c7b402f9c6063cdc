"""Stages of a plan as they are asked for, and whether they fit each other.

Stages may be of several runs, which must share a tokenizer. The same documents packed twice, by two runs or two
versions of one, are told by their source's name: two components of one source are known to hold other documents only
where one shard table has both, since the strata of a run hold each document once. Otherwise the plan is refused unless
it says that the source repeats, as a curriculum of lengths does: each packing then counts its rows and epochs alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from tokenmill.manifests.mixture import Mixture


@dataclass(frozen=True)
class MixtureStage:
    """A stage as it is asked for.

    Attributes:
        mixture: what to draw from.
        rows: how many; None: as many as every component's `max_epochs` allows after the stages before.
        at: global row it begins at, which cuts short the stages before it; None: where they end.
        packings: hash of the packed rows of every component in the mixture's shard table, by name, as
            `packing_hashes` gives it; may be left out where all stages have one shard table.
        where: what errors call it.
    """

    mixture: Mixture
    rows: int | None = None
    at: int | None = None
    packings: Mapping[str, str] = field(default_factory=dict)
    where: str = ""

    @property
    def sources(self) -> set[str]:
        """Names of the sources it draws from."""
        return {source_of(component.name) for component in self.mixture.components}


def source_of(component: str) -> str:
    """The source of "source/stratum"."""
    return component.split("/")[0]


def check_stages(stages: Sequence[MixtureStage], repeats: Collection[str] = ()) -> None:
    """Refuse stages that do not fit each other.

    Args:
        stages: in order.
        repeats: sources of which the same documents may come packed twice.

    Raises:
        ValueError: two tokenizers, a source packed twice that is not in `repeats`, or a name there that no stage has.
    """
    known: set[str] = set().union(*(stage.sources for stage in stages))
    if unknown := sorted(set(repeats) - known):
        raise ValueError(f"repeats names {unknown}: the plan's sources are {sorted(known)}")
    for field_name in ("tokenizer_hash", "vocab_size", "special_ids"):
        for stage in stages[1:]:
            one, other = (getattr(found.mixture, field_name) for found in (stages[0], stage))
            if one != other:
                raise ValueError(
                    f"{field_name} is {one!r} in {stages[0].where} and {other!r} in {stage.where}: a model reads one "
                    "tokenizer; pack the later stage with the first one's"
                )
    for one, other in combinations(stages, 2):
        twice = sorted({source_of(name) for name in _packed_twice(one, other)} - set(repeats))
        if twice:
            raise ValueError(
                f"source {', '.join(map(repr, twice))} is packed once in {one.where} and once more in {other.where}: "
                "its documents would come twice, and max_epochs count them apart. Take both stages from one run, or, "
                f"if they are to repeat, as when the sequence length grows, say repeats={twice}"
            )


def _packed_twice(one: MixtureStage, other: MixtureStage) -> Iterable[str]:
    """Components of the one whose documents may be in the other too, in rows that are not the same."""
    if one.mixture.shard_table_hash == other.mixture.shard_table_hash:
        return
    for mine in one.mixture.components:
        for theirs in other.mixture.components:
            if source_of(mine.name) == source_of(theirs.name) and not (
                _has(one, other, theirs.name) or _has(other, one, mine.name)
            ):
                yield mine.name


def _has(stage: MixtureStage, other: MixtureStage, name: str) -> bool:
    """Whether the shard table of `stage` has the other's component `name`, of the same rows and length."""
    same_length = stage.mixture.sequence_length == other.mixture.sequence_length
    return same_length and name in stage.packings and stage.packings[name] == other.packings.get(name)
