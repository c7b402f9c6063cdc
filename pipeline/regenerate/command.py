"""`tokenmill regenerate`: the answers of a run's conversations anew, by an endpoint."""

import json
import os
from collections.abc import Mapping
from typing import Any

import click

# \b keeps click from filling a paragraph
_HELP = """Ask an endpoint for the answers of RECIPE's sources anew, and choose among them.

\b
sources:
  - name: math
    reader: chat
    paths: [prompts/*.jsonl]
    regenerate:
      endpoint: http://127.0.0.1:8000/v1    # OpenAI-compatible: vLLM, SGLang
      model: my-model
      samples: 4
      choose: {by: verifiable}              # or first, or {by: classifier, model: path.bin}

The run must be published (`tokenmill run RECIPE`): asked are the conversations that it kept, without their last
answer. Every request and answer goes into a ledger, and nothing that has an answer there is asked again: the same
command goes on where it was killed, asks anew what failed, and with a new chooser asks nothing. What is chosen
goes to RUN/regenerated/SOURCE/answers/*.jsonl, which a source of reader chat of another recipe reads.
"""


@click.command(help=_HELP, short_help="Answers of conversations anew, by an OpenAI-compatible endpoint.")
@click.argument("recipe", type=click.Path(dir_okay=False))
@click.option("--output", metavar="DIR", help="The run's folder or URL.  [default: the recipe's `output`]")
@click.option("--dry-run", is_flag=True, help="Say how many requests there are to send, and send none.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def regenerate(recipe: str, output: str | None, dry_run: bool, as_json: bool, quiet: bool) -> None:
    """Ask an endpoint for the answers of a recipe's sources anew, and choose among them."""
    from tokenmill.pipeline.cli import read_recipe
    from tokenmill.pipeline.progress import reporter
    from tokenmill.pipeline.regenerate.source import regenerate as regenerate_sources
    from tokenmill.pipeline.sheet import people_console
    from tokenmill.pipeline.storage import Storage

    recipe_file = read_recipe(recipe)
    storage = Storage(output or recipe_file.recipe.output)
    with reporter(quiet) as show:
        found = regenerate_sources(recipe_file, storage, show, os.environ, dry_run)
    if as_json:
        click.echo(json.dumps({name: vars(one) for name, one in found.items()}, indent=2, ensure_ascii=False))
        return
    for name, one in found.items():
        verb = "would be asked" if dry_run else "were asked"
        click.echo(f"{name}: {one.asked:,} requests {verb}, {one.before:,} had an answer in the ledger")
        if one.value is not None:
            people_console().print(_table(one.value))
            failed = sum(count for reason, count in one.value["samples"].items() if ".failed." in reason)
            if failed:
                click.echo(f"{failed:,} requests failed: the same command asks them anew; left_out.jsonl names them")
            click.echo(f"answers  {one.folder}/answers/*.jsonl\n")


def _table(value: Mapping[str, Any]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for column in ("", "prompts", "bytes of their conversations"):
        table.add_column(column, justify="left" if not column else "right")
    balance = value["balance"]
    rows = {"in": balance["taken"], **balance["dropped"], **balance["failed"], "chosen": balance["out"]}
    for name, (documents, size, _) in rows.items():
        table.add_row(name, f"{documents:,}", f"{size:,}")
    return table
