"""The options of every command that runs tasks."""

from collections.abc import Callable
from typing import Any

import click


def executor_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --executor, --address, --cpus and --quiet to a command."""
    for option in (
        click.option("--quiet", is_flag=True, help="No progress."),
        click.option("--cpus", type=click.IntRange(1), help="CPUs for a Ray started here.  [default: all]"),
        click.option("--address", help="Address of a running Ray cluster (or 'auto'); else Ray is started here."),
        click.option(
            "--executor",
            type=click.Choice(["ray", "inline"]),
            default="ray",
            show_default=True,
            help="'inline' runs everything in this process: slower, and simple to debug. The output is the same.",
        ),
    ):
        function = option(function)
    return function
