"""The command `tokenmill`: a command takes a recipe or a run's folder and little else."""

import sys
from pathlib import Path
from typing import Any

import click

import tokenmill
from tokenmill.pipeline.auditing_commands import audit, diff
from tokenmill.pipeline.classifier.command import classifier
from tokenmill.pipeline.cycles import seldom_collected
from tokenmill.pipeline.executor_options import executor_options
from tokenmill.pipeline.executors import RunFailedError
from tokenmill.pipeline.export.command import export
from tokenmill.pipeline.mixing.command import mix
from tokenmill.pipeline.query.command import sql
from tokenmill.pipeline.reading_commands import report, sample, status, trace, tune, verify, where, why
from tokenmill.pipeline.recipe.file import RecipeError, RecipeFile, load_recipe
from tokenmill.pipeline.regenerate.command import regenerate
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tokenizer_command import tokenizer

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


# \b keeps click from filling a paragraph
_HELP = """Turn raw crawl and code shards into the token mixture a masked-diffusion language model is trained on.

\b
A first look; no network, no data needed:
    tokenmill demo
Your own data:
    tokenmill run recipe.yaml     ingest, filter, deduplicate, tokenize, pack, publish
    tokenmill audit out           what is in it, what was dropped, and why
    tokenmill report out          all of it as one page to look at
    tokenmill sql out "from …"    questions of your own: documents, signals, decisions, duplicates
    tokenmill diff out@0 out      what another recipe, or more data, changed
    tokenmill sample out          documents that a bound dropped, with the signal's value
    tokenmill tune out            what a changed bound would keep and drop
    tokenmill mix a b --recipe …  sources of several runs in one mixture, by budgets or weights
    tokenmill trace out --row 0   the documents in a row that a trainer sees
    tokenmill verify out          every byte is what the manifest says
    tokenmill export out          the files that another trainer reads
    tokenmill regenerate recipe   answers of conversations anew, by an endpoint
In the trainer:
    from tokenmill.pipeline.loader import open_mixture
"""


@click.group(
    context_settings=_CONTEXT,
    help=_HELP,
    commands=[
        *(audit, classifier, diff, export, mix, regenerate, report, sample, sql),
        *(status, tokenizer, trace, tune, verify, where, why),
    ],
)
@click.version_option(tokenmill.__version__)
def cli() -> None:
    """All commands."""


@seldom_collected()
def main() -> None:
    """Run the command; mistakes of the user end in one message, not in a traceback."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit("interrupted; run the same command again, and it goes on where it was")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (RecipeError, RunFailedError, FileNotFoundError, ValueError) as error:
        sys.exit(f"tokenmill: {error}")


@cli.command(short_help="Run a recipe: raw shards in, token shards and manifests out.")
@click.argument("recipe", type=click.Path(dir_okay=False))
@click.option("--output", metavar="DIR", help="Folder or URL to write to.  [default: the recipe's `output`]")
@executor_options
def run(recipe: str, output: str | None, executor: str, address: str | None, cpus: int | None, quiet: bool) -> None:
    """Run RECIPE: raw shards in, packed token shards and their manifests out.

    What is done is not done again: a run that was killed goes on where it was, and after a change of the recipe or of
    the data only what depends on it is redone. Nothing that an earlier version of the run names is overwritten.
    """
    from tokenmill.pipeline.sheet import people_console, print_sheet

    recipe_file = read_recipe(recipe)
    root = output or recipe_file.recipe.output
    published = run_recipe(recipe_file, root, executor, address, cpus, quiet)
    print_sheet(published, people_console())
    click.echo(f"\npublished {root}/{published.path}")
    mixture = published.value["mixture"]
    click.echo(f"mixture   {root}/{mixture}" if mixture else "no mixture: nothing was kept for training, see above why")
    if mixture and recipe_file.recipe.sequences.buckets:
        from tokenmill.pipeline.loader.published import read_mixture
        from tokenmill.pipeline.storage import Storage
        from tokenmill.pipeline.visits import left_out

        for line in left_out(read_mixture(Storage(root), mixture)):
            click.echo(line)


def read_recipe(path: str) -> RecipeFile:
    """Read and check a recipe file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"no recipe {path!r}; `tokenmill demo` writes one to start from") from None
    return load_recipe(text, path)


