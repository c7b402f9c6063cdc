"""What a run shows while it works: a bar a step in a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 5.0
_BAR_WIDTH = 20


@dataclass(frozen=True)
class Now:
    """What else there is to say of a step.

    Attributes:
        running: tasks that were handed to workers and are not back.
        failed: tasks that failed.
        round: of a step whose rounds become known one after another, the one it is in, in plain words; more may come.
    """

    running: int = 0
    failed: int = 0
    round: str = ""

    def told(self) -> str:
        """It in words; "" where there is nothing to say."""
        running = f"{self.running:,} running" if self.running else ""
        failed = f"{self.failed:,} failed" if self.failed else ""
        return "; ".join(filter(None, (failed, self.round, running)))


NOTHING_MORE = Now()


class Reporter(Protocol):
    """Told how far each step is."""

    def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
        """`done` of `total` tasks of a step are done."""

    def say(self, line: str) -> None:
        """One line for people."""


class Quiet:
    """Shows nothing."""

    def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
        """See Reporter."""

    def say(self, line: str) -> None:
        """See Reporter."""


class Bars:
    """A bar for each step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, object] = {}

    def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
        """See Reporter."""
        # while more rounds may come, nobody knows how much is left, and the bar says so
        known = None if now.round else total
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=known, count="", now="")
        told = {"count": f"{done:,}/{total:,}", "now": now.told()}
        self._progress.update(self._bars[name], completed=done, total=known, **told)  # type: ignore[arg-type]

    def say(self, line: str) -> None:
        """See Reporter."""
        self._progress.console.print(line, highlight=False, markup=False)


class Lines:
    """A line now and then, for logs and pipes."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
        """See Reporter."""
        clock = time.monotonic()
        ends = done == total and not now.round
        if ends or clock - self._said.get(name, -_SECONDS_BETWEEN_LINES) >= _SECONDS_BETWEEN_LINES:
            self._said[name] = clock
            told = now.told()
            self.say(f"{name}: {done}/{total}" + (f"; {told}" if told else ""))

    def say(self, line: str) -> None:
        """See Reporter."""
        print(line, file=sys.stderr, flush=True)


@contextmanager
def reporter(quiet: bool = False) -> Iterator[Reporter]:
    """The reporter that fits where standard error goes."""
    if quiet:
        yield Quiet()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    with bars(console) as progress:
        yield Bars(progress)


def bars(console: Console) -> Progress:
    """What `Bars` are shown by."""
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(_BAR_WIDTH),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}", markup=False),
        console=console,
    )
