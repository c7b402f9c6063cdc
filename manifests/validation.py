"""The plan of a validation split: what was held out before packing, once, in stored order."""

from collections.abc import Mapping

from tokenmill.manifests.mixture import Component, Mixture
from tokenmill.manifests.plan import (
    PLAN_FORMAT,
    WINDOW_BYTES,
    Packing,
    Plan,
    PlannedStage,
    chained,
    least_window,
    packings_of,
)
from tokenmill.manifests.stages import MixtureStage


def validation_plan(mixture: Mixture, packed: Mapping[str, tuple[int, int]]) -> Plan:
    """All rows that were held out before packing, once, in stored order; those of several lengths by length, rising.

    Args:
        mixture: of the run, with its components of the train split.
        packed: rows and tokens of every component of its shard table.

    Raises:
        ValueError: nothing was held out; says how a recipe does.
    """
    held_out = {name: found for name, found in packed.items() if name.split("/")[1] == "validation"}
    if not held_out and mixture.runs:
        raise ValueError(
            "the mixture has no held-out rows: its recipe says `validation: false`, or nothing of its sources was held "
            f"out; it has {', '.join(sorted(packed))}"
        )
    if not held_out:
        raise ValueError(
            "the run holds out no documents for validation: give `strata: {validation_fraction: 0.01}` to a source of "
            f"its recipe, and run it again; packed are {', '.join(sorted(packed))}"
        )
    components = [Component(name, float(tokens), rows, tokens) for name, (rows, tokens) in sorted(held_out.items())]
    by_length: dict[int, list[Component]] = {}
    for component in components:
        by_length.setdefault(mixture.length_of(component), []).append(component)
    stages: list[PlannedStage] = []
    packings: list[Packing] = []
    for length, mine in sorted(by_length.items()):
        one = mixture.of_components(mine, length)
        first, rows = stages[-1].end_row if stages else 0, sum(component.rows for component in mine)
        places, none = tuple(range(len(packings), len(packings) + len(mine))), (0,) * len(mine)
        window = max(WINDOW_BYTES // len(by_length), least_window(one))
        stages.append(PlannedStage(0, one, rows, first, first + rows, window, places, none))
        packings += packings_of(MixtureStage(one))
    hashed = chained("", PLAN_FORMAT, "stored", *(stage.mixture.order_hash for stage in stages))
    return Plan(mixture.seed, tuple(stages), tuple(packings), ((hashed, stages[-1].end_row),), True)
