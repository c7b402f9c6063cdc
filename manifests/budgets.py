"""Budgets and weights of sources → how many rows a stage takes of each component, exactly.

    source: its budget, or its weight's share of what the stage's budgets leave of its tokens
    component: its share of the source's, by tokens × the weights of its stratum
    rows wanted (quota) = tokens wanted · rows / tokens,  exact fractions

The stage has round(Σ quota) rows, less what makes no whole global batch. They are handed out by largest remainders, to
sources first and then to each one's components, never more than `max_epochs` leaves: a source has its quota to a row.
Such counts are weights as well: a `Mixture` with weights in their proportion counts out just these in so many rows,
since every quota on the way is whole. Nothing is asked for that is not there: that is refused, with the numbers.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tokenmill.manifests.stages import source_of

_ZERO = Fraction(0)


@dataclass(frozen=True)
class Wanted:
    """What a stage wants of a source.

    Attributes:
        tokens: its budget; None where it has a weight.
        weight: its weight; None where it has a budget.
        max_epochs: how often it may be visited up to the end of the stage.
        strata: weights of its tokens, by parts of the stratum's name.
    """

    tokens: int | None
    weight: Fraction | None
    max_epochs: Fraction = Fraction(1)
    strata: Mapping[str, Fraction] = field(default_factory=dict)


@dataclass(frozen=True)
class WantedStage:
    """What a stage wants.

    Attributes:
        sources: by name.
        tokens: of all; None: the sum of budgets, or as many as weights can get in the only stage.
        batch_rows: its rows are a multiple of it.
    """

    sources: Mapping[str, Wanted]
    tokens: int | None = None
    batch_rows: int = 1


@dataclass(frozen=True)
class Packed:
    """What there is of a component: rows, and the tokens in them that are not padding."""

    rows: int
    tokens: int


@dataclass(frozen=True)
class Taken:
    """What a stage takes of a component.

    Attributes:
        component: its name.
        packed: what there is.
        asked: tokens that were asked for.
        max_epochs: as wanted.
        before: rows that earlier stages take.
        rows: that this one takes; perhaps 0.
    """

    component: str
    packed: Packed
    asked: Fraction
    max_epochs: Fraction
    before: int
    rows: int

    @property
    def tokens(self) -> Fraction:
        """In these rows, on average."""
        return Fraction(self.rows * self.packed.tokens, self.packed.rows)


def settle(stages: Sequence[WantedStage], packed: Mapping[str, Packed]) -> list[list[Taken]]:
    """What each stage takes of each component of its sources.

    Args:
        stages: in order.
        packed: every component ("source/stratum") that may be drawn from.

    Raises:
        ValueError: weights that sum to nothing, a stratum that no component has, tokens that do not add up; or more is
            asked for than there is, times `max_epochs`: of all sources at once, with what would do.
    """
    asked: list[dict[str, Fraction]] = []
    for index, stage in enumerate(stages):
        shares = {name: _shares(name, wanted, packed) for name, wanted in stage.sources.items()}
        budgets = _budgets(stage, shares, packed, _where(index, stages))
        asked.append({c: budgets[name] * part for name, parts in shares.items() for c, part in parts.items()})
    if over := _over(stages, asked, packed):
        raise ValueError("\n".join(["more is asked for than there is, times max_epochs:", *over]))
    found: list[list[Taken]] = []
    used: dict[str, int] = {}
    for index, (stage, one) in enumerate(zip(stages, asked, strict=True)):
        caps = {name: stage.sources[source_of(name)].max_epochs for name in one}
        left = {name: int(caps[name] * packed[name].rows) - used.get(name, 0) if one[name] else 0 for name in one}
        rows = _rows({name: one[name] * packed[name].rows / packed[name].tokens for name in one}, left, stage)
        if not sum(rows.values()):
            raise ValueError(
                f"{_where(index, stages)} comes to {float(sum(one.values())):,.0f} tokens, not "
                + (f"one global batch of {stage.batch_rows} rows" if stage.batch_rows > 1 else "one row")
            )
        found.append([Taken(c, packed[c], one[c], caps[c], used.get(c, 0), rows[c]) for c in sorted(one)])
        used |= {name: used.get(name, 0) + rows[name] for name in one}
    return found


def _where(index: int, stages: Sequence[WantedStage]) -> str:
    return f"stage {index}" if len(stages) > 1 else "the mixture"


def _shares(source: str, wanted: Wanted, packed: Mapping[str, Packed]) -> dict[str, Fraction]:
    """Shares of a source's tokens that its components have, by name; they sum to 1."""
    members = [name for name in packed if source_of(name) == source]
    parts = {name: name.split("/")[2:] for name in members}
    weights = dict.fromkeys(members, Fraction(1))
    for key, weight in wanted.strata.items():
        hit = [name for name in members if set(key.split("/")) <= set(parts[name])]
        if not hit:
            known = sorted({part for some in parts.values() for part in some})
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise ValueError(
                f"source {source!r} has no stratum {key!r}: "
                + (f"did you mean {near[0]!r}? It has {', '.join(known)}" if near else "it is not split into any")
            )
        weights |= {name: weights[name] * weight for name in hit}
    counted = {name: weights[name] * packed[name].tokens for name in members}
    whole = sum(counted.values(), _ZERO)
    if not whole:
        raise ValueError(f"the weights of all strata of source {source!r} are 0: give one, or the source `weight: 0`")
    return {name: part / whole for name, part in counted.items()}


