"""What `tokenmill status` prints, once or again and again, from the receipts that a run has by then."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from tokenmill.pipeline.progress import Pace, pace_told
from tokenmill.pipeline.sheet import status_of
from tokenmill.pipeline.storage import Storage


def print_status(value: Mapping[str, Any], pace: Pace | None = None) -> None:
    """Print what `status_of` found; with a pace also how fast each step goes."""
    for step, count in value["steps"].items():
        planned = value["planned"].get(step)
        told = ""
        if pace is not None and not (planned and count >= planned):
            told = pace_told(pace.tasks_per_second(step, count), planned - count if planned else None)
        click.echo(f"{step:<12} {count:>8,} done" + (f" of {planned:,}" if planned else "") + (told and f"; {told}"))
    if value["round"]:
        told = "{of:<12} {tasks_before:>8,} done in {rounds_before} rounds, then {round}: {done:,} of {tasks:,}"
        click.echo(told.format(**value["round"]))
    for stone in value["erased"]:
        click.echo(f"erased       {stone['version']}, {stone['erased']}: {stone['because']}")
    for version in value["versions"]:
        click.echo(f"published    {version}")
    if not value["versions"]:
        click.echo("nothing is published yet: the run is still going, or was stopped; `tokenmill run` goes on with it")


def watch_status(storage: Storage, every: float, as_json: bool) -> None:
    """Print the status every so many seconds, in place on a terminal, until one more version is published.

    A look that finds what the last one found prints nothing.
    """
    pace = Pace()
    before = last = None
    while True:
        value = status_of(storage)
        before = value["versions"] if before is None else before
        if value != last:
            if as_json:
                click.echo(json.dumps(value))
            else:
                if sys.stdout.isatty():
                    click.clear()
                print_status(value, pace)
            sys.stdout.flush()
        if value["versions"] != before:
            return
        last = value
        time.sleep(every)
