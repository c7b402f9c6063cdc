"""Steps of many rounds: shown as one line, and noted where `tokenmill status` finds how far a killed run came."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenmill.manifests.receipts import Receipt
from tokenmill.pipeline.progress import NOTHING_MORE, Now, Reporter
from tokenmill.pipeline.storage import Storage

#: Written when a run begins and when a round does: how many tasks its steps have, and which round it is in.
PLANNED = "logs/planned.json"

#: What the rounds do, in plain words, by the step of their tasks.
ROUNDS = {
    "sum_lines": "sum the counts of lines",
    "dedup_merge": "merge what a round wrote",
    "dedup_sample": "sample survivor order",
    "dedup_order": "sort into survivor order",
    "dedup_rank": "number in survivor order",
    "dedup_exact": "hashes of texts",
    "dedup_equal": "find exact copies",
    "dedup_bands": "bands of signatures",
    "dedup_meet": "find candidates",
    "dedup_carry": "gather signatures",
    "dedup_verify": "verify",
    "dedup_ask": "ask for texts",
    "dedup_sets": "gather shingles",
    "dedup_check": "verify on the text",
    "dedup_ends": "ask for surely gone ones",
    "dedup_roots": "find surely kept ones",
    "dedup_gone": "find surely gone ones",
    "dedup_contract": "contract clusters",
    "dedup_small_star": "join clusters",
    "dedup_large_star": "join clusters",
    "dedup_labels": "name clusters",
    "dedup_walk": "choose keepers",
    "dedup_asks": "ask for fates",
    "dedup_fates": "tell fates",
    "dedup_rows": "rows of fates",
    "deduplicate": "write ledgers",
    "dedup_summary": "sum up",
}


@dataclass
class RoundProgress:
    """The rounds of one step; a Reporter of each of them, which counts the tasks of all so far.

    Attributes:
        storage: the run's folder.
        reporter: shows it.
        name: of the step.
        planned: what is in PLANNED otherwise.
    """

    storage: Storage
    reporter: Reporter
    name: str
    planned: Mapping[str, Any]
    _before: int = field(default=0, init=False)
    _rounds: int = field(default=0, init=False)
    _tasks: int = field(default=0, init=False)
    _receipts: int | None = field(default=None, init=False)

    def begin(self, tasks: int, receipts: int) -> Reporter:
        """A round of so many tasks begins, the one before it is done; returns its reporter.

        `receipts` counts those that its step has by now, older ones too: more of them later is done in this round.
        """
        self._before += self._tasks
        self._rounds += 1
        self._tasks, self._receipts = tasks, receipts
        return self

    def end(self) -> None:
        """The last round is done."""
        if self._rounds:
            total = self._before + self._tasks
            self.reporter.step(self.name, total, total)
            self.storage.write(PLANNED, json.dumps(self.planned).encode())

    def step(self, name: str, done: int, total: int, now: Now = NOTHING_MORE) -> None:
        """See Reporter."""
        if self._receipts is not None:
            before = {"tasks_before": self._before, "rounds_before": self._rounds - 1}
            begun = {"step": name, "tasks": total, "done": done, "receipts": self._receipts}
            value = {**self.planned, "round": {"of": self.name, **before, **begun}}
            self.storage.write(PLANNED, json.dumps(value).encode())
            self._receipts = None
        told = Now(now.running, now.failed, f"{ROUNDS.get(name, name)}, {done:,} of {total:,}")
        self.reporter.step(self.name, self._before + done, self._before + total, told)

    def book(self, receipt: Receipt, seconds: float) -> None:
        """See Reporter."""
        self.reporter.book(receipt, seconds)

    def say(self, line: str) -> None:
        """See Reporter."""
        self.reporter.say(line)


def round_told(planned: Mapping[str, Any], receipts: Mapping[str, int]) -> dict[str, Any] | None:
    """The round that a run is in, or was killed in; None outside of any.

    Args:
        planned: what is in PLANNED.
        receipts: how many each step has.

    Returns:
        of: the step whose round it is. tasks_before, rounds_before: what of it is done. round: in plain words.
        tasks, done: of this round.
    """
    if "round" not in planned:
        return None
    found = dict(planned["round"])
    step, known = found.pop("step"), found.pop("receipts")
    done = min(found["tasks"], found["done"] + max(0, receipts.get(step, 0) - known))
    return {**found, "done": done, "round": ROUNDS.get(step, step)}
