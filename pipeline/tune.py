"""What a changed bound would keep and drop, from signals alone.

The recipe of a published run is changed as its file would be, and the parts of each source that the change concerns
are decided again by the code that *select* runs: what is told here is what a run of the changed recipe writes.
Deduplication and packing come after and are not foretold.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc
import yaml
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tokenmill.filters.bounds import Cut
from tokenmill.manifests.balance import Balance, Tally
from tokenmill.pipeline.opened import OpenedPart, OpenedRun
from tokenmill.pipeline.recipe import Language, Recipe, Source
from tokenmill.pipeline.recipe.file import RecipeFile, load_recipe
from tokenmill.pipeline.steps.select import decide_part, select_balance, settled_bounds, tables_read
from tokenmill.pipeline.steps.thresholds import count_part, find_cuts, percentile_bounds
from tokenmill.pipeline.tables import open_groups

_LANGUAGE_BOUNDS = tuple(name for name in Language.model_fields if name not in ("model", "prefix_bytes"))


@dataclass(frozen=True)
class Setting:
    """A bound to change, from "gopher_quality.min_words=40" or "web/gopher_quality.min_words=40".

    Attributes:
        source: only in this source; None for every source that has the group.
        group: signal group, or "language".
        bound: its bound.
        value: as in a recipe: a number, null, a list, `{percentile: P}`.
    """

    source: str | None
    group: str
    bound: str
    value: Any


@dataclass
class Outcome:
    """Decisions on one source under both recipes.

    Attributes:
        before: books of *select* as published.
        after: as they would be.
        newly_kept: what was dropped and would be kept.
        newly_dropped: the other way round.
    """

    before: Balance = field(default_factory=Balance)
    after: Balance = field(default_factory=Balance)
    newly_kept: Tally = field(default_factory=Tally)
    newly_dropped: Tally = field(default_factory=Tally)

    def to_json(self) -> dict[str, Any]:
        """Plain values; a tally is [documents, bytes]."""
        return {
            "before": {"kept": _plain(self.before.out), "dropped": _plain_reasons(self.before)},
            "after": {"kept": _plain(self.after.out), "dropped": _plain_reasons(self.after)},
            "newly_kept": _plain(self.newly_kept),
            "newly_dropped": _plain(self.newly_dropped),
        }


def _plain(tally: Tally) -> list[int]:
    return [tally.documents, tally.bytes]


def _plain_reasons(balance: Balance) -> dict[str, list[int]]:
    return {reason: _plain(tally) for reason, tally in sorted(balance.dropped.items())}


def parse_setting(text: str) -> Setting:
    """Read "[source/]group.bound=value". Raises ValueError when it is not of that form."""
    name, equals, value = text.partition("=")
    source, slash, dotted = name.strip().rpartition("/")
    group, dot, bound = dotted.rpartition(".")
    if not (equals and dot and group and bound and bool(slash) == bool(source)):
        raise ValueError(f"--set {text!r}: write group.bound=value, such as gopher_quality.min_words=40")
    try:
        return Setting(source or None, group, bound, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ValueError(f"--set {text!r}: {value!r} is no number, null, list or {{percentile: P}}") from error


def changed_recipe(recipe_file: RecipeFile, settings: Sequence[Setting]) -> RecipeFile:
    """The recipe with bounds changed, as if its file said so.

    Raises:
        ValueError: a source or bound that the recipe does not have, naming the nearest; a value that is none.
    """
    tree = yaml.safe_load(recipe_file.text)
    for setting in settings:
        concerned = _concerned(recipe_file.recipe, setting)
        for source in tree["sources"]:
            if source["name"] in concerned:
                _change(source, setting)
    return load_recipe(yaml.safe_dump(tree), "the changed recipe")


def _concerned(recipe: Recipe, setting: Setting) -> set[str]:
    """Names of the sources that have the bound and are meant."""
    names = [source.name for source in recipe.sources]
    if setting.source is not None and setting.source not in names:
        raise ValueError(f"no source {setting.source!r} in this run: it has {', '.join(names)}")
    meant = [source for source in recipe.sources if setting.source in (None, source.name)]
    asked = f"{setting.group}.{setting.bound}"
    found = {source.name for source in meant if asked in source_bounds(source)}
    if found:
        return found
    if setting.group == "gates" or any(
        entry.group == setting.group and setting.bound in (*entry.params, "per_language")
        for source in meant
        for entry in source.filters
    ):
        raise ValueError(
            f"{asked} is no bound over signals: it decides what is read or measured, so changing it takes a run of "
            "the changed recipe"
        )
    known = sorted({bound for source in meant for bound in source_bounds(source)})
    near = difflib.get_close_matches(asked, known, n=1, cutoff=0.0)
    where = f"source {setting.source!r} of this run" if setting.source else "this run"
    hint = f"did you mean {near[0]!r}? Its bounds are {', '.join(known)}" if near else "it has none"
    raise ValueError(f"{where} has no bound {asked!r}: {hint}")


def source_bounds(source: Source) -> list[str]:
    """Every bound over signals that a source has, set or off, such as "gopher_quality.min_words"."""
    language = [f"language.{name}" for name in _LANGUAGE_BOUNDS] if source.language is not None else []
    return language + [f"{entry.group}.{name}" for entry in source.filters for name in entry.bounds]


def _change(source: dict[str, Any], setting: Setting) -> None:
    """Write a setting into a source of the recipe's tree."""
    if setting.group == "language":
        source["language"] = {**(source["language"] or {}), setting.bound: setting.value}
        return
    for index, entry in enumerate(source["filters"]):
        name, given = (entry, None) if isinstance(entry, str) else next(iter(entry.items()))
        given = given or {}
        if (f"classifier.{given['name']}" if name == "classifier" else name) == setting.group:
            source["filters"][index] = {name: {**given, setting.bound: setting.value}}


