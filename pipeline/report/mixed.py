"""The sections of duplicates and of the mixture."""

from collections import Counter
from collections.abc import Sequence

from tokenmill.manifests.lengths import in_words
from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.planned import planned_rows, rows_of_tokens
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.report.blocks import ROWS, Chart, Members, Note, Pair, Section, Table, percent
from tokenmill.pipeline.report.books import BARS, Sheets, balances
from tokenmill.pipeline.report.charts import Bar, bar_chart
from tokenmill.pipeline.report.measure import Found
from tokenmill.pipeline.report.samples import Member
from tokenmill.pipeline.storage import Storage

#: The least size of each range of clusters that is told apart.
_SIZES = (2, 3, 4, 5, 10, 20, 50, 100, 1000, 10_000, 100_000)


def duplicates(recipe: Recipe, sheets: Sheets, found: Found, members: Sequence[Sequence[Member]]) -> Section:
    """Clusters by size, what was removed of which kind, and the largest clusters' documents."""
    lead = (
        "A cluster is a document and all that are like it, exact copies included. One of them stays, and so does each "
        "that is not similar enough to one that stays."
    )
    section = Section("duplicates", "Duplicates", lead)
    if not (recipe.dedup.exact or recipe.dedup.near):
        section.blocks.append(Note("This run was not deduplicated: dedup.exact and dedup.near are off."))
        return section
    section.blocks.append(_removed(sheets))
    if not found.clusters:
        section.blocks.append(Note("No cluster was found: no document is like another one, or the run noted none."))
    else:
        section.blocks.append(_sizes(found.clusters))
    if found.of_earlier_runs:
        section.blocks.append(
            Note(f"{found.of_earlier_runs:,} documents more are in clusters whose first document is an earlier run's.")
        )
    for rank, (cluster, documents) in enumerate(zip(found.largest, members, strict=True), 1):
        title = f"{rank}. {cluster.documents:,} documents, cluster of {cluster.part}:{cluster.row}"
        section.blocks.append(Members(title, documents))
    return section


def _removed(sheets: Sheets) -> Table:
    rows = []
    for source, sheet in sheets.items():
        book = balances(sheet)["deduplicate"]
        for reason, tally in sorted(book.dropped.items()):
            rows.append((source, reason, f"{tally.documents:,}", percent(tally.documents, book.taken.documents)))
    columns = ("source", "kind", "removed", "of the documents compared")
    return Table("Removed as duplicates", columns, rows or [("(none)", "", "0", "–")], texts=2)


def _sizes(clusters: Counter[int]) -> Pair:
    ranges: dict[str, list[int]] = {}
    for least, following in zip(_SIZES, (*_SIZES[1:], None), strict=True):
        name = f"{least:,} or more" if following is None else f"{least:,}"
        if following is not None and following - 1 > least:
            name = f"{least:,} to {following - 1:,}"
        here = [size for size in clusters if size >= least and (following is None or size < following)]
        ranges[name] = [sum(clusters[size] for size in here), sum(size * clusters[size] for size in here)]
    last = max(index for index, (count, _) in enumerate(ranges.values()) if count)
    shown = dict(list(ranges.items())[: last + 1])
    table = Table(
        "Clusters by size",
        ("documents in the cluster", "clusters", "documents"),
        [(name, f"{count:,}", f"{documents:,}") for name, (count, documents) in shown.items()],
    )
    bars = [Bar(f"of {name}", documents, f"{documents:,} in {count:,}") for name, (count, documents) in shown.items()]
    label = "Documents in clusters by size: " + ", ".join(f"{bar.label}: {bar.shown}" for bar in bars)
    return Pair(Chart("Documents in clusters, by size", bar_chart(bars, label), table), table)


def read_mixture(storage: Storage, path: str | None) -> Mixture | None:
    """The run's mixture; None where nothing was kept for training. Raises ValueError where its manifest was edited."""
    if path is None:
        return None
    mixture = Mixture.from_json(storage.read(path))
    if mixture.path != path:
        raise ValueError(f"{storage.url(path)} was edited: its content no longer has the hash in its name")
    return mixture


def mixture_section(recipe: Recipe, mixture: Mixture | None) -> Section:
    """What each component has, what is asked of it, and what a training run would take."""
    section = Section("mixture", "Mixture", "")
    if mixture is None:
        section.blocks.append(Note("There is no mixture: nothing was kept for training."))
        return section
    asked_rows = None if recipe.mixture.tokens is None else rows_of_tokens(mixture, recipe.mixture.tokens)
    counts = list(planned_rows(mixture, asked_rows).values())
    total = sum(counts)
    tokens = [
        count * component.tokens / component.rows for count, component in zip(counts, mixture.components, strict=True)
    ]
    weights = sum(component.weight for component in mixture.components)
    section_rows: list[tuple[str, ...]] = []
    bars = []
    for component, count, taken in zip(mixture.components, counts, tokens, strict=True):
        target, share = component.weight / weights, taken / (sum(tokens) or 1)
        bars.append(Bar(component.name, share, f"{percent(share, 1)} of {percent(target, 1)} asked", target=target))
        available = (f"{component.tokens:,}", f"{component.rows:,}", percent(target, 1))
        got = (f"{count:,}", f"{count / component.rows:.3f}", f"{component.max_epochs:g}", percent(share, 1))
        section_rows.append((component.name, *available, *got))
    columns = (
        *("component", "tokens available", "rows available", "asked"),
        *("rows taken", "epochs", "epochs at most", "share"),
    )
    caption = f"Mixture at {total:,} rows"
    left_out = len(section_rows) - ROWS
    if left_out > 0:
        caption += f"; the {left_out:,} of least weight are left out here"
    table = Table(caption, columns, section_rows[:ROWS])
    label = "Share of tokens by component: " + ", ".join(f"{bar.label} {bar.shown}" for bar in bars[:5])
    chart = Chart("Share of tokens (bar) against what is asked (mark)", bar_chart(bars[:BARS], label), table)
    section.blocks.append(Pair(chart, table, wide=True))
    why = "that mixture.tokens asks for" if asked_rows is not None else "as many as max_epochs allows"
    lead = (
        f"Told of {total:,} rows of {in_words(mixture.lengths)} tokens, {why}. The mixture is named by its hash, "
        f"{mixture.hash}."
    )
    return Section("mixture", "Mixture", lead, section.blocks)
