"""The section of throughput: what the run's logs say of time and memory, beside the bytes its receipts say were read.

Times lie in `logs/`, apart from what the run is made of. A task that was done twice, under an earlier recipe or for
another version, is there twice; only parts and units that this version has are counted.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tokenmill.manifests.receipts import Receipt
from tokenmill.pipeline.opened import OpenedRun
from tokenmill.pipeline.opened_units import OpenedUnits
from tokenmill.pipeline.report.blocks import Chart, Note, Pair, Section, Table, size
from tokenmill.pipeline.report.charts import Bar, bar_chart
from tokenmill.pipeline.storage import Storage

_PART = re.compile(r"part (?P<part>\S+) of ")
_UNIT = re.compile(r"unit (?P<unit>\S+)")


@dataclass
class _Step:
    """Tasks, seconds of one core, bytes that they took, and the most memory a worker held meanwhile."""

    tasks: int = 0
    seconds: float = 0.0
    bytes: int = 0
    memory: int = 0


def throughput(storage: Storage, run: OpenedRun, units: OpenedUnits) -> Section:
    """Core time by step."""
    steps: dict[str, _Step] = defaultdict(_Step)
    read = _bytes_read(run, units.packed)
    for entry in _entries(storage):
        task = _name(entry["task"])
        for step, seconds in entry["seconds"].items():
            if step in ("ingest", "annotate", "select", "pack") and (step, task) not in read:
                continue
            told = steps["deduplicate" if step.startswith("dedup") else step]
            told.tasks += 1
            told.seconds += seconds
            told.bytes += read.get((step, task), 0)
            told.memory = max(told.memory, entry.get("max_rss_bytes", 0))
    lead = "Time of one core, from the run's logs. What was done again, after a crash or a change, is counted again."
    section = Section("throughput", "Throughput", lead)
    if not steps:
        section.blocks.append(Note("The run's folder holds no logs, so nothing is known of its times."))
        return section
    total = sum(step.seconds for step in steps.values())
    rows, bars = [], []
    for name, step in sorted(steps.items(), key=lambda item: (-item[1].seconds, item[0])):
        rate = f"{size(step.bytes / step.seconds)}/s" if step.bytes and step.seconds else "–"
        bars.append(Bar(name, step.seconds, f"{_time(step.seconds)}" + (f", {rate}" if rate != "–" else "")))
        share = f"{100 * step.seconds / total:.1f} %" if total else "–"
        taken = size(step.bytes) if step.bytes else "–"
        rows.append((name, f"{step.tasks:,}", _time(step.seconds), share, taken, rate, size(step.memory)))
    columns = ("step", "tasks", "core time", "of all", "taken in", "a core", "peak memory of a worker")
    table = Table("Core time by step", columns, rows)
    label = "Core time by step: " + ", ".join(f"{bar.label} {bar.shown}" for bar in bars)
    section.blocks.append(Pair(Chart("Core time by step", bar_chart(bars, label), table), table))
    section.blocks.append(
        Note("Taken in: ingest raw bytes, annotate and select text as it was read, pack text after every edit.")
    )
    return section


def _entries(storage: Storage) -> Iterator[Mapping[str, Any]]:
    for path in storage.sizes("logs"):
        if path.startswith("logs/tasks-") and path.endswith(".jsonl"):
            for number, line in enumerate(storage.read(path).splitlines(), 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ValueError(
                        f"line {number} of {storage.url(path)} is damaged ({error}): take the line out; only the times "
                        "on the page depend on it"
                    ) from error


def _name(task: str) -> str:
    match = _PART.match(task) or _UNIT.match(task)
    return match[1] if match else ""


def _bytes_read(run: OpenedRun, packed: Mapping[str, Receipt]) -> dict[tuple[str, str], int]:
    """Bytes that a task takes, by step and part or unit."""
    read = {("pack", unit): receipt.notes.get("text_bytes", 0) for unit, receipt in packed.items()}
    for parts in run.parts.values():
        for key, part in parts.items():
            read["ingest", key] = part.balances["ingest"].taken.bytes
            read["annotate", key] = read["select", key] = part.balances["select"].taken.bytes
    return read


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:,.3g} h"