def tune(run: OpenedRun, settings: Sequence[Setting]) -> dict[str, Outcome]:
    """Decide again under changed bounds.

    Returns:
        The outcome for each source that a setting concerns.

    Raises:
        ValueError: as `changed_recipe`; a percentile of a signal that no document has.
    """
    recipe = changed_recipe(run.recipe_file, settings).recipe
    concerned = {name for setting in settings for name in _concerned(run.recipe_file.recipe, setting)}
    return {
        source.name: _tune_source(run, recipe, source, run.parts[source.name])
        for source in recipe.sources
        if source.name in concerned
    }


def _tune_source(run: OpenedRun, recipe: Recipe, source: Source, parts: Mapping[str, OpenedPart]) -> Outcome:
    bounds = settled_bounds(source, _thresholds(run, source, parts))
    outcome = Outcome()
    for part in parts.values():
        outcome.before += part.balances["select"]
        with open_groups(run.storage, part.tables["decisions"].path) as published:
            tables = tables_read(recipe, source, part.tables)
            for groups, decisions, sizes in decide_part(run.storage, recipe, source, tables, bounds):
                outcome.after += select_balance(decisions, sizes)
                was, would = published.read(groups, ["kept"]).column(0), decisions.column("kept")
                outcome.newly_kept += _tally(sizes.filter(pc.and_not(would, was)))
                outcome.newly_dropped += _tally(sizes.filter(pc.and_not(was, would)))
    return outcome


def _tally(sizes: Any) -> Tally:
    return Tally(len(sizes), pc.sum(sizes).as_py() or 0)


def _thresholds(run: OpenedRun, source: Source, parts: Mapping[str, OpenedPart]) -> dict[str, Cut | None]:
    """Cuts of the source's percentile bounds: as published where the percentile is the same, else found anew."""
    recipe = run.recipe_file.recipe
    known = percentile_bounds(recipe.source(source.name))
    asked = percentile_bounds(source)
    tables = {source.name: [part.tables for part in parts.values()]}
    changed = [bound for bound in asked if bound not in known]
    found = find_cuts(changed, recipe.seed, tables, lambda items: (count_part(run.storage, item) for item in items))
    return {bound.name: run.thresholds[bound.name] if bound in known else found[bound.name] for bound in asked}


def outcome_table(source: str, outcome: Outcome) -> Table:
    """An outcome for people: what is kept and dropped, by reason, before and after."""
    table = Table(title=f"source {source}", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for title in ("", "documents", "would be", "change", "text bytes", "would be"):
        table.add_column(title, justify="left" if not title else "right", overflow="fold")
    _add_row(table, "kept", outcome.before.out, outcome.after.out)
    table.add_row("  newly kept", "", f"{outcome.newly_kept.documents:,}", "", "", f"{outcome.newly_kept.bytes:,}")
    dropped = outcome.newly_dropped
    table.add_row("  newly dropped", "", f"{dropped.documents:,}", "", "", f"{dropped.bytes:,}", end_section=True)
    before, after = outcome.before.dropped, outcome.after.dropped
    for reason in sorted({*before, *after}, key=lambda name: (-before.get(name, Tally()).documents, name)):
        _add_row(table, reason, before.get(reason, Tally()), after.get(reason, Tally()))
    return table


def _add_row(table: Table, name: str, before: Tally, after: Tally) -> None:
    change = after.documents - before.documents
    counts = (f"{before.documents:,}", f"{after.documents:,}", f"{change:+,}" if change else "")
    table.add_row(name, *counts, f"{before.bytes:,}", f"{after.bytes:,}", style="bold" if change else None)
