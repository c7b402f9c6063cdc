"""What a run shows while it works: a bar a step in a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tokenmill.manifests.receipts import Receipt

_SECONDS_BETWEEN_LINES = 5.0
_BAR_WIDTH = 20


@dataclass(frozen=True)
class Now:
    """What else there is to say of a step.

    Attributes:
        running: tasks that were handed to workers and are not back.
        failed: tasks that failed.
        round: of a step whose rounds become known one after another, the one it is in, in plain words; more may come.
        also: anything else, in plain words.
    """

    running: int = 0
    failed: int = 0
    round: str = ""
    also: str = ""

    def told(self) -> str:
        """It in words; "" where there is nothing to say."""
        running = f"{self.running:,} running" if self.running else ""
        failed = f"{self.failed:,} failed" if self.failed else ""
        return "; ".join(filter(None, (failed, self.round, running, self.also)))


NOTHING_MORE = Now()


class Pace:
    """How fast each step goes, from what was done since it was first asked: done before counts for nothing."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, int]] = {}

    def tasks_per_second(self, name: str, done: int) -> float:
        """Of a step that has `done` tasks now; 0 until one was done under our eyes."""
        clock = time.monotonic()
        since, before = self._first.setdefault(name, (clock, done))
        return (done - before) / (clock - since) if clock > since else 0.0


def pace_told(rate: float, left: int | None) -> str:
    """A rate, tasks a second, and the time that `left` tasks take by it; "" where nothing is known yet."""
    if rate <= 0:
        return ""
    spoken = f"{rate:,.1f} tasks/s" if rate >= 1 else f"{60 * rate:,.1f} tasks/min"
    return f"{spoken}, {duration(left / rate)} left" if left else spoken


def duration(seconds: float) -> str:
    """Such as 8 s, 12 min, 3 h 05 min, 2 d 4 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{hours // 24} d {hours % 24} h"


class Reporter(Protocol):
    """Told how far each step is."""

    def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
        """`done` of `total` tasks of a step are done."""

    def book(self, receipt: Receipt, seconds: float) -> None:
        """A task wrote a receipt, after so many seconds in its step."""

    def say(self, line: str) -> None:
        """One line for people."""


class Quiet:
    """Shows nothing."""

    def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
        """See Reporter."""

    def book(self, receipt: Receipt, seconds: float) -> None:
        """See Reporter."""

    def say(self, line: str) -> None:
        """See Reporter."""


class Bars(Quiet):
    """A bar for each step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._pace = Pace()
        self._bars: dict[str, object] = {}

    def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
        """See Reporter."""
        # while more rounds may come, nobody knows how much is left, and the bar says so
        known = None if now.round else total
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=known, count="", pace="", now="")
        pace = pace_told(self._pace.tasks_per_second(name, done), None)
        told = {"count": f"{done:,}/{total:,}", "pace": pace, "now": now.told()}
        self._progress.update(self._bars[name], completed=done, total=known, **told)  # type: ignore[arg-type]

    def say(self, line: str) -> None:
        """See Reporter."""
        self._progress.console.print(line, highlight=False, markup=False)


class Lines(Quiet):
    """A line now and then, for logs and pipes."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._pace = Pace()

    def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
        """See Reporter."""
        clock = time.monotonic()
        rate = self._pace.tasks_per_second(name, done)
        ends = done == total and not now.round
        if ends or clock - self._said.get(name, -_SECONDS_BETWEEN_LINES) >= _SECONDS_BETWEEN_LINES:
            self._said[name] = clock
            pace = "" if ends else pace_told(rate, None if now.round else total - done)
            self.say("; ".join(filter(None, (f"{name}: {done}/{total}", now.told(), pace))))

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
        TextColumn("{task.fields[pace]}", markup=False),
        TextColumn("{task.fields[now]}", markup=False),
        console=console,
    )
