"""What to say of sources that more is asked of than there is, times `max_epochs`: the numbers, and what would do."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from tokenmill.manifests.stages import source_of
from tokenmill.manifests.wanted import Packed, Wanted, WantedStage


def over_budget(
    stages: Sequence[WantedStage], asked: Sequence[Mapping[str, Fraction]], packed: Mapping[str, Packed]
) -> list[str]:
    """A line for each source, in the stage in which it is asked for too often: the first such stage."""
    found: dict[str, str] = {}
    sums: dict[str, Fraction] = {}
    for index, (stage, one) in enumerate(zip(stages, asked, strict=True)):
        for name, tokens in one.items():
            sums[name] = sums.get(name, Fraction(0)) + tokens
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
    tokens, there = sum((sums[name] for name in counted), Fraction(0)), sum(packed[name].tokens for name in counted)
    before = tokens - sum((asked[name] for name in counted), Fraction(0))
    allowed = wanted.max_epochs * there
    of_source = sum((asked[name] for name in members), Fraction(0))
    here = tokens - before
    most = int(of_source * (allowed - before) / here) if here and allowed > before else 0
    return (
        f"{what}: asked {_up(tokens):,} tokens"
        + (f" (of these {_up(before):,} in earlier stages)" if before else "")
        + f", there are {there:,}, × max_epochs {float(wanted.max_epochs):g} = {int(allowed):,}, short by "
        f"{_up(tokens - allowed):,}: max_epochs {_thousandths(epochs)} would do, or "
        + (f"a budget of {most:,}" if wanted.tokens is not None else f"a weight that comes to {most:,}")
        + " tokens of the source"
    )


def _thousandths(number: Fraction) -> str:
    """The number, rounded up to three places."""
    return f"{_up(number * 1000) / 1000:.3f}".rstrip("0").rstrip(".")


def _up(number: Fraction) -> int:
    """The least whole number that is not less."""
    return -int(-number // 1)
