"""The section of signals: a histogram of each, kept and dropped documents apart, with the bounds that decide."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from tokenmill.filters.bounds import Bound, Cut
from tokenmill.manifests.balance import Balance
from tokenmill.pipeline.languages import LanguageBounds, language_bounds
from tokenmill.pipeline.opened import OpenedRun
from tokenmill.pipeline.recipe import Source
from tokenmill.pipeline.report.blocks import Chart, Charts, Group, Note, Section, Table
from tokenmill.pipeline.report.charts import BoundLine, compact, histogram_chart
from tokenmill.pipeline.report.histograms import Histogram, edges_of
from tokenmill.pipeline.steps.select import settled_bounds

#: Histograms on the page; sources that come later have a table instead.
CHARTS = 200

Histograms = Mapping[tuple[str, str, str], Histogram]


def signals(run: OpenedRun, histograms: Histograms) -> Section:
    """Histograms of every source, in the recipe's order."""
    groups, left = [], CHARTS
    for source in run.recipe_file.recipe.sources:
        own = {name[1:]: histogram for name, histogram in histograms.items() if name[0] == source.name}
        dropped = _dropped(run, source)
        bounds, by_language = _bounds(run, source), language_bounds(source)
        titled = [(*name, counted, bounds.get(name, {})) for name, counted in _ordered(source, own)]
        blocks: list[Any] = []
        if len(titled) > left:
            blocks.append(_table(source.name, titled, dropped))
        else:
            left -= len(titled)
            for group, some in groupby(titled, lambda one: one[0]):
                blocks.append(Charts(group, [_chart(source.name, *one, dropped, by_language) for one in some]))
        groups.append(Group(source.name, blocks or [Note("No signal was measured.")]))
    lead = (
        "Documents by the value of each signal: kept by the filters (blue) and dropped by any of them (orange). Counts "
        "are on a logarithmic scale. A dashed line is a bound; what lies on its shaded side is dropped by it."
    )
    return Section("signals", "Signals and bounds", lead, list(groups))


def _ordered(source: Source, own: Mapping[tuple[str, str], Histogram]) -> list[tuple[tuple[str, str], Histogram]]:
    """The source's signals: the language's, the filters' in the recipe's order, the others."""
    order = ["language", *(entry.group for entry in source.filters)]
    place = {group: index for index, group in enumerate(order)}
    return sorted(own.items(), key=lambda item: place.get(item[0][0], len(order)))


def _bounds(run: OpenedRun, source: Source) -> dict[tuple[str, str], dict[str, Bound]]:
    """Bounds that are on, by signal group and signal: bound's name → value."""
    found: dict[tuple[str, str], dict[str, Bound]] = {}
    for group, values in settled_bounds(source, run.thresholds):
        for name, value in values.items():
            if value is not None:
                found.setdefault((group, name.partition("_")[2]), {})[f"{group}.{name}"] = value
    language: list[tuple[str, str, Any]] = [
        ("language_score", "gates.min_language_score", getattr(source.gates, "min_language_score", None))
    ]
    if source.language is not None:
        language.append(("language_score", "language.min_score", source.language.min_score))
        other = source.language.max_other_language_fraction
        language.append(("other_language_fraction", "language.max_other_language_fraction", other))
    for signal, name, value in language:
        if value is not None:
            found.setdefault(("language", signal), {})[name] = value
    return found


def _dropped(run: OpenedRun, source: Source) -> dict[str, int]:
    """Documents that each bound dropped: those that no bound before it did."""
    total = Balance()
    for part in run.parts[source.name].values():
        total += part.balances["ingest"]
        total += part.balances["select"]
    return {reason: tally.documents for reason, tally in total.dropped.items()}


def _value(bound: Bound) -> float:
    assert bound is not None
    return bound.value if isinstance(bound, Cut) else float(bound)


def _line(name: str, bound: Bound) -> BoundLine:
    short = name.rpartition(".")[2]
    is_min = short.startswith("min_")
    asked = f" (p{bound.percentile:g})" if isinstance(bound, Cut) else ""
    return BoundLine(is_min, _value(bound), f"{'min' if is_min else 'max'} {_value(bound):.6g}{asked}")


def _chart(
    source: str,
    group: str,
    signal: str,
    counted: Histogram,
    limits: Mapping[str, Bound],
    dropped: Mapping[str, int],
    by_language: LanguageBounds,
) -> Chart:
    name = f"{group}.{signal}"
    lines = [_line(name, bound) for name, bound in limits.items()]
    kept, gone = int(counted.kept.sum()), int(counted.dropped.sum())
    said = "; ".join(line.label for line in lines) or "no bound"
    label = f"Histogram of {name} in source {source}: {kept:,} documents kept, {gone:,} dropped; {said}"
    return Chart(
        signal,
        histogram_chart(counted, lines, label),
        _numbers(f"{name} in source {source}", counted),
        _notes(group, signal, counted, limits, dropped, by_language),
    )


def _notes(
    group: str,
    signal: str,
    counted: Histogram,
    limits: Mapping[str, Bound],
    dropped: Mapping[str, int],
    by_language: LanguageBounds,
) -> Sequence[str]:
    notes = []
    for name, bound in limits.items():
        asked = f"{_value(bound):.6g}" + (f", percentile {bound.percentile:g}" if isinstance(bound, Cut) else "")
        notes.append(f"{name.removeprefix(f'{group}.')} = {asked} dropped {dropped.get(name, 0):,}")
    for side in ("min", "max"):
        name = f"{side}_{signal}"
        own = [values[name] for values in by_language.get(group, {}).values() if name in values]
        numbers = sorted({value for value in own if value is not None})
        if numbers:
            notes.append(f"{side} is another in {len(own)} languages: {numbers[0]:.6g} … {numbers[-1]:.6g}")
    if not limits and not notes:
        notes.append("no bound")
    return notes


def _numbers(caption: str, counted: Histogram) -> Table:
    edges = edges_of(counted.shape)
    rows = []
    for index in (counted.kept + counted.dropped).nonzero()[0].tolist():
        last = index == len(counted.kept) - 1
        until = "and more" if last else f"under {compact(float(edges[index + 1]))}"
        both = (f"{counted.kept[index]:,}", f"{counted.dropped[index]:,}")
        rows.append((f"{compact(float(edges[index]))} … {until}", *both))
    rows.append(("no value", f"{counted.missing:,} documents", ""))
    return Table(f"Documents by {caption}", ("value", "kept", "dropped"), rows)


def _table(
    source: str, titled: Sequence[tuple[str, str, Histogram, Mapping[str, Bound]]], dropped: Mapping[str, int]
) -> Table:
    """In place of charts, where the page has enough of them."""
    rows = []
    for group, signal, counted, limits in titled:
        bounds = ", ".join(_line(name, bound).label for name, bound in limits.items()) or "–"
        by_them = sum(dropped.get(name, 0) for name in limits)
        sides = (f"{counted.kept.sum():,}", f"{counted.dropped.sum():,}")
        rows.append((f"{group}.{signal}", bounds, *sides, f"{by_them:,}"))
    caption = f"Signals of source {source}; the page has enough histograms"
    return Table(caption, ("signal", "bounds", "kept", "dropped", "dropped by these"), rows, texts=2)