def _budgets(
    stage: WantedStage, shares: Mapping[str, Mapping[str, Fraction]], packed: Mapping[str, Packed], where: str
) -> dict[str, Fraction]:
    """Tokens of each source: its own, or by weight of what the others leave."""
    budgets = {name: Fraction(one.tokens) for name, one in stage.sources.items() if one.tokens is not None}
    weights = {name: one.weight for name, one in stage.sources.items() if one.weight is not None}
    total, given = sum(weights.values(), _ZERO), sum(budgets.values(), _ZERO)
    if not total and (budgets or not weights):
        if stage.tokens is not None and stage.tokens != given:
            raise ValueError(
                f"{where} is to have {stage.tokens:,} tokens, and the budgets of its sources sum to {int(given):,}: "
                "leave out its `tokens`, change a budget, or give a source `weight` instead: it gets what is left"
            )
        if not given:
            raise ValueError(f"the budgets of {where} sum to nothing: give a source some tokens")
        return budgets | dict.fromkeys(weights, _ZERO)
    if not total:
        raise ValueError(f"the weights of {where} sum to nothing: give one of {', '.join(weights)} more than 0")
    parts = {name: weight / total for name, weight in weights.items()}
    if stage.tokens is None:
        if budgets or where != "the mixture":
            raise ValueError(f"{where} has sources by weight: say of how many tokens, `tokens: 1T`")
        left = _most(stage, parts, shares, packed)
    else:
        left = stage.tokens - given
    if left <= 0:
        raise ValueError(
            f"{where} is to have {stage.tokens:,} tokens, its budgets sum to {int(given):,}: nothing "
            f"is left for {', '.join(weights)}; raise its `tokens`, or lower a budget"
        )
    return budgets | {name: left * part for name, part in parts.items()}


def _most(
    stage: WantedStage,
    parts: Mapping[str, Fraction],
    shares: Mapping[str, Mapping[str, Fraction]],
    packed: Mapping[str, Packed],
) -> Fraction:
    """As many tokens as sources by weight can have together before one of their components is at its cap."""
    return min(
        stage.sources[source].max_epochs * packed[name].tokens / (part * share)
        for source, part in parts.items()
        for name, share in shares[source].items()
        if part * share
    )


