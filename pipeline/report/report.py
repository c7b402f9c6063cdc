"""A published run as one HTML page: gathered, drawn, put into the template."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any

from tokenmill.manifests.audit import strata_tokens
from tokenmill.pipeline.opened import open_run
from tokenmill.pipeline.opened_units import open_units
from tokenmill.pipeline.report import books
from tokenmill.pipeline.report.blocks import Code, Documents, Section, Table
from tokenmill.pipeline.report.measure import measure_run
from tokenmill.pipeline.report.mixed import duplicates, mixture_section, read_mixture
from tokenmill.pipeline.report.page import PAGE_BYTES, Page, render
from tokenmill.pipeline.report.samples import Shown, cluster_members, reasons_of, sample_documents
from tokenmill.pipeline.report.signals import signals
from tokenmill.pipeline.report.throughput import throughput
from tokenmill.pipeline.scan import Opening
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage, content_hash

_RECIPE_CHARACTERS = 200_000


def report(storage: Storage, published: Published, opening: Opening) -> bytes:
    """The page of a published version, UTF-8; the same run gives the same bytes.

    Args:
        storage: the run's folder.
        published: the version.
        opening: opens what parts are read by, where that takes long.

    Raises:
        ValueError: a manifest was edited, or a table is damaged; the page would be larger than PAGE_BYTES.
    """
    _check_tables(storage, published)
    run = open_run(storage, published)
    recipe = run.recipe_file.recipe
    units = open_units(storage, published, recipe)
    sheets = {source: published.value["balance"][source] for source in published.value["sources"]}
    mixture = read_mixture(storage, published.value["mixture"])
    with _opened_once(opening) as once:
        found = measure_run(storage, units, once)
        members = cluster_members(run, units, found.largest, once)
        shown = sample_documents(run, units, found, once)
    components = strata_tokens(units.receipts)
    sections = [
        books.overview(sheets),
        books.funnel(sheets),
        books.languages(sheets, found.languages, "language" in recipe.strata.by),
        signals(run, found.histograms),
        duplicates(recipe, sheets, found, members),
        books.packing(sheets, components, recipe.sequences.lengths),
        mixture_section(recipe, mixture),
        _documents(shown, reasons_of(run, found), sheets),
        throughput(storage, run, units),
        _made_of(published),
    ]
    data = render(Page(published.value["name"], published.path, books.key_figures(sheets), sections))
    if len(data) > PAGE_BYTES:
        raise ValueError(
            f"the page of {storage.url(published.path)} would have {len(data):,} bytes, more than {PAGE_BYTES:,}: its "
            f"{len(sheets)} sources have too many reasons and languages for one page"
        )
    return data


def _check_tables(storage: Storage, published: Published) -> None:
    """Raise ValueError unless the tables that the manifest names have the hashes in their names."""
    for name in ("plan", "tasks"):
        path = published.value[name]
        with storage.open(path) as file:
            digest = content_hash(file)[1]
        if digest not in path:
            raise ValueError(
                f"{storage.url(path)} was edited: its bytes hash to {digest}, which is not the hash in its name; "
                f"`tokenmill verify {storage.root}` finds what else is"
            )


@contextmanager
def _opened_once(opening: Opening) -> Iterator[Opening]:
    """The same, but what is opened first stays open until the end: starting workers takes seconds."""
    with ExitStack() as stack:
        opened = cache(lambda: stack.enter_context(opening()))

        def again() -> AbstractContextManager[Any]:
            return nullcontext(opened())

        yield again


def _documents(shown: list[Shown], counts: Mapping[tuple[str, str], int | None], sheets: books.Sheets) -> Section:
    sources = list(sheets)
    reasons: dict[str, int] = {}
    for (source, reason), count in counts.items():
        if count is None:
            count = sum(
                balance.dropped[reason].documents
                for balance in books.balances(sheets[source]).values()
                if reason in balance.dropped
            )
        reasons[reason] = reasons.get(reason, 0) + count
    order = sorted(reasons, key=lambda reason: (reason != "kept", -reasons[reason], reason))
    lead = (
        f"{len(shown):,} documents, drawn by hash: some that were kept, and some of every reason. “kept” is what all "
        "filters kept, before deduplication. A text is shown as the rule that decided read it, its beginning alone; "
        "what hides in it is an escape, and ␣ is a no-break space."
    )
    names = [(reason, f"{reason} ({reasons[reason]:,})") for reason in order]
    return Section("documents", "Documents", lead, [Documents(shown, sources, names)])


def _made_of(published: Published) -> Section:
    value = published.value
    versions = [("tokenmill", value["tokenmill"]), *sorted(value["libraries"].items())]
    names = ["plan", "tasks", "shards", "tokenizer", "mixture"]
    files = [("version", published.path), *((name, value[name] or "none") for name in names)]
    text = value["recipe"]
    if len(text) > _RECIPE_CHARACTERS:
        text = f"{text[:_RECIPE_CHARACTERS]}\n… {len(text) - _RECIPE_CHARACTERS:,} characters more"
    blocks: list[Any] = [
        Code("Recipe", text),
        Table("Versions it was made with", ("library", "version"), versions, texts=2),
        Table("What this version is made of", ("what", "file"), files, texts=2),
    ]
    return Section("recipe", "Recipe and versions", "The recipe as it was run, and all that decides its bytes.", blocks)
