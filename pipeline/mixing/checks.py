"""Whether runs fit into one mixture: their rows, their documents, what they hold out.

A run holds out the documents whose content hash, under its seed, falls below its fraction. What falls below the
smallest fraction of all is held out by every run that drew with that seed: these rows, and no others, can be in the
mixture, and none of their texts is trained on, in whichever run it lies.
"""

import itertools
from collections.abc import Mapping, Sequence

import pyarrow.compute as pc

from tokenmill.manifests.wanted import Packed
from tokenmill.pipeline.loader.roots import whole_root
from tokenmill.pipeline.mixing.runs import MixedSource, MixRun
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.steps.publish import manifest_table

TOKENIZER = ("tokenizer_hash", "vocab_size", "special_ids")


def check_apart(runs: Sequence[MixRun]) -> None:
    """Refuse two versions of one run, and two runs of one name."""
    for one, other in itertools.combinations(runs, 2):
        if whole_root(one.storage.root) == whole_root(other.storage.root):
            raise ValueError(f"{one.url} and {other.url} are of one run, whose versions share documents: mix one")
        if one.name and one.name == other.name:
            raise ValueError(f"{one.url} and {other.url} are both named {one.name!r}: name them apart")


def check_alike(runs: Sequence[MixRun], fields: Sequence[str], which: Sequence[int], what: str) -> None:
    """Refuse runs whose rows do not fit each other."""
    for name in fields:
        for run in (runs[index] for index in which[1:]):
            one, other = (getattr(found.mixture, name) for found in (runs[which[0]], run))
            if one != other:
                hint = "pack one run with the other's tokenizer" if fields is TOKENIZER else "put them into two stages"
                raise ValueError(
                    f"{name} is {one!r} in {runs[which[0]].url} and {other!r} in {run.url}: {what} has one; {hint}"
                )


def check_packed_once(runs: Sequence[MixRun], sources: Mapping[str, MixedSource]) -> None:
    """Refuse two runs that hold the same shard: a copy of a run."""
    seen: dict[str, int] = {}
    for one in sources.values():
        run = runs[one.run]
        named = run.shards.select(["component", "path", "hash"])
        mine = named.filter(pc.starts_with(named["component"], f"{one.source}/"))
        for path, digest in zip(mine["path"].to_pylist(), mine["hash"].to_pylist(), strict=True):
            other = runs[seen.setdefault(digest, one.run)]
            if other is not run:
                raise ValueError(
                    f"shard {path} of {run.url} is also in {other.url}: they hold the same packed documents; mix one"
                )


def parts_in_common(runs: Sequence[MixRun], sources: Mapping[str, MixedSource]) -> dict[tuple[str, str], int]:
    """Of two sources of one name, of two runs, how many parts are of the same raw files: their documents may be too.

    That is no error: a curriculum packs the same documents to several lengths.
    """
    pairs = [
        pair for pair in itertools.combinations(sorted(sources), 2) if len({sources[name].source for name in pair}) < 2
    ]
    names = sorted({name for pair in pairs for name in pair})
    parts = {name: _parts(runs[sources[name].run], sources[name].source) for name in names}
    return {(one, other): len(common) for one, other in pairs if (common := parts[one] & parts[other])}


def _parts(run: MixRun, source: str) -> set[str]:
    plan = manifest_table(run.storage, run.published, "plan").select(["source", "part"])
    return set(plan.filter(pc.equal(plan["source"], source)).column("part").to_pylist())


def held_out_of(runs: Sequence[MixRun], sources: Mapping[str, MixedSource]) -> tuple[dict[str, Packed], dict[str, int]]:
    """Components of the validation split, and rows left out of it by why; see the module's text."""
    recipes = [load_recipe(run.published.value["recipe"], f"the recipe in {run.url}").recipe for run in runs]
    fractions = [recipe.strata.validation_fraction for recipe in recipes]
    instead = "; or say `validation: false`, then the mixture has no held-out rows"
    for run, recipe in zip(runs, recipes, strict=True):
        if recipe.seed != recipes[0].seed:
            raise ValueError(
                f"{runs[0].url} draws what it holds out by seed {recipes[0].seed}, {run.url} by {recipe.seed}: one may "
                f"train on what the other holds out; run one with the other's `seed`{instead}"
            )
    least, most = min(fractions), max(fractions)
    if not least:
        lacks = runs[fractions.index(least)]
        if not most:
            raise ValueError(
                f"no run holds out documents, such as {lacks.url}: give its recipe `strata: {{validation_fraction: "
                f"0.001}}`, and run it again{instead}"
            )
        there = min(fraction for fraction in fractions if fraction)
        raise ValueError(
            f"{lacks.url} holds out nothing, {runs[fractions.index(there)].url} a fraction of {there}: the first may "
            f"train on copies of what the second holds out; give its recipe `strata: {{validation_fraction: {there}}}` "
            f"or more, and run it again{instead}"
        )
    held_out: dict[str, Packed] = {}
    left_out: dict[str, int] = {}
    for name, one in sources.items():
        if fractions[one.run] == least:
            held_out |= one.held_out
        elif one.held_out:
            why = f"{name}: its run holds out {fractions[one.run]:g}, another {least:g}, and trains on the rest"
            left_out[why] = sum(packed.rows for packed in one.held_out.values())
    if not held_out:
        raise ValueError(f"nothing of these sources is held out, where a fraction of {least:g} was drawn{instead}")
    return held_out, left_out