def _over(
    stages: Sequence[WantedStage], asked: Sequence[Mapping[str, Fraction]], packed: Mapping[str, Packed]
) -> list[str]:
    """A line for each source, in the stage in which it is asked for too often: the first such stage."""
    found: dict[str, str] = {}
    sums: dict[str, Fraction] = {}
    for index, (stage, one) in enumerate(zip(stages, asked, strict=True)):
        for name, tokens in one.items():
            sums[name] = sums.get(name, _ZERO) + tokens
        for source, wanted in stage.sources.items():
            worst = max(
                (name for name in one if source_of(name) == source),
                key=lambda name: (sums[name] / packed[name].tokens, name),
            )
            if sums[worst] / packed[worst].tokens > wanted.max_epochs and source not in found:
                where = f"stage {index}: " if len(stages) > 1 else ""
                found[source] = f"  {where}{_line(source, wanted, worst, one, sums, packed)}"
    if found and len(stages) == 1:
        caps = {name: stages[0].sources[source_of(name)].max_epochs * packed[name].tokens for name in sums}
        fits = sum(sums.values()) / max(tokens / caps[name] for name, tokens in sums.items())
        return [*found.values(), f"  in these proportions the mixture can have {int(fits):,} tokens"]
    return list(found.values())


def _line(
    source: str,
    wanted: Wanted,
    worst: str,
    asked: Mapping[str, Fraction],
    sums: Mapping[str, Fraction],
    packed: Mapping[str, Packed],
) -> str:
    """Why what is asked of a source is too much, and what would do.

    Args:
        source: its name.
        wanted: of it, in the stage.
        worst: its component that is repeated most.
        asked: tokens of each component in the stage.
        sums: and with the stages before.
        packed: what there is.
    """
    members = [name for name in asked if source_of(name) == source]
    epochs = sums[worst] / packed[worst].tokens
    even = all(sums[name] / packed[name].tokens == epochs for name in members)
    counted = members if even else [worst]
    what = f"source {source!r}" if even else f"stratum {worst.split('/', 1)[1]!r} of source {source!r}"
    tokens, there = sum((sums[name] for name in counted), _ZERO), sum(packed[name].tokens for name in counted)
    before = tokens - sum((asked[name] for name in counted), _ZERO)
    allowed = wanted.max_epochs * there
    of_source = sum((asked[name] for name in members), _ZERO)
    here = tokens - before
    most = int(of_source * (allowed - before) / here) if here and allowed > before else 0
    return (
        f"{what}: asked {_up(tokens):,} tokens"
        + (f" (of these {_up(before):,} in earlier stages)" if before else "")
        + f", there are {there:,}, × max_epochs {float(wanted.max_epochs):g} = {int(allowed):,}, short by "
        f"{_up(tokens - allowed):,}: max_epochs {_up(epochs * 1000) / 1000:g} would do, or "
        + (f"a budget of {most:,}" if wanted.tokens is not None else f"a weight that comes to {most:,}")
        + " tokens of the source"
    )


def _up(number: Fraction) -> int:
    """The least whole number that is not less."""
    return -int(-number // 1)


def _rows(quotas: Mapping[str, Fraction], limits: Mapping[str, int], stage: WantedStage) -> dict[str, int]:
    """Whole rows of each component; see the module's text."""
    total = int(min(sum(quotas.values(), Fraction(1, 2)), Fraction(sum(limits.values()))))
    total -= total % stage.batch_rows
    members = {source: sorted(name for name in quotas if source_of(name) == source) for source in stage.sources}
    wanted = [sum((quotas[name] for name in names), _ZERO) for names in members.values()]
    sums = apportion(wanted, total, [sum(limits[name] for name in names) for names in members.values()])
    found: dict[str, int] = {}
    for names, rows in zip(members.values(), sums, strict=True):
        counts = apportion([quotas[name] for name in names], rows, [limits[name] for name in names])
        found |= dict(zip(names, counts, strict=True))
    return found


def apportion(quotas: Sequence[Fraction], total: int, limits: Sequence[int]) -> list[int]:
    """`total` in proportion to quotas, in whole numbers, by largest remainders, none beyond its limit.

    Args:
        quotas: at least 0.
        total: at most the sum of limits.
        limits: at least 0.
    """
    whole = sum(quotas, _ZERO)
    if not whole:
        return [0] * len(quotas)
    exact = [quota * total / whole for quota in quotas]
    counts = [min(int(part), limit) for part, limit in zip(exact, limits, strict=True)]
    order = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    while (left := total - sum(counts)) > 0:
        room = [i for i in order if counts[i] < limits[i]]
        assert room, "the limits hold less than the total"
        for i in room[:left]:
            counts[i] += 1
    return counts
