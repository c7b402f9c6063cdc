"""Time and memory of *deduplicate* as documents multiply: `python -m tests.bench.dedup_scale [--quick]`.

1M, 4M and 16M synthetic documents (100,000 and 400,000 with --quick), given as the tables of a run: decisions, hashes
and signatures of 112 minima. One in five is a near duplicate of a document anywhere in the run (8 % of its minima
changed), one in twenty an exact copy, one in twenty was not kept. All rounds run, to the ledgers, on two worker
processes; each size has a process of its own as driver. Of 16M documents signatures take 7 GB of disk and the rounds'
files about as much again; both are deleted when a size is done.
"""

import argparse
import json
import math
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tests.pipeline.dedup_tables import Documents, recipe_of, write_part
from tokenmill.manifests.keyed import key64, mix64
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.pipeline.book import TaskRun
from tokenmill.pipeline.dedup_rounds import groups
from tokenmill.pipeline.dedup_rounds.driver import find_edges, tables_read
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask
from tokenmill.pipeline.dedup_rounds.finish import finish
from tokenmill.pipeline.dedup_rounds.groups import make_groups
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.recipe import Dedup
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tasks import peak_rss_bytes

SIZES = (1_000_000, 4_000_000, 16_000_000)
QUICK_SIZES = (100_000, 400_000)
QUICK_GROUP = 1 << 16
ROWS_PER_PART = 50_000
WORKERS = 2
LIMIT_EXPONENT = 1.1
LIMIT_BYTES = 2 << 30
LIMIT_GROWTH_BYTES = 64 << 20
_WIDTH = 112
_RECIPE = recipe_of(Dedup())


def main() -> None:
    """Run each size in a process of its own; print what it took."""
    parser = arguments(__doc__, "100,000 and 400,000 documents, smaller groups")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only is not None:
        print(json.dumps(measured(asked.only, asked.quick)))
        return
    found = []
    for documents in QUICK_SIZES if asked.quick else SIZES:
        command = [sys.executable, "-m", "tests.bench.dedup_scale", "--only", str(documents)]
        done = subprocess.run([*command, *(["--quick"] if asked.quick else [])], stdout=subprocess.PIPE, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        show(found[-1])
    exponents = [
        math.log(more["seconds"] / less["seconds"]) / math.log(more["documents"] / less["documents"])
        for less, more in pairwise(found)
    ]
    growth = max(one["driver_bytes"] for one in found[1:]) - found[0]["driver_bytes"]
    peak, most = max(one["peak_bytes"] for one in found), found[-1]
    rate = round(most["documents"] / most["seconds"])
    figures = [
        Figure(
            "exponent of time between sizes, the largest", round(max(exponents), 3), "power", LIMIT_EXPONENT, AT_MOST
        ),
        Figure("peak resident set of any process", peak, "bytes", LIMIT_BYTES, AT_MOST),
        Figure("growth of the driver's resident set", growth, "bytes", LIMIT_GROWTH_BYTES, AT_MOST),
        Figure(f"documents a second, {most['documents']:,} on {WORKERS} workers", rate, "documents/s"),
    ]
    print(figures_line("dedup_scale", figures))


def show(one: dict[str, Any]) -> None:
    """A size's table."""
    print(
        f"{one['documents']:,} documents in {one['groups']} groups: {one['seconds']:,.1f} s, "
        f"{one['removed']:,} removed, {one['pairs']:,} verified pairs, {one['tasks']} tasks, "
        f"rounds' files {one['round_bytes'] / 1e6:,.0f} MB of signatures' {one['signature_bytes'] / 1e6:,.0f} MB; "
        f"peak {one['peak_bytes'] >> 20} MiB, driver {one['driver_bytes'] >> 20} MiB"
    )
    for step, (seconds, peak) in one["steps"].items():
        print(f"  {step:<18} {seconds:8.1f} worker s   peak so far {peak >> 20:5d} MiB")
    sys.stdout.flush()


def measured(documents: int, quick: bool) -> dict[str, Any]:
    """Make the tables of so many documents, run all rounds, count."""
    if quick:
        groups.GROUP_DOCUMENTS = QUICK_GROUP  # the driver alone makes groups
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool,
    ):
        deduplicated(Storage(f"{folder}/warm"), pool, 2000)
        return deduplicated(Storage(f"{folder}/run"), pool, documents)


