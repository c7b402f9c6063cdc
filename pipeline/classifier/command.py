"""`tokenmill classifier`: train fastText quality classifiers, and hold them against examples."""

import json
import sys
from collections.abc import Callable
from typing import Any

import click

_PATHS = "may be given more than once; a quoted pattern with *, ? and **/ is expanded"


@click.group(short_help="Train quality classifiers, and hold them against examples.")
def classifier() -> None:
    """Train fastText quality classifiers, and hold them against examples.

    A recipe then scores with one: `- classifier: {name: quality, model: model.bin, min_score: 0.5}`.
    """


def _examples(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--quiet", is_flag=True, help="No progress."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--text-column", default="text", show_default=True, help="Key (JSONL) or column (Parquet)."),
        click.option("--negative", multiple=True, required=True, metavar="PATH", help=f"What is not; {_PATHS}."),
        click.option("--positive", multiple=True, required=True, metavar="PATH", help=f"What is wanted; {_PATHS}."),
    ):
        function = option(function)
    return function


@classifier.command(short_help="Train one, and say how well it tells texts that were held out.")
@_examples
@click.option("--output", required=True, metavar="MODEL", help="The model to write; its card goes to MODEL.json.")
@click.option("--seed", type=click.IntRange(0, (1 << 31) - 1), default=0, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--dim", type=click.IntRange(1), default=32, show_default=True, help="Length of a word's vector.")
@click.option("--word-ngrams", type=click.IntRange(1), default=2, show_default=True, help="Longest run of words.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True)
@click.option("--buckets", type=click.IntRange(0), default=1 << 18, show_default=True, help="For hashed runs of words.")
@click.option("--min-count", type=click.IntRange(1), default=1, show_default=True, help="A rarer word is none.")
@click.option("--held-out", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True)
def train(
    positive: tuple[str, ...],
    negative: tuple[str, ...],
    output: str,
    text_column: str,
    as_json: bool,
    quiet: bool,
    **params: Any,
) -> None:
    """Train a classifier that tells POSITIVE texts from NEGATIVE ones, and print how well it tells those held out.

    Examples are JSONL (.gz, .zst), Parquet (also a run's `documents`), or one document a line in .txt. The same
    examples, seed and options give the same model. Beside it lies MODEL.json: what it was made of, and the figures.
    """
    from tokenmill.pipeline.classifier.training import TrainParams
    from tokenmill.pipeline.classifier.training import train as train_classifier
    from tokenmill.pipeline.progress import Lines, Quiet

    verbose = sys.stderr.isatty() and not quiet  # fastText's own bar, which would not go with one of ours
    show = Quiet() if quiet else Lines()
    card = train_classifier(positive, negative, output, TrainParams(**params), text_column, show, verbose)
    _print(card, "held_out", "held out", as_json)


@classifier.command(short_help="Hold a classifier against other examples.")
@click.argument("model")
@_examples
@click.option("--label", default="positive", show_default=True, help="What POSITIVE examples should be called.")
def evaluate(
    model: str,
    positive: tuple[str, ...],
    negative: tuple[str, ...],
    label: str,
    text_column: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print how well MODEL tells POSITIVE texts from NEGATIVE ones: the table that training prints, on other data."""
    from tokenmill.pipeline.classifier.training import evaluate as evaluate_classifier
    from tokenmill.pipeline.progress import Lines, Quiet

    show = Quiet() if quiet else Lines()
    found = evaluate_classifier(model, label, positive, negative, text_column, show)
    _print(found, "evaluated", "evaluated", as_json)


def _print(card: dict[str, Any], part: str, title: str, as_json: bool) -> None:
    from tokenmill.pipeline.classifier.figures import example_table, figure_tables
    from tokenmill.pipeline.sheet import people_console

    if as_json:
        click.echo(json.dumps(card, indent=2))
        return
    console = people_console()
    console.print(example_table(card["examples"]))
    for table in figure_tables(card[part], title):
        console.print(table)
    click.echo(f"model {card['model']['path']}, xxh3-128 {card['model']['hash']}, scores label {card['label']!r}")
