"""Earlier runs that a run is deduplicated against: what each of them kept, read where it lies.

Their parts come into the rounds of *deduplicate* beside the run's own, before these in survivor order, with the hashes
and signatures that they have. They are never measured again, compared with one another or removed. So both must have
been made alike: normalisation, shingles and permutations agree, or the run is refused. Bands and threshold are this
run's.

What counts is what the newest version of the earlier run keeps. A document that was taken down there is kept nowhere,
so it removes nothing here: the ledger would name a keeper that is gone, and once its text is erased there would be
nothing to verify against. Who wants its copies out of this run as well makes the request here, too.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tokenmill
from tokenmill.dedup.folding import UNICODE_VERSION
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.pipeline.compared import TEXT, hashes_table
from tokenmill.pipeline.dedup_rounds.driver import on_text
from tokenmill.pipeline.dedup_rounds.groups import Elsewhere, GroupPart
from tokenmill.pipeline.measurements import Measurement, content_measurements
from tokenmill.pipeline.opened_units import OpenedUnits, open_units
from tokenmill.pipeline.recipe import Dedup, Recipe
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.steps.publish import Published, latest
from tokenmill.pipeline.storage import Storage


@dataclass(frozen=True)
class EarlierRun:
    """The newest version of a run that is deduplicated against.

    Attributes:
        name: as `dedup.against` gives it.
        storage: its folder.
        published: the version.
        recipe: it was run with.
        units: its parts, tables and ledgers.
    """

    name: str
    storage: Storage
    published: Published
    recipe: Recipe
    units: OpenedUnits


def earlier_parts(recipe: Recipe, own: Storage) -> list[list[GroupPart]]:
    """The parts of each earlier run of `dedup.against`, in its order; their numbers are not given yet.

    Args:
        recipe: of the run that is to be.
        own: its folder.

    Raises:
        ValueError: a folder holds no published run or is the run's own, or stands twice, or that run was made with
            other parameters; both values are named. Or a file of it that the rounds need is gone or not whole.
    """
    named: dict[str, str] = {}
    for name in recipe.dedup.against:
        root = _root(name)
        if root == _root(own.root):
            raise ValueError(f"{name!r} is this run's own folder: name other runs, or none")
        if root in named:
            raise ValueError(f"{name!r} and {named[root]!r} are one run: name it once")
        named[root] = name
    found = []
    for index, (root, name) in enumerate(named.items()):
        run = _opened(name, Storage(root))
        _check_parameters(recipe.dedup, run)
        parts = list(_parts(recipe.dedup, run, index))
        _check_files(run, parts)
        found.append(parts)
    return found


def _root(folder: str) -> str:
    return folder.rstrip("/") if "://" in folder else os.path.abspath(folder)


def _opened(name: str, storage: Storage) -> EarlierRun:
    published = latest(storage)
    if published is None:
        raise ValueError(f"no published run in {name!r}: give the folder of a run that is done, or take it out")
    recipe = load_recipe(published.value["recipe"], f"the recipe in {storage.url(published.path)}").recipe
    try:
        units = open_units(storage, published, recipe)
    except FileNotFoundError as error:
        raise ValueError(
            f"the earlier run {name!r} ({published.path}) is not whole: {error}; put it back, or take the run out of "
            "dedup.against"
        ) from error
    return EarlierRun(name, storage, published, recipe, units)


def _check_files(run: EarlierRun, parts: Sequence[GroupPart]) -> None:
    """Raise ValueError naming the first file that is gone or has another size; nothing is read."""
    wanted = {output.path: output for part in parts for output in part.tables.values()}
    folders = sorted({path.rpartition("/")[0] for path in wanted})
    sizes = {path: size for folder in folders for path, size in run.storage.sizes(folder).items()}
    wrong = [path for path, output in sorted(wanted.items()) if sizes.get(path) != output.bytes]
    if wrong:
        found, size = sizes.get(wrong[0]), wanted[wrong[0]].bytes
        told = "is gone" if found is None else f"has {found} of the {size} bytes in its receipt"
        more = f", and {len(wrong) - 1:,} more are gone or not whole" if len(wrong) > 1 else ""
        raise ValueError(
            f"the earlier run {run.name!r} ({run.published.path}) is not whole: {run.storage.url(wrong[0])} "
            f"{told}{more}; run that run's recipe again, which makes it anew, or take the run out of dedup.against"
        )


def _check_parameters(dedup: Dedup, run: EarlierRun) -> None:
    theirs, ours = _parameters(run.recipe.dedup), _parameters(dedup)
    theirs["Unicode"], ours["Unicode"] = run.published.value["libraries"]["unicode"], UNICODE_VERSION
    if not dedup.near:  # hashes alone are compared
        alone = ("what is compared", "Unicode")
        theirs, ours = ({name: values[name] for name in alone} for values in (theirs, ours))
    differ = [name for name in ours if ours[name] != theirs[name]]
    if differ:
        told = "; ".join(f"{name} is {theirs[name]} there and {ours[name]} here" for name in differ)
        raise ValueError(
            f"the earlier run {run.name!r} ({run.published.path}) was made with other parameters: {told}; give this "
            "run the same, or run that one again with these"
        )
    measured = {item.name: item for item in content_measurements(dedup)}
    for receipt in run.units.receipts:
        item = measured.get(receipt.task.partition(".")[2]) if receipt.step == "annotate" else None
        if item is not None and not _measured_alike(receipt, item, run.published):
            raise ValueError(
                f"signals/{item.name} of the earlier run {run.name!r} ({run.published.path}, part "
                f"{receipt.task.partition('.')[0]}) were not made by version {item.version} of that group: that run "
                f"was published by tokenmill {run.published.value['tokenmill']}, this is tokenmill "
                f"{tokenmill.__version__}; run that one again with it"
            )


def _parameters(dedup: Dedup) -> dict[str, Any]:
    """What signatures of two runs must have in common to be compared."""
    shingling = dedup.minhash.shingling
    unit = "characters" if shingling.characters else "words"
    return {
        "what is compared": dedup.of,
        "near": dedup.near,
        "num_permutations": dedup.num_permutations,
        "the shingle": f"{shingling.ngram} {unit}",
        "keep_digits": dedup.keep_digits,
        "the seed": dedup.minhash.seed,
    }


def _measured_alike(receipt: Receipt, item: Measurement, published: Published) -> bool:
    """Whether a part was measured by this very version with these parameters: its key hashes both."""
    task = Task("annotate", item.version, receipt.source, receipt.task, item.params, receipt.inputs, item.libraries)
    libraries = {name: published.value["libraries"][name] for name in ("unicode", *item.libraries)}
    return task.key_with(libraries) == receipt.key


def _parts(dedup: Dedup, run: EarlierRun, generation: int) -> Iterator[GroupPart]:
    balances = {
        (receipt.step, receipt.task): receipt.balance
        for receipt in run.units.receipts
        if receipt.step in ("ingest", "select")
    }
    names = sorted({"decisions", "signals/hashes", hashes_table(dedup.of)})
    names += ["signals/minhash"] if dedup.near else []
    turns = [] if dedup.of == TEXT else ["turns"]
    for unit in run.units.units.values():
        of_unit = {"ledger": unit.ledger}
        if unit.name in run.units.takedown:
            of_unit["takedown"] = run.units.takedown[unit.name]
        for part in unit.parts:
            edits = _edits(run.recipe, part.source)
            texts = ["documents", *turns, *(f"edits/{group}" for group in edits)] if on_text(dedup) else []
            there = unit.tables[part.key]
            tables: Mapping[str, Output] = {name: there[name] for name in (*names, *texts) if name in there}
            yield GroupPart(
                part.source,
                part.key,
                generation,
                0,
                balances["ingest", part.key].taken.documents,
                balances["select", part.key].out.documents,
                {**tables, **of_unit},
                Elsewhere(run.name, run.published.path, run.storage.root, edits),
            )


def _edits(recipe: Recipe, source: str) -> tuple[str, ...]:
    return tuple(entry.group for entry in recipe.source(source).filters)