def deduplicated(storage: Storage, pool: ProcessPoolExecutor, documents: int) -> dict[str, Any]:
    """The rounds on tables made for them; the time is that of the rounds."""
    ranges = [range(at, min(at + ROWS_PER_PART, documents)) for at in range(0, documents, ROWS_PER_PART)]
    keys = [f"{key64('part', rows.start):016x}" for rows in ranges]
    written = list(pool.map(make_part, [storage] * len(ranges), keys, ranges, [documents] * len(ranges)))
    tables = {key: outputs for key, (outputs, _) in zip(keys, written, strict=True)}
    kept = {key: count for key, (_, count) in zip(keys, written, strict=True)}
    parts = [Part("s0", key, 0, ()) for key in keys]
    rows = {key: len(one) for key, one in zip(keys, ranges, strict=True)}
    steps: dict[str, tuple[float, int]] = {}
    tasks = 0

    def submit(step: str, todo: Sequence[RoundTask]) -> list[Receipt]:
        nonlocal tasks
        done = list(pool.map(run_task, [storage] * len(todo), todo))
        seconds, peak = steps.get(step, (0.0, 0))
        steps[step] = (seconds + sum(one[1] for one in done), max(peak, *(one[2] for one in done)))
        tasks += len(done)
        return [one[0] for one in done]

    units = {key: f"unit-{key[0]}" for key in keys}
    started = time.perf_counter()
    context = Context(_RECIPE, make_groups(parts, tables, rows, kept, tables_read(_RECIPE)), submit, units)
    receipts = finish(context, find_edges(context))
    seconds = time.perf_counter() - started
    dropped = [tally.documents for receipt in receipts for tally in receipt.balance.dropped.values()]
    assert 0.15 * documents < sum(dropped) < 0.3 * documents, f"{sum(dropped)} of {documents} removed"
    return {
        "documents": documents,
        "groups": len(context.groups),
        "seconds": seconds,
        "removed": sum(dropped),
        "pairs": receipts[-1].notes["verified_pairs"],
        "tasks": tasks,
        "steps": steps,
        "peak_bytes": max(peak for _, peak in steps.values()),
        "driver_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "round_bytes": sum(storage.sizes("dedup").values()),
        "signature_bytes": sum(storage.sizes("signals/minhash").values()),
    }


def run_task(storage: Storage, task: RoundTask) -> tuple[Receipt, float, int]:
    """One task in a worker: receipt, seconds, the worker's peak so far."""
    started = time.perf_counter()
    receipt = task.function(TaskRun(storage, {}), _RECIPE, *task.arguments)
    return receipt, time.perf_counter() - started, peak_rss_bytes()


def make_part(storage: Storage, key: str, rows: range, documents: int) -> tuple[dict[str, Output], int]:
    """Write a part's tables; its outputs and how many documents are kept."""
    rng = np.random.default_rng(rows.start)
    own = np.arange(rows.start, rows.stop, dtype=np.int64)
    drawn = rng.random(len(own))
    other = rng.integers(0, documents, len(own))
    content = np.where(drawn < 0.05, other, own)
    like = np.where(drawn < 0.25, other, own)  # the exact copies and the near ones
    places = like.astype(np.uint64)[:, None] * np.uint64(_WIDTH) + np.arange(_WIDTH, dtype=np.uint64)
    signature = (mix64(places.reshape(-1), key64("minima")) >> np.uint64(32)).astype(np.uint32).reshape(-1, _WIDTH)
    near = (drawn >= 0.05) & (drawn < 0.25)
    changed = near[:, None] & (rng.random(signature.shape, np.float32) < 0.08)
    signature[changed] += np.uint32(1)
    found = Documents(content, rng.integers(100, 100_000, len(own)), signature, rng.random(len(own)) < 0.95)
    return write_part(storage, key, found), int(found.kept.sum())


if __name__ == "__main__":
    main()
