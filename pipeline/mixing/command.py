"""`tokenmill mix`: sources of several runs in one mixture."""

import json
import time

import click

from tokenmill.pipeline.storage import Storage

# \b keeps click from filling a paragraph
_HELP = """Write a mixture of sources of several runs, by a recipe of budgets or weights.

\b
name: pretrain
tokens: 12T                       # with weights: of how many tokens
max_epochs: 2                     # of each source; the recipe's `validation: false` leaves out held-out rows
sources:
  english: 6.5T                   # a budget, as {tokens: 6.5T, max_epochs: 4}
  code: {weight: 3}               # weights share what the budgets leave
  wiki: {weight: 1, strata: {en: 2, "copies=10+": 0.5}}

RUN is a folder or URL, RUN@3 its version 3. Where two runs have a source of the same name, name them (old=RUN), and
write old.web in the recipe. `stages:` is a list of such sources and tokens, with `batch_size:`, rows of a global batch.

The table comes first; more asked for than there is, times max_epochs, is refused with the numbers. What is written
names the runs' shards and copies none: a trainer opens the path that is printed. The same again writes nothing new.
"""


@click.command(help=_HELP, short_help="Sources of several runs in one mixture, by budgets or weights.")
@click.argument("runs", metavar="RUN…", nargs=-1, required=True)
@click.option("--recipe", "recipe_path", metavar="FILE", required=True, help="See above.")
@click.option("--output", metavar="DIR", help="Folder or URL to write to, of mixtures alone.")
@click.option("--dry-run", is_flag=True, help="Print the table, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def mix(runs: tuple[str, ...], recipe_path: str, output: str | None, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Write a mixture of sources of several runs."""
    from tokenmill.pipeline.mixing import told
    from tokenmill.pipeline.mixing.runs import open_to_mix
    from tokenmill.pipeline.mixing.settled import settle_mix
    from tokenmill.pipeline.mixing.written import check_output, write_mix
    from tokenmill.pipeline.progress import reporter
    from tokenmill.pipeline.recipe.file import load_tree
    from tokenmill.pipeline.recipe.mix import MixRecipe
    from tokenmill.pipeline.scan import PATIENCE_S, opening, scan_soon
    from tokenmill.pipeline.sheet import people_console

    if output is None and not dry_run:
        raise click.ClickException("say where to write, --output DIR, or --dry-run")
    folder, slash, name = recipe_path.rpartition("/")
    recipe = load_tree(MixRecipe, Storage(folder + slash or ".").read(name).decode(), recipe_path)
    storage = None if output is None else Storage(output)
    if storage is not None:
        check_output(storage)
    started = time.monotonic()
    opened = scan_soon(opening("inline", None, None, quiet), "read the shard tables", open_to_mix, None, runs)
    settled = settle_mix(recipe, opened)
    value = told.as_json(settled)
    if not as_json:
        people_console().print(*told.tables(settled))
        click.echo("\n".join(told.lines(settled)))
    if storage is not None and not dry_run:
        if time.monotonic() - started > PATIENCE_S:
            with reporter(quiet) as show:
                show.say(f"writing what names {sum(run.shards.num_rows for run in settled.runs):,} shards")
        written = write_mix(storage, settled)
        value |= {"mix": storage.url(written.path), "is_new": written.is_new}
        value["mixtures"] = [storage.url(path) for path in written.mixtures]
        if not as_json:
            url = storage.url(written.path)
            click.echo(f"\n{'wrote' if written.is_new else 'nothing new: there is'} {url}")
            click.echo(f'open_mixture("{url}", batch_size={recipe.batch_size or 8})')
    if as_json:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
