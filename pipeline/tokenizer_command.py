"""`tokenmill tokenizer`: train a tokenizer on what a run kept, and say how well it spells each source and language."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import click
from pydantic import ByteSize, TypeAdapter, ValidationError

from tokenmill.pipeline.recipe.tokens import PatternName

_SAMPLE_BYTES = 10**9
_LONGEST_SHOWN = 8
#: Characters shown of either end of a long token.
_END = 10


@click.group(short_help="Train a tokenizer on what a run kept.")
def tokenizer() -> None:
    """Train a tokenizer on what a run kept, and say how many bytes a token holds, by source and language.

    A recipe then names it: `tokenizer: {path: tokenizer.json}`.
    """


def _bytes(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        size = int(TypeAdapter(ByteSize).validate_python(value))
    except ValidationError:
        size = 0
    if size < 1:
        raise click.BadParameter(f"{value!r} is no size; give one such as 64MiB or 1GB")
    return size


@tokenizer.command(short_help="Train one by the mixture's weights, and measure it on held-out documents.")
@click.argument("recipe", type=click.Path(dir_okay=False))
@click.option("--vocab-size", type=click.IntRange(1), help="Ids in all.  [default: the recipe's]")
@click.option(
    "--sample-bytes", callback=_bytes, metavar="SIZE", help="Text to train on.  [default: the recipe's, or 1GB]"
)
@click.option(
    "--pattern", type=click.Choice(get_args(PatternName)), help="How text is cut.  [default: the recipe's, or llama3]"
)
@click.option("--output", default="tokenizer.json", show_default=True, metavar="FILE", help="The tokenizer to write.")
@click.option("--run", "folder", metavar="RUN", help="The run to read.  [default: the recipe's `output`]")
@click.option(
    "--compare", multiple=True, metavar="FILE", help="Another tokenizer.json to measure; may be given more than once."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report.")
@click.option("--quiet", is_flag=True, help="No progress.")
def train(
    recipe: str,
    vocab_size: int | None,
    sample_bytes: int | None,
    pattern: str | None,
    output: str,
    folder: str | None,
    compare: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a byte-level BPE tokenizer on what the run of RECIPE kept, documents drawn by the mixture's weights.

    The run must be published (`tokenmill run RECIPE`, with any tokenizer); weights and special tokens are those of
    RECIPE as it is now. The same run and options give the same bytes. Beside FILE lies its report, FILE.report.json
    without the first .json: what it was trained on, and bytes a token by source and language on documents that no
    tokenizer is trained on, its own and those of the run's tokenizer and of every --compare.
    """
    from tokenmill.pipeline.cli import read_recipe
    from tokenmill.pipeline.progress import Lines, Quiet
    from tokenmill.pipeline.storage import Storage
    from tokenmill.pipeline.tokenizer_training import Asked
    from tokenmill.pipeline.tokenizer_training import train as train_tokenizer

    found = read_recipe(recipe).recipe
    own = found.tokenizer.train
    vocab_size = vocab_size or (own.vocab_size if own else None)
    if vocab_size is None:
        raise click.UsageError("--vocab-size is needed: the recipe's tokenizer is a file, so it says no size")
    sample_bytes = sample_bytes or (int(own.sample_bytes) if own else _SAMPLE_BYTES)
    asked = Asked(vocab_size, sample_bytes, pattern or (own.pattern if own else "llama3"), output, compare)
    # the one thing that this process does, so all its cores may count; the bytes are the same
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    verbose = sys.stderr.isatty() and not quiet  # the bars of `tokenizers`, which would not go with ours
    report = train_tokenizer(found, Storage(folder or found.output), asked, Quiet() if quiet else Lines(), verbose)
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        _print(report)


def _print(report: Mapping[str, Any]) -> None:
    from tokenmill.pipeline.sheet import people_console
    from tokenmill.pipeline.tokenizer_figures import figure_table, sample_table

    console = people_console()
    console.print(sample_table(report["sample"]))
    console.print(figure_table(report))
    for line in _remarks(report):
        click.echo(line)


def _remarks(report: Mapping[str, Any]) -> Iterator[str]:
    made = report["tokenizer"]
    yield f"longest tokens: {', '.join(map(_shortened, made['longest_tokens'][:_LONGEST_SHOWN]))}"
    sample = report["sample"]
    if short := [name for name, row in sample.items() if row["bytes"] < row["asked_bytes"]]:
        fits = min(sample[name]["bytes"] / sample[name]["asked_bytes"] for name in short)
        asked = sum(row["asked_bytes"] for row in sample.values())
        yield (
            f"of {', '.join(short)} there is less than was asked for, so the sample is not in the mixture's "
            f"proportions; one of --sample-bytes {int(fits * asked)} would be"
        )
    if made["vocab_size"] < made["asked_vocab_size"]:
        yield (
            f"{made['vocab_size']:,} tokens, not {made['asked_vocab_size']:,}: no other pair is there twice; train on "
            "more text"
        )
    yield f"tokenizer {made['path']}, xxh3-128 {made['hash']}"


def _shortened(token: str) -> str:
    return repr(token) if len(token) <= 2 * _END else f"{token[:_END]!r} … {token[-_END:]!r}"
