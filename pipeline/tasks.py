"""The tasks of a run as an executor sees them: a function a kind, what it is given, and the receipts it hands back."""

import resource
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenmill.filters.bounds import Cut
from tokenmill.filters.percentiles import Counts
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.pipeline.book import Known, TaskRun
from tokenmill.pipeline.cycles import seldom_collected
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.steps.annotate import run_annotate
from tokenmill.pipeline.steps.ingest import Skips, run_ingest
from tokenmill.pipeline.steps.repeated_lines import InScope, run_count, run_gather
from tokenmill.pipeline.steps.select import run_select
from tokenmill.pipeline.steps.thresholds import PartCount, count_part
from tokenmill.pipeline.storage import Storage


@dataclass(frozen=True)
class Shared:
    """What every task of a run gets."""

    recipe: Recipe
    storage: Storage


@dataclass(frozen=True)
class PartItem:
    """A part to take through *ingest*, *annotate* and, once all percentiles are cuts, *select*."""

    part: Part
    known: Known
    skips: Skips
    thresholds: Mapping[str, Cut | None] | None
    scope: InScope | None = None  # where its source has a filter `repeated_lines`

    @property
    def bytes(self) -> int:
        """Raw bytes of its part."""
        return self.part.bytes


def peak_rss_bytes() -> int:
    """Most memory that this process held at once, and with it the largest of its children (the extraction host)."""
    return sum(resource.getrusage(who).ru_maxrss << 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


@dataclass(frozen=True)
class Report:
    """What a task hands back: receipts, never documents."""

    receipts: tuple[Receipt, ...]
    seconds: Mapping[str, float]
    host: str = field(default_factory=socket.gethostname)
    max_rss_bytes: int = field(default_factory=peak_rss_bytes)


@seldom_collected()
def part_task(shared: Shared, item: PartItem, dry: bool = False) -> Report:
    """Take one part through its steps, or to where its lines are counted."""
    run = TaskRun(shared.storage, item.known, dry)
    source = shared.recipe.source(item.part.source)
    ingested = run_ingest(run, source, item.part, item.skips)
    if item.scope is not None and item.scope.sums is None:
        run_annotate(run, shared.recipe, source, item.part, ingested)
        run_count(run, source, item.part, item.scope, outputs_of(run.receipts))
        return Report(tuple(run.receipts), run.seconds)
    gathered = run_gather(run, source, item.part, item.scope) if item.scope is not None else None
    run_annotate(run, shared.recipe, source, item.part, ingested, gathered)
    if item.thresholds is not None:
        run_select(run, shared.recipe, source, item.part, outputs_of(run.receipts), item.thresholds)
    return Report(tuple(run.receipts), run.seconds)


def count_task(shared: Shared, item: PartCount) -> dict[str, Counts]:
    """Count the values of one part for the *thresholds* step; leaves no receipt."""
    return count_part(shared.storage, item)


@dataclass(frozen=True)
class GlobalItem:
    """A global step's arguments, and the bytes that it is about to read where they are known."""

    function: Callable[..., Any]
    known: Known
    arguments: tuple[Any, ...]
    bytes: int = 0


@seldom_collected()
def global_task(shared: Shared, item: GlobalItem, dry: bool = False) -> Report:
    """Run one global step, or pack one unit."""
    run = TaskRun(shared.storage, item.known, dry)
    item.function(run, shared.recipe, *item.arguments)
    return Report(tuple(run.receipts), run.seconds)


def outputs_of(receipts: Iterable[Receipt]) -> dict[str, Output]:
    """Outputs of several receipts by name."""
    return {output.name: output for receipt in receipts for output in receipt.outputs}
