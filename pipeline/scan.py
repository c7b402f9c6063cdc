"""Look into many parts or units at once: by the executor that runs the steps, without receipts, told as it goes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tokenmill.pipeline.executors import Executor, Failed, open_executor
from tokenmill.pipeline.progress import Reporter, reporter

#: So long a look goes on in this process, before there is something to start and to show.
PATIENCE_S = 2.0

#: Opens what the rest of a look is done by.
Opening = Callable[[], AbstractContextManager[tuple[Executor, Reporter]]]


def opening(kind: str, address: str | None, num_cpus: int | None, quiet: bool) -> Opening:
    """Opens an executor, as `open_executor`, and a reporter."""

    @contextmanager
    def opened() -> Iterator[tuple[Executor, Reporter]]:
        with reporter(quiet) as show, open_executor(kind, address, num_cpus) as execute:
            yield execute, show

    return opened


def scan(
    executor: Executor,
    show: Reporter,
    name: str,
    function: Callable[[Any, Any], Any],
    shared: Any,
    items: Sequence[Any],
    before: int = 0,
) -> list[Any]:
    """What `function(shared, item)` finds in each item, in their order.

    Args:
        executor: runs it.
        show: shows it.
        name: of the look, for people.
        function: importable by name, since workers unpickle it; what it returns must be small.
        shared: its first argument.
        items: its second, one after another.
        before: items done elsewhere, for the count.

    Raises:
        ValueError: one of them failed; the rest was not waited for.
    """
    found: list[Any] = [None] * len(items)
    for index, result in _each(executor, show, name, function, shared, items, before):
        found[index] = result
    return found


def scan_soon(
    opening: Opening, name: str, function: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any]
) -> list[Any]:
    """As `scan`, the first PATIENCE_S of it in this process: a small run needs no workers and no progress."""
    found: list[Any] = [None] * len(items)
    for index, result in scan_each(opening, name, function, shared, items):
        found[index] = result
    return found


def scan_each(
    opening: Opening, name: str, function: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any]
) -> Iterator[tuple[int, Any]]:
    """As `scan_soon`, one after another: an item's number and what was found in it, in no order once workers do it."""
    started = time.monotonic()
    done = 0
    while done < len(items) and time.monotonic() - started < PATIENCE_S:
        yield done, function(shared, items[done])
        done += 1
    if rest := items[done:]:
        with opening() as (executor, show):
            for index, result in _each(executor, show, name, function, shared, rest, done):
                yield done + index, result


def _each(
    executor: Executor,
    show: Reporter,
    name: str,
    function: Callable[[Any, Any], Any],
    shared: Any,
    items: Sequence[Any],
    before: int,
) -> Iterator[tuple[int, Any]]:
    total = before + len(items)
    for done, (index, result) in enumerate(executor.map(function, shared, items), before):
        if isinstance(result, Failed):
            raise ValueError(f"cannot {name}: {result.error}")
        show.step(name, done + 1, total)
        yield index, result
