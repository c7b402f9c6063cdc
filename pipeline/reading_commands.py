"""The commands that only read a run: how far it is, what it holds, what became of its documents, and why."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from tokenmill.pipeline.executor_options import executor_options
from tokenmill.pipeline.storage import Storage

if TYPE_CHECKING:  # what commands import when they run: `tokenmill --help` is quick
    from tokenmill.pipeline.opened import OpenedRun
    from tokenmill.pipeline.opened_units import OpenedUnits
    from tokenmill.pipeline.raw_record import RawRecord
    from tokenmill.pipeline.why import Fate


@click.command(short_help="How far a run is, and what is published.")
@click.argument("folder", metavar="RUN")
@click.option("--watch", is_flag=True, help="Look again every few seconds, until another version is published.")
@click.option("--every", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds between two looks.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(folder: str, watch: bool, every: float, as_json: bool) -> None:
    """How far the run in folder RUN is: tasks with a receipt, by step, and the versions published.

    It reads what lies in the folder, so it tells of a run on any machine, also of one that was killed.
    """
    from tokenmill.pipeline.sheet import status_of
    from tokenmill.pipeline.status import print_status, watch_status

    storage = Storage(folder)
    value = status_of(storage)
    if not (value["steps"] or value["planned"] or value["versions"]) and not watch:
        raise click.ClickException(f"{folder!r} holds no run: no receipts and no manifest")
    if watch:
        watch_status(storage, every, as_json)
    elif as_json:
        click.echo(json.dumps(value, indent=2))
    else:
        print_status(value)


@click.command(short_help="Print documents that a bound dropped, or that were kept.")
@click.argument("folder", metavar="RUN")
@click.option("--source", help="The source.  [default: the only one]")
@click.option("--reason", default="kept", show_default=True, help="A drop reason, the group of several, or 'kept'.")
@click.option("-n", "count", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@click.option("--characters", type=click.IntRange(40), default=600, show_default=True, help="Shown of each text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sample(folder: str, source: str | None, reason: str, count: int, characters: int, as_json: bool) -> None:
    """Print documents of the run in folder RUN that a bound dropped, with the signal's value and the bound.

    REASON is one that `tokenmill audit` names, such as gopher_quality.min_words, a group of them, such as
    gopher_quality, gates or failed, or "kept": what all bounds kept, before deduplication. The sample is drawn from
    the whole source by hash, so it is the same each time; a text is shown as the rule that decided read it.
    """
    from tokenmill.pipeline import look
    from tokenmill.pipeline import seen as shown
    from tokenmill.pipeline.opened import open_run
    from tokenmill.pipeline.sheet import published_or_error

    storage = Storage(folder)
    run = open_run(storage, published_or_error(storage))
    if source is None and len(run.parts) > 1:
        raise click.ClickException(f"--source is needed: this run has {', '.join(run.parts)}")
    name = source or next(iter(run.parts))
    total, seen = look.sample(run, name, reason, count)
    if as_json:
        documents = [shown.as_json(document, characters) for document in seen]
        click.echo(json.dumps({"source": name, "reason": reason, "total": total, "documents": documents}, indent=2))
        return
    click.echo(f"{reason}: {total:,} documents of source {name}")
    for document in seen:
        click.echo("\n" + shown.described(document, characters))


@click.command(short_help="What became of a document: dropped, removed for which other one, packed where.")
@click.argument("folder", metavar="RUN")
@click.argument("document", metavar="DOC")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@executor_options
def why(
    folder: str, document: str, as_json: bool, executor: str, address: str | None, cpus: int | None, quiet: bool
) -> None:
    """What became of document DOC in the run in folder RUN; DOC is its identity, its URL or its path.

    The identity, part:row, is what `tokenmill sample` prints. A URL or a path (of code: inside its repository, or with
    it) is looked for in every part, of which one column is read; all documents that have it are told of. What that
    takes longer than 2 s is done by the executor.
    """
    from tokenmill.pipeline import why as fates
    from tokenmill.pipeline.opened import open_run
    from tokenmill.pipeline.opened_units import open_units
    from tokenmill.pipeline.scan import opening
    from tokenmill.pipeline.sheet import published_or_error

    storage = Storage(folder)
    published = published_or_error(storage)
    run = open_run(storage, published)
    units = open_units(storage, published, run.recipe_file.recipe)
    meant = fates.find_documents(run, document, opening(executor, address, cpus, quiet))
    found = [fates.fate_of(run, units, *identity) for identity in meant]
    if as_json:
        click.echo(json.dumps({"documents": [fates.as_json(fate) for fate in found]}, indent=2))
    else:
        click.echo("\n\n".join("\n".join((fates.told(fate), *_failed_chat(run, units, fate))) for fate in found))


def _failed_chat(run: "OpenedRun", units: "OpenedUnits", fate: "Fate") -> list[str]:
    """Of a record that is no conversation: the record, and which turn is wrong."""
    if not (fate.seen.reason or "").startswith("failed.chat."):
        return []
    return _raw_told(_raw(run, units, fate.source, fate.name, fate.seen.place))


@click.command(short_help="As `why`, and the rows of the training order where its tokens stand; its raw record.")
@click.argument("folder", metavar="RUN")
@click.argument("document", metavar="DOC")
@click.option("--total-rows", type=int, metavar="N", help="As open_mixture was given.  [default: all that is allowed]")
@click.option("--window-bytes", type=int, metavar="N", help="As open_mixture was given.")
@click.option("--raw", is_flag=True, help="Print the raw record, from the source's raw file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@executor_options
def where(
    folder: str,
    document: str,
    total_rows: int | None,
    window_bytes: int | None,
    raw: bool,
    as_json: bool,
    executor: str,
    address: str | None,
    cpus: int | None,
    quiet: bool,
) -> None:
    """Where document DOC (its identity, its URL or its path) of the run in folder RUN went, down to the training order.

    What `why` tells: the decision, the document it was removed for, or the shards and rows of its pieces; and the
    global rows in which the trainer first sees them. With --raw also the record that it was made from, or that its raw
    file is gone or has changed.
    """
    from tokenmill.pipeline import where as places
    from tokenmill.pipeline import why as fates
    from tokenmill.pipeline.opened import open_run
    from tokenmill.pipeline.opened_units import open_units
    from tokenmill.pipeline.scan import opening
    from tokenmill.pipeline.versions import open_version

    storage, published = open_version(folder)
    run = open_run(storage, published)
    units = open_units(storage, published, run.recipe_file.recipe)
    meant = fates.find_documents(run, document, opening(executor, address, cpus, quiet))
    order = places.open_first_epoch(storage, published, total_rows, window_bytes)
    values, lines = [], []
    for identity in meant:
        fate = fates.fate_of(run, units, *identity)
        rows = places.rows_of(order, fate)
        record = _raw(run, units, fate.source, fate.name, fate.seen.place) if raw else None
        values.append(places.as_json(rows, fates.as_json(fate)) | (_raw_json(record) if record else {}))
        told = [fates.told(fate), *places.told(fate, rows), *(_raw_told(record) if record else [])]
        lines.append("\n".join(told))
    click.echo(json.dumps({"documents": values}, indent=2) if as_json else "\n\n".join(lines))


def _raw(
    run: "OpenedRun", units: "OpenedUnits", source: str, document: str, place: Mapping[str, Any]
) -> "tuple[str, RawRecord | str]":
    """A document's identity and its raw record, or why there is none any more."""
    from tokenmill.pipeline.raw_record import raw_record

    recipe = run.recipe_file.recipe.source(source)
    part = document.split(":")[0]
    try:
        return document, raw_record(recipe, units.parts, part, place["raw_file"], place["raw_offset"])
    except ValueError as error:
        return document, str(error)


