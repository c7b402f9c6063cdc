"""A run's progress as Prometheus metrics, through Ray's own exporter; infra/grafana has a dashboard of them.

    tokenmill_tasks              tasks of a step, by state: total, done, running, failed
    tokenmill_task_seconds       how long the tasks of a step took, a histogram
    tokenmill_documents          documents (raw records, with ingest) that a step's tasks of this process' life took in,
    tokenmill_bytes              let out, dropped or failed, by source; with their bytes and tokens
    tokenmill_tokens

Every one has the run's name as a tag. They come from the process that drives the run, whose node's exporter Ray starts;
`ray[default]` must be installed (the `cluster` extra), or Ray exports nothing.
"""

from typing import Any

from tokenmill.manifests.balance import Tally, sum_tallies
from tokenmill.manifests.receipts import Receipt
from tokenmill.pipeline.progress import NOTHING_MORE, Now, Reporter

_TASK_SECONDS = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000]


class Metered:
    """A Reporter that hands on what it is told, and sets Ray's metrics by it.

    Args:
        reporter: shows it to people.
        run: the run's name.
    """

    def __init__(self, reporter: Reporter, run: str) -> None:
        from ray.util import metrics

        self._reporter = reporter
        self._run = {"run": run}
        self._tasks = metrics.Gauge("tokenmill_tasks", "Tasks of a step.", ("run", "step", "state"))
        self._seconds = metrics.Histogram(
            "tokenmill_task_seconds", "Seconds a task took.", _TASK_SECONDS, ("run", "step")
        )
        tags = ("run", "source", "step", "fate")
        self._counters: dict[str, Any] = {
            measure: metrics.Counter(f"tokenmill_{measure}", f"Of documents, what became of {measure}.", tags)
            for measure in ("documents", "bytes", "tokens")
        }

    def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
        """See Reporter."""
        self._reporter.step(name, done, total, now)
        for state, count in (("done", done), ("total", total), ("running", now.running), ("failed", now.failed)):
            self._tasks.set(count, {**self._run, "step": name, "state": state})

    def book(self, receipt: Receipt, seconds: float) -> None:
        """See Reporter."""
        self._reporter.book(receipt, seconds)
        self._seconds.observe(seconds, {**self._run, "step": receipt.step})
        balance = receipt.balance
        fates = {
            "in": balance.taken,
            "out": balance.out,
            "dropped": sum_tallies(balance.dropped.values()),
            "failed": sum_tallies(balance.failed.values()),
        }
        for fate, tally in fates.items():
            self._count(tally, {**self._run, "source": receipt.source, "step": receipt.step, "fate": fate})

    def say(self, line: str) -> None:
        """See Reporter."""
        self._reporter.say(line)

    def _count(self, tally: Tally, tags: dict[str, str]) -> None:
        for measure, counter in self._counters.items():
            if value := getattr(tally, measure):  # Ray refuses to add nothing
                counter.inc(value, tags)
