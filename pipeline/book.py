"""The run's book of receipts, and the one way in which a task is run: not again, if its receipt is there.

While a step runs, each receipt is a small file, written last; when the step is finished they are compacted into one
table. A receipt counts only while every output it names is there with the size it names.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tokenmill.manifests.balance import Balance
from tokenmill.manifests.receipts import Output, Receipt, Task, canonical_json, receipt_table, receipts_of
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table, write_table

#: receipts by their path under the run, which holds step, task and key
Known = Mapping[str, Receipt]


class PendingError(Exception):
    """Raised by a dry run at the first task that has no receipt."""


@dataclass(frozen=True)
class Work:
    """What a task's function hands back."""

    outputs: tuple[Output, ...]
    balance: Balance = field(default_factory=Balance)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class TaskRun:
    """Runs tasks one after another in this process, each only when no receipt is known for its key.

    Attributes:
        storage: the run's folder.
        known: receipts that hold.
        dry: raise PendingError instead of working.
        receipts: of every task asked for, in order.
        seconds: time taken by step, for tasks that were run.
    """

    storage: Storage
    known: Known
    dry: bool = False
    receipts: list[Receipt] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def find(self, task: Task) -> Receipt | None:
        """The receipt of a task that is done."""
        return self.known.get(f"receipts/{task.step}/{task.name}.{task.key}.json")

    def once(self, task: Task, work: Callable[[str], Work]) -> Receipt:
        """Return the task's receipt; run `work(key)` and write the receipt, last, if there is none."""
        receipt = self.find(task)
        if receipt is None:
            if self.dry:
                raise PendingError(task.name)
            started = time.monotonic()
            receipt = self.commit(task, work(task.key))
            self.seconds[task.step] += time.monotonic() - started
        else:
            self.receipts.append(receipt)
        return receipt

    def commit(self, task: Task, done: Work) -> Receipt:
        """Check the books, then write the receipt."""
        done.balance.check(f"{task.step} of {task.source or 'all'} {task.name}")
        receipt = Receipt(
            task.step, task.source, task.name, task.key, dict(task.inputs), done.outputs, done.balance, dict(done.notes)
        )
        self.storage.write(receipt.path, canonical_json(receipt.to_row()).encode())
        self.receipts.append(receipt)
        return receipt


def receipts_by_step(storage: Storage) -> Counter[str]:
    """How many tasks of each step have a receipt, by names alone: whether their outputs are there, a run finds out."""
    found: set[str] = set()
    counts: Counter[str] = Counter()
    listing = storage.sizes("receipts")
    loose = {path for path in listing if path.endswith(".json")}
    steps = {path.split("/")[1] for path in loose}
    for path in (path for path in listing if path.endswith(".parquet")):
        table = read_table(storage, path, ["step", "task", "key"])
        counts.update({row["values"]: row["counts"] for row in table.column("step").value_counts().to_pylist()})
        if path.split("/")[1].split("@")[0] in steps:  # compaction was killed before it deleted the small files
            found |= {f"receipts/{row['step']}/{row['task']}.{row['key']}.json" for row in table.to_pylist()}
    counts.update(path.split("/")[1] for path in loose - found)
    return counts


class Book:
    """All receipts of a run's folder."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.known: dict[str, Receipt] = {}
        self._by_task: dict[str, dict[str, Receipt]] = defaultdict(dict)

    def load(self) -> None:
        """Read every receipt, and drop those whose outputs are not all there with the right size."""
        listing = self.storage.sizes("receipts")
        tables = [path for path in listing if path.endswith(".parquet")]
        loose = [path for path in listing if path.endswith(".json")]
        with ThreadPoolExecutor(16) as pool:
            compacted = pool.map(lambda path: receipts_of(read_table(self.storage, path)), tables)
            single = pool.map(self._read_receipt, loose)
            receipts = [receipt for group in compacted for receipt in group] + list(single)
        for receipt in self._with_outputs(receipts):
            self.add(receipt)

    def _read_receipt(self, path: str) -> Receipt:
        try:
            return Receipt.from_row(json.loads(self.storage.read(path)))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"receipt {self.storage.url(path)} is damaged ({error!r}): delete it, and its task is done again"
            ) from error

    def _with_outputs(self, receipts: Iterable[Receipt]) -> list[Receipt]:
        """The receipts whose outputs are all there; one folder is listed at a time, to hold little."""
        wanted: dict[str, list[tuple[Receipt, Output]]] = defaultdict(list)
        receipts = list(receipts)
        for receipt in receipts:
            for output in receipt.outputs:
                wanted[output.path.split("/", 1)[0]].append((receipt, output))
        missing: set[str] = set()
        for folder, pairs in wanted.items():
            sizes = self.storage.sizes(folder)
            missing |= {receipt.path for receipt, output in pairs if sizes.get(output.path) != output.bytes}
        return [receipt for receipt in receipts if receipt.path not in missing]

    def add(self, receipt: Receipt) -> None:
        """Take note of a receipt."""
        self.known[receipt.path] = receipt
        self._by_task[receipt.task.split(".", 1)[0]][receipt.path] = receipt

    def of_task(self, name: str) -> Known:
        """Receipts of one part, unit or global task, whatever the step."""
        return self._by_task.get(name, {})

    def compact(self, steps: Iterable[str]) -> None:
        """Put the receipts of finished steps into one table each; the small files go when the table is there."""
        listing = self.storage.sizes("receipts")
        for step in sorted(set(steps)):
            old = [path for path in listing if path.startswith((f"receipts/{step}/", f"receipts/{step}@"))]
            if not any(path.endswith(".json") for path in old):
                continue
            receipts = [receipt for receipt in self.known.values() if receipt.step == step]
            new = write_table(self.storage, step, f"receipts/{step}@{{hash}}.parquet", receipt_table(receipts))
            for path in old:
                if path != new.path:
                    self.storage.delete(path)
