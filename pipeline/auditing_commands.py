"""The commands that hold a run to account: its balance sheet whole and broken down, and what differs between two."""

import json

import click

from tokenmill.pipeline.executor_options import executor_options

_KINDS = ("language", "domain", "licence", "date", "extension")


@click.command(short_help="The balance sheet: what came in, what was dropped and why, what is packed.")
@click.argument("folder", metavar="RUN")
@click.option("--recount", is_flag=True, help="Read what was written and prove every number.")
@click.option("--by", "kind", type=click.Choice(_KINDS), help="Break it down; of code the file's extension.")
@click.option("--top", type=click.IntRange(1), default=100, show_default=True, help="Lines a source, for --by.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@executor_options
def audit(
    folder: str,
    recount: bool,
    kind: str | None,
    top: int,
    as_json: bool,
    executor: str,
    address: str | None,
    cpus: int | None,
    quiet: bool,
) -> None:
    """The balance sheet of the run in folder RUN: what came in, what was dropped or failed and why, what is packed.

    RUN@3 is its version 3. With --by it is broken down by best language, registrable domain, licence, month of the
    crawl or file extension: the values with the most tokens, then "others"; the lines sum to the sheet, or that is an
    error. Of conversations it tells tokens by role, and how often training would see each component. What
    takes longer than 2 s is done by the executor.
    """
    from tokenmill.pipeline import breakdown, checks, outcomes, visits
    from tokenmill.pipeline.opened import open_run
    from tokenmill.pipeline.opened_units import open_units
    from tokenmill.pipeline.scan import opening
    from tokenmill.pipeline.sheet import people_console, print_sheet
    from tokenmill.pipeline.versions import open_version

    storage, published = open_version(folder)
    lines = []
    if kind is not None:
        units = open_units(storage, published, open_run(storage, published).recipe_file.recipe)
        opened = opening(executor, address, cpus, quiet)
        files = outcomes.unit_files(units)
        lines = breakdown.breakdown(storage, files, kind, top, published.value["balance"], opened)
    wrong: list[str] = []
    balance, mixture = published.value["balance"], visits.mixture_of_conversations(storage, published)
    if recount:
        for task, differences in checks.recount(storage, published):
            wrong += [f"{task}: {difference}" for difference in differences]
    if as_json:
        named = {"version": published.number, "hash": published.hash, "mixture": published.mixture_hash}
        value = {**named, "balance": balance, "differences": wrong}
        value |= visits.as_json(mixture, balance) if mixture is not None else {}
        more = {"by": kind, "lines": [line.to_json() for line in lines]} if kind else {}
        click.echo(json.dumps({**value, **more}, indent=2, ensure_ascii=False))
    else:
        if kind is not None:
            people_console().print(*breakdown.tables_of(lines, kind))
        else:
            print_sheet(published, people_console())
            if mixture is not None:
                visits.print_visits(mixture, balance, people_console())
            told = f"version {published.number}, {published.hash}; mixture {published.mixture_hash or '(none)'}"
            click.echo(f"\n{told}")
        if recount and not wrong:
            click.echo("\nrecounted: every number is what the files hold")
    if wrong:
        raise click.ClickException("the files do not hold what the sheet says:\n  " + "\n  ".join(wrong))


@click.command(short_help="What differs between two runs, or two versions of one: recipe, documents, tokens, reasons.")
@click.argument("before", metavar="RUN_A")
@click.argument("after", metavar="RUN_B")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@executor_options
def diff(
    before: str, after: str, as_json: bool, executor: str, address: str | None, cpus: int | None, quiet: bool
) -> None:
    """What differs between the runs in folders RUN_A and RUN_B, or two versions of one (RUN@0 RUN@3).

    Keys of the recipe with both values; by source the documents that are new, gone or changed, an identity (part:row)
    having another content hash; tokens by source and stratum; and the documents of which something else became, such
    as "packed → gopher_quality.min_words", with how many and three examples. What of that takes longer than 2 s is
    done by the executor.
    """
    from tokenmill.pipeline import diff as compare
    from tokenmill.pipeline import diff_told
    from tokenmill.pipeline.scan import opening
    from tokenmill.pipeline.versions import open_version

    one, two = (compare.open_side(*open_version(named)) for named in (before, after))
    found = compare.document_differences(one, two, opening(executor, address, cpus, quiet))
    if as_json:
        click.echo(json.dumps(diff_told.as_json(one, two, found), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(diff_told.told(one, two, found)))