def run_recipe(
    recipe_file: RecipeFile, root: str, executor: str, address: str | None, cpus: int | None, quiet: bool
) -> Any:
    """Plan and run a recipe; returns what was published."""
    from tokenmill.pipeline.executors import open_executor
    from tokenmill.pipeline.metrics import Metered
    from tokenmill.pipeline.prepare import prepare
    from tokenmill.pipeline.progress import reporter
    from tokenmill.pipeline.run import Run

    storage = Storage(root)
    with reporter(quiet) as show:
        show.say(f"{recipe_file.recipe.name}: planning")
        parts = prepare(recipe_file, storage)
        total = sum(part.bytes for part in parts)
        show.say(f"{recipe_file.recipe.name}: {len(parts)} parts, {total / 1e6:,.1f} MB of raw shards → {root}")
        with open_executor(executor, address, cpus) as execute:
            watched = Metered(show, recipe_file.recipe.name) if executor == "ray" else show
            return Run(recipe_file, storage, execute, watched).go(parts)


@cli.command(short_help="Take documents down: a new version of a run without them; --erase erases their text.")
@click.argument("folder", metavar="RUN")
@click.option("--ids", type=click.File(encoding="utf-8"), help="File of documents, part:row, one a line.")
@click.option("--url", "urls", metavar="U", multiple=True, help="The page with that URL, now and when it comes again.")
@click.option("--domain", "domains", metavar="D", multiple=True, help="A domain and all below it, now and later.")
@click.option("--reason", default="", help="Why; kept beside each of them.")
@click.option("--copies", is_flag=True, help="Of what is out as a duplicate, remove the document it duplicates, too.")
@click.option("--erase", is_flag=True, help="Erase the text of all that was ever removed, and the earlier versions.")
@executor_options
def remove(
    folder: str,
    ids: Any,
    urls: tuple[str, ...],
    domains: tuple[str, ...],
    reason: str,
    copies: bool,
    erase: bool,
    executor: str,
    address: str | None,
    cpus: int | None,
    quiet: bool,
) -> None:
    """Publish a new version of the run in folder RUN without some documents.

    They go on the run's removal list, which every later run into the folder keeps to. Only units that held one of them
    are packed again. What was removed as a duplicate of them stays out. Earlier versions stay as they are until
    --erase, which may be given alone: it takes the text of everything on the list out of the folder and deletes all
    earlier versions.
    """
    from tokenmill.pipeline import takedown
    from tokenmill.pipeline.takedown_command import run_remove

    asked = takedown.Asked(takedown.ids_in(ids.read()) if ids else (), urls, domains, reason, copies)
    if not (asked.ids or urls or domains or erase):
        raise click.ClickException("say what to remove: --ids FILE, --url U or --domain D; or --erase what was removed")
    for line in run_remove(Storage(folder), asked, erase, executor, address, cpus, quiet):
        click.echo(line)


@cli.command(short_help="Remove what no published version names.")
@click.argument("folder", metavar="RUN")
@click.option("--keep", type=click.IntRange(1), help="Keep only the newest N published versions.  [default: all]")
@click.option("--yes", is_flag=True, help="Delete; without it, only say what would go.")
def gc(folder: str, keep: int | None, yes: bool) -> None:
    """Remove files of RUN that no published version names: outputs of earlier recipes, drafts of killed tasks.

    Not while a run is writing to it: what a run has done but not yet published would go too.
    """
    from tokenmill.pipeline import checks
    from tokenmill.pipeline.sheet import published_or_error
    from tokenmill.pipeline.steps.publish import versions

    storage = Storage(folder)
    published_or_error(storage)
    found = checks.garbage(storage, versions(storage)[-keep:] if keep else versions(storage))
    size = sum(found.values())
    for path in found:
        if yes:
            storage.delete(path)
        else:
            click.echo(path)
    click.echo(f"{len(found)} files, {size / 1e6:,.1f} MB {'removed' if yes else 'would go; add --yes to remove them'}")


@cli.command(short_help="The whole pipeline on data this computer already has, in about a minute.")
@click.option("--output", metavar="DIR", default="out/demo", show_default=True, help="Folder to write to.")
@executor_options
def demo(output: str, executor: str, address: str | None, cpus: int | None, quiet: bool) -> None:
    """The whole pipeline on data this computer already has, in about a minute.

    Makes a WARC shard of the pages `pydoc` renders for the standard library and a code shard of its source, writes the
    recipe it uses beside its output, runs it, prints the balance sheet, and shows the first batch a trainer would get.
    """
    from tokenmill.pipeline.demo.show import run_demo

    run_demo(output, lambda file: run_recipe(file, output, executor, address, cpus, quiet), quiet)
