"""How benchmarks time what they compare: in turns, since machines are shared."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def in_turns(runs: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median CPU seconds of each run; one after another in each round, after a round that is not timed."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds + 1):
        for run, found in zip(runs, seconds, strict=True):
            started = time.process_time()
            run()
            found += [time.process_time() - started] if turn else []
    return [statistics.median(found) for found in seconds]


def in_turns_prepared(runs: Sequence[tuple[Callable[[], Any], Callable[[Any], object]]], rounds: int) -> list[float]:
    """As `in_turns`, of pairs: what the first makes anew each time, untimed, the second gets; no round more."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for (prepare, run), found in zip(runs, seconds, strict=True):
            made = prepare()
            started = time.process_time()
            run(made)
            found.append(time.process_time() - started)
    return [statistics.median(found) for found in seconds]