def _raw_told(found: "tuple[str, RawRecord | str]") -> list[str]:
    from tokenmill.pipeline.seen import visible

    document, record = found
    if isinstance(record, str):
        return [f"  no raw record: {record}"]
    lines = visible(record.content, len(record.content)).split("\n")
    failed = ": " + ", ".join(filter(None, (record.failure, record.detail))) if record.failure else ""
    head = f"  raw record of {document}, {record.url} at {record.offset}{failed}"
    return [head, *(f"  │ {line}" for line in lines)]


def _raw_json(found: "tuple[str, RawRecord | str]") -> dict[str, Any]:
    _, record = found
    return {"raw": {"error": record} if isinstance(record, str) else vars(record)}


@click.command(short_help="The documents in a row that a trainer sees, and where each is from.")
@click.argument("folder", metavar="RUN")
@click.option("--row", "rows", metavar="K", type=int, multiple=True, required=True, help="Global row; may be repeated.")
@click.option("--mixture", metavar="PATH", help="Of an earlier version.  [default: the newest version's]")
@click.option("--total-rows", type=int, metavar="N", help="As open_mixture was given.  [default: all that is allowed]")
@click.option("--window-bytes", type=int, metavar="N", help="As open_mixture was given.")
@click.option("--split", type=click.Choice(["train", "validation"]), default="train", show_default=True)
@click.option("--text", "with_text", is_flag=True, help="Show each piece's tokens, decoded.")
@click.option("--raw", is_flag=True, help="Print each document's raw record, from the source's raw file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def trace(
    folder: str,
    rows: tuple[int, ...],
    mixture: str | None,
    total_rows: int | None,
    window_bytes: int | None,
    split: str,
    with_text: bool,
    raw: bool,
    as_json: bool,
) -> None:
    """Where global row K of the run in folder RUN comes from: a batch's `rows` names those of each.

    RUN may also be what `tokenmill mix` wrote, by the path that it printed.

    Its component, epoch, shard and record batch; each document in it with its URL or path, raw file and offset, which
    of its tokens these are, what the filters measured and decided, how often it was seen, and whether it was taken
    down since.
    """
    from tokenmill.pipeline import trace as tracing
    from tokenmill.pipeline import traced

    opened = tracing.open_trace(
        folder, mixture, total_rows=total_rows, window_bytes=window_bytes, split=split, with_text=with_text
    )
    values, lines = [], []
    for row in tracing.trace(opened, rows):
        run = opened.run_of_row(row)
        of_row = [_raw(run.run, run.units, each.source, each.document, each.place) for each in row.pieces if raw]
        values.append(traced.as_json(row))
        for piece, record in zip(values[-1]["pieces"], of_row, strict=False):
            piece.update(_raw_json(record))
        lines.append("\n".join([traced.told(row), *(line for record in of_row for line in ("", *_raw_told(record)))]))
    if as_json:
        path = opened.mixture.stages[0].mixture.path  # the plan's own may be the part of one length
        click.echo(json.dumps({"mixture": path, "plan": opened.mixture.order.plan.hash, "rows": values}, indent=2))
    else:
        click.echo("\n\n".join(lines))


