"""Sources of several runs as one mixture: what is asked for is checked and settled first, then written.

    runs ─▶ their shard tables, which source each name of the recipe means ─▶ rows of each component, by stage
         ─▶ one shard table for all stages of one form, a mixture a stage, and the mix, which lists them: written last

Nothing of the runs is copied but their tokenizer. A shard's path in the table is `<number of its run>/<path under its
root>`; runs are numbered by their manifests' hashes, so that nothing hangs on where they lie or how they were listed.

A run holds out the documents whose content hash, under its seed, falls below its fraction. What falls below the
smallest fraction of all is held out by every run that drew with that seed: these rows, and no others, can be in the
mixture, and none of their texts is trained on, in whichever run it lies.
"""

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.budgets import Packed, Taken, settle
from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.schemas import SHARDS
from tokenmill.manifests.stages import source_of
from tokenmill.pipeline.loader.published import read_mixture
from tokenmill.pipeline.loader.stock import packed_rows
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.recipe.mix import MixRecipe
from tokenmill.pipeline.steps.publish import Published, manifest_table
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.versions import open_version

_NAMED = re.compile(r"(?:(?P<name>[A-Za-z0-9_-]+)=)?(?P<run>.+)")
_TOKENIZER = ("tokenizer_hash", "vocab_size", "special_ids")
_FORM = ("sequence_length", "sequence_align", "layout")


@dataclass(frozen=True, eq=False)
class MixRun:
    """A version of a run, opened to be mixed.

    Attributes:
        name: what sources may be called by, as in `old.web`; "" where it was given none.
        storage: its root.
        published: the version.
        mixture: its own; what its rows look like.
        shards: its shard table, of schema SHARDS.
    """

    name: str
    storage: Storage
    published: Published
    mixture: Mixture
    shards: pa.Table

    @property
    def url(self) -> str:
        """Of the version's manifest: what errors call it."""
        return self.storage.url(self.published.path)

    @property
    def form(self) -> tuple[Any, ...]:
        """What rows of one shard table share."""
        return tuple(getattr(self.mixture, name) for name in _FORM)


@dataclass(frozen=True)
class MixSourceOf:
    """What a name of the recipe means.

    Attributes:
        run: its place in `Settled.runs`.
        source: its name in the run.
        train: what there is to train on, by component: the source's name in the mixture / stratum.
        held_out: the same, of what was held out.
    """

    run: int
    source: str
    train: Mapping[str, Packed]
    held_out: Mapping[str, Packed]


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
    """

    recipe: MixRecipe
    runs: tuple[MixRun, ...]
    sources: Mapping[str, MixSourceOf]
    stages: tuple[tuple[Taken, ...], ...]
    held_out: Mapping[str, Packed]
    left_out: Mapping[str, int]
    unnamed: tuple[str, ...]


def open_to_mix(_: None, named: str) -> MixRun:
    """Open a run by its folder or URL, `@` a version, `NAME=` before it a name.

    Raises:
        ValueError: it has not published, nothing of it was kept for training, or a manifest is not what was written.
    """
    match = _NAMED.fullmatch(named)
    if match is None:
        raise ValueError(f"{named!r} is no run: give a folder or URL, or NAME=RUN")
    storage, published = open_version(match["run"])
    if published.value["mixture"] is None:
        raise ValueError(f"{storage.url(published.path)} has nothing to train on; `tokenmill audit` says why")
    mixture = read_mixture(storage, published.value["mixture"])
    shards = manifest_table(storage, published, "shards").select(SHARDS.names)
    return MixRun(match["name"] or "", storage, published, mixture, shards)


def settle_mix(recipe: MixRecipe, runs: Sequence[MixRun]) -> Settled:
    """What a mixture of these runs has by this recipe.

    Raises:
        ValueError: the recipe and the runs do not fit each other, or the runs each other; says which, and what to do.
    """
    listed = sorted(runs, key=lambda run: run.published.path.split(".")[1])
    _check_apart(listed)
    meant = _meant(recipe, listed)
    sources = {name: _source(name, listed[number], number, source) for name, (number, source) in meant.items()}
    stages = settle(recipe.wanted, {name: there for one in sources.values() for name, there in one.train.items()})
    names = [{source_of(one.component) for one in stage if one.rows} for stage in stages]
    numbers = sorted({sources[name].run for some in names for name in some})
    used = [listed[number] for number in numbers]
    drawn = {
        name: replace(one, run=numbers.index(one.run)) for name, one in sources.items() if any(name in s for s in names)
    }
    _check_alike(used, _TOKENIZER, range(len(used)), "a mixture")
    for index, some in enumerate(names):
        what = f"stage {index}" if recipe.stages else "a stage"
        _check_alike(used, _FORM, sorted({drawn[name].run for name in some}), what)
    _check_packed_once(used, drawn)
    held_out, left_out = _held_out(used, drawn) if recipe.validation else ({}, {})
    unnamed = [
        f"{run.storage.root}: {source}"
        for number, run in enumerate(listed)
        for source in run.published.value["sources"]
        if (number, source) not in meant.values()
    ]
    return Settled(recipe, tuple(used), drawn, tuple(map(tuple, stages)), held_out, left_out, tuple(unnamed))


def _check_apart(runs: Sequence[MixRun]) -> None:
    """Refuse two versions of one run, and two runs of one name."""
    for one, other in itertools.combinations(runs, 2):
        if one.storage.root == other.storage.root:
            raise ValueError(f"{one.url} and {other.url} are of one run, whose versions share documents: mix one")
        if one.name and one.name == other.name:
            raise ValueError(f"{one.url} and {other.url} are both named {one.name!r}: name them apart")


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


def _source(name: str, run: MixRun, number: int, source: str) -> MixSourceOf:
    """A source with what is packed of it."""
    packed = {
        f"{name}/{component.split('/', 1)[1]}": Packed(*found)
        for component, found in packed_rows(run.shards).items()
        if source_of(component) == source
    }
    splits = {
        split: {component: found for component, found in packed.items() if component.split("/")[1] == split}
        for split in ("train", "validation")
    }
    if not splits["train"]:
        raise ValueError(
            f"nothing of source {name!r} is packed for training in {run.url}; `tokenmill audit` says why: take it out"
        )
    return MixSourceOf(number, source, splits["train"], splits["validation"])


def _check_alike(runs: Sequence[MixRun], fields: Sequence[str], which: Sequence[int], what: str) -> None:
    """Refuse runs whose rows do not fit each other."""
    for name in fields:
        for run in (runs[index] for index in which[1:]):
            one, other = (getattr(found.mixture, name) for found in (runs[which[0]], run))
            if one != other:
                hint = "pack one run with the other's tokenizer" if fields is _TOKENIZER else "put them into two stages"
                raise ValueError(
                    f"{name} is {one!r} in {runs[which[0]].url} and {other!r} in {run.url}: {what} has one; {hint}"
                )


def _check_packed_once(runs: Sequence[MixRun], sources: Mapping[str, MixSourceOf]) -> None:
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


def _held_out(runs: Sequence[MixRun], sources: Mapping[str, MixSourceOf]) -> tuple[dict[str, Packed], dict[str, int]]:
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
