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
from fractions import Fraction

from tokenmill.manifests.over_budget import over_budget
from tokenmill.manifests.stages import source_of
from tokenmill.manifests.wanted import Packed, Taken, Wanted, WantedStage

_ZERO = Fraction(0)


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
    if over := over_budget(stages, asked, packed):
        raise ValueError("\n".join(["more is asked for than there is, times max_epochs:", *over]))
    found: list[list[Taken]] = []
    used: dict[str, int] = {}
    for index, (stage, one) in enumerate(zip(stages, asked, strict=True)):
        caps = {name: stage.sources[source_of(name)].max_epochs for name in one}
        most = {name: int(caps[name] * packed[name].rows) if one[name] else 0 for name in one}
        left = {name: max(0, limit - used.get(name, 0)) for name, limit in most.items()}
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