@click.command(short_help="What a changed bound would keep and drop; reads no text.")
@click.argument("folder", metavar="RUN")
@click.option(
    "--set",
    "settings",
    metavar="[SOURCE/]GROUP.BOUND=VALUE",
    multiple=True,
    required=True,
    help="A bound and its new value: a number, null (off), or {percentile: P}. May be given more than once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a tally is [documents, bytes].")
def tune(folder: str, settings: tuple[str, ...], as_json: bool) -> None:
    """What the filters of the published run in folder RUN would keep and drop under other bounds, per source.

    Such as --set gopher_quality.min_words=40 or --set web/language.min_score=0.5. Decides every document again from
    its signals alone, by the code that `tokenmill run` decides with; writes nothing. Deduplication comes after.
    """
    from tokenmill.pipeline import tune as tuning
    from tokenmill.pipeline.opened import open_run
    from tokenmill.pipeline.sheet import people_console, published_or_error

    storage = Storage(folder)
    run = open_run(storage, published_or_error(storage))
    outcomes = tuning.tune(run, [tuning.parse_setting(text) for text in settings])
    if as_json:
        click.echo(json.dumps({source: outcome.to_json() for source, outcome in outcomes.items()}, indent=2))
        return
    console = people_console()
    for source, outcome in outcomes.items():
        console.print(tuning.outcome_table(source, outcome))


@click.command(short_help="One page to look at: funnel, signals with their bounds, duplicates, mixture, documents.")
@click.argument("folder", metavar="RUN")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="Page to write; a path or a URL.",
)
@executor_options
def report(folder: str, output: str, executor: str, address: str | None, cpus: int | None, quiet: bool) -> None:
    """Write the newest version of the run in folder RUN as one HTML page that opens from disk.

    It holds all that it shows and asks for nothing. What is read of every part are its signals and decisions, by the
    executor where that takes longer than 2 s; of texts only the documents that are shown. Needs the `report` extra.
    """
    from tokenmill.pipeline.report.needed import check_installed
    from tokenmill.pipeline.scan import opening
    from tokenmill.pipeline.sheet import published_or_error

    place, slash, name = output.rpartition("/")
    if not name:
        raise click.ClickException(f"-o {output} names a folder: name the page to write, such as {output}report.html")
    check_installed()
    from tokenmill.pipeline.report.report import report as page_of

    storage = Storage(folder)
    data = page_of(storage, published_or_error(storage), opening(executor, address, cpus, quiet))
    target = Storage(place or ("/" if slash else "."))
    target.write(name, data)
    target.forget_drafts()
    click.echo(f"{output}: {len(data):,} bytes")


@click.command(short_help="Find any changed, missing or foreign file of a run.")
@click.argument("folder", metavar="RUN")
@click.option("--quick", is_flag=True, help="Check sizes, manifests and footers, read no data.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(folder: str, quick: bool, as_json: bool) -> None:
    """Read every file of the run in folder RUN and find any that is changed, missing or foreign."""
    from tokenmill.pipeline import checks
    from tokenmill.pipeline.sheet import published_or_error

    storage = Storage(folder)
    published = published_or_error(storage)
    checked, findings = 0, []
    for _, finding in checks.verify(storage, published, quick):
        checked += 1
        if finding is not None:
            findings.append(finding)
    if as_json:
        click.echo(json.dumps({"checked": checked, "findings": [vars(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.path}: {finding.problem}")
        click.echo(f"{checked} files checked, {len(findings)} not as {published.path} says")
    if findings:
        sys.exit(1)
