"""Sources of several runs as one mixture: what is asked for is checked and settled first, then written.

    runs ─▶ their shard tables, which source each name of the recipe means ─▶ rows of each component, by stage
         ─▶ one shard table for all stages of one form, a mixture a stage, and the mix, which lists them: written last

Nothing of the runs is copied but their tokenizer. A shard's path in the table is `<number of its run>/<path under its
root>`; runs are numbered by their manifests' hashes, so that nothing hangs on where they lie or how they were listed.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tokenmill.manifests.budgets import settle
from tokenmill.manifests.stages import source_of
from tokenmill.manifests.wanted import Packed, Taken
from tokenmill.pipeline.mixing.checks import (
    TOKENIZER,
    check_alike,
    check_apart,
    check_packed_once,
    held_out_of,
    parts_in_common,
)
from tokenmill.pipeline.mixing.runs import FORM, MixedSource, MixRun, mixed_source
from tokenmill.pipeline.recipe.mix import MixRecipe


@dataclass(frozen=True)
class Settled:
    """A mixture that may be written.

    Attributes:
        recipe: it was asked for by.
        runs: those that it draws from, by their manifests' hashes.
        sources: those that it draws from, by name.
        stages: what each takes of each component.
        held_out: components of the validation split.
        left_out: rows of held-out components that are in no split, by why.
        unnamed: sources of runs that the recipe does not name, as "run: source".
        twice: pairs of sources made of files of the same names, with how many parts they have in common.
    """

    recipe: MixRecipe
    runs: tuple[MixRun, ...]
    sources: Mapping[str, MixedSource]
    stages: tuple[tuple[Taken, ...], ...]
    held_out: Mapping[str, Packed]
    left_out: Mapping[str, int]
    unnamed: tuple[str, ...]
    twice: Mapping[tuple[str, str], int]


def settle_mix(recipe: MixRecipe, runs: Sequence[MixRun]) -> Settled:
    """What a mixture of these runs has by this recipe.

    Raises:
        ValueError: the recipe and the runs do not fit each other, or the runs each other; says which, and what to do.
    """
    listed = sorted(runs, key=lambda run: run.published.path.split(".")[1])
    check_apart(listed)
    meant = _meant(recipe, listed)
    sources = {name: mixed_source(name, listed[number], number, source) for name, (number, source) in meant.items()}
    stages = settle(recipe.wanted, {name: there for one in sources.values() for name, there in one.train.items()})
    names = [{source_of(one.component) for one in stage if one.rows} for stage in stages]
    numbers = sorted({sources[name].run for some in names for name in some})
    used = [listed[number] for number in numbers]
    drawn = {
        name: replace(one, run=numbers.index(one.run)) for name, one in sources.items() if any(name in s for s in names)
    }
    check_alike(used, TOKENIZER, range(len(used)), "a mixture")
    for index, some in enumerate(names):
        what = f"stage {index}" if recipe.stages else "a stage"
        check_alike(used, FORM, sorted({drawn[name].run for name in some}), what)
    check_packed_once(used, drawn)
    held_out, left_out = held_out_of(used, drawn) if recipe.validation else ({}, {})
    unnamed = [
        f"{run.storage.root}: {source}"
        for number, run in enumerate(listed)
        for source in run.published.value["sources"]
        if (number, source) not in meant.values()
    ]
    return Settled(
        recipe=recipe,
        runs=tuple(used),
        sources=drawn,
        stages=tuple(map(tuple, stages)),
        held_out=held_out,
        left_out=left_out,
        unnamed=tuple(unnamed),
        twice=parts_in_common(used, drawn),
    )


def _meant(recipe: MixRecipe, runs: Sequence[MixRun]) -> dict[str, tuple[int, str]]:
    """Which run and source each name of the recipe means."""
    known: dict[str, list[tuple[int, str]]] = {}
    for index, run in enumerate(runs):
        for source in run.published.value["sources"]:
            known.setdefault(source, []).append((index, source))
            if run.name:
                known[f"{run.name}.{source}"] = [(index, source)]
    meant: dict[str, tuple[int, str]] = {}
    for name in [name for stage in recipe.listed for name in stage.sources]:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"no run has source {name!r}: did you mean {near!r}? There are {', '.join(sorted(known))}")
        if len(known[name]) > 1:
            roots = [runs[index].storage.root for index, _ in known[name]]
            raise ValueError(
                f"source {name!r} is in {' and '.join(roots)}: name these runs, such as old={roots[0]}, and write "
                f"old.{name} in the recipe"
            )
        other = next((one for one, what in meant.items() if what == known[name][0] and one != name), None)
        if other is not None:
            raise ValueError(f"{other!r} and {name!r} are one source: call it by one name in all stages")
        meant[name] = known[name][0]
    return meant
