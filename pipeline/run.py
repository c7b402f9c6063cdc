"""The run: plan, then the steps in order, each on an executor, each task only when its receipt is not there."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tokenmill.filters.bounds import Cut
from tokenmill.filters.percentiles import Counts
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.pipeline.book import Book, PendingError, TaskRun
from tokenmill.pipeline.dedup_rounds.driver import find_edges, groups_of_run
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask
from tokenmill.pipeline.dedup_rounds.finish import finish
from tokenmill.pipeline.dedup_rounds.summary import standing
from tokenmill.pipeline.earlier_runs import earlier_parts
from tokenmill.pipeline.executors import Executor, Failed, RunFailedError
from tokenmill.pipeline.line_scopes import count_run
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.progress import Now, Reporter
from tokenmill.pipeline.recipe.file import RecipeFile
from tokenmill.pipeline.removals import request_paths
from tokenmill.pipeline.round_progress import PLANNED, RoundProgress
from tokenmill.pipeline.steps.ingest import Skips, read_skips
from tokenmill.pipeline.steps.pack import run_pack
from tokenmill.pipeline.steps.publish import Published, publish
from tokenmill.pipeline.steps.repeated_lines import InScope
from tokenmill.pipeline.steps.template import run_template
from tokenmill.pipeline.steps.thresholds import PartCount, percentile_bounds, run_thresholds
from tokenmill.pipeline.steps.tokenizer import run_tokenizer
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tasks import (
    GlobalItem,
    PartItem,
    Report,
    Shared,
    count_task,
    global_task,
    outputs_of,
    part_task,
)
from tokenmill.pipeline.units import Unit, assign_units

PART_STEPS = ("ingest", "annotate", "select")


@dataclass
class Run:
    """One run of a recipe into a folder."""

    recipe_file: RecipeFile
    storage: Storage
    executor: Executor
    reporter: Reporter

    def __post_init__(self) -> None:
        self.shared = Shared(self.recipe_file.recipe, self.storage)
        self.book = Book(self.storage)
        self.log: list[dict[str, Any]] = []
        self.planned: dict[str, int] = {}

    def go(self, parts: Sequence[Part]) -> Published:
        """All steps, then publish. Raises RunFailedError naming every task that failed."""
        started = time.time()
        try:
            return self._go(parts)
        finally:
            log = "".join(json.dumps(entry) + "\n" for entry in self.log)
            self.storage.write(f"logs/tasks-{started:.3f}.jsonl", log.encode())

    def _go(self, parts: Sequence[Part]) -> Published:
        recipe = self.shared.recipe
        self.book.load()
        self.planned = dict.fromkeys(PART_STEPS[::2], len(parts))
        self.storage.write(PLANNED, json.dumps(self.planned).encode())
        skips = read_skips(self.storage)
        lines, counted = self._lines(parts, skips)
        if any(percentile_bounds(source) for source in recipe.sources):
            measured = self._parts(parts, skips, None, ("ingest", "annotate"), lines)
            thresholds, receipts = self._thresholds(parts, measured)
            by_part = self._parts(parts, skips, thresholds, PART_STEPS, lines)
        else:
            receipts = []
            by_part = self._parts(parts, skips, {}, PART_STEPS, lines)
        tables = {key: outputs_of(found) for key, found in by_part.items()}
        kept = {key: found[-1].balance.out.bytes for key, found in by_part.items()}
        units = assign_units(parts, kept, int(recipe.sequences.unit_bytes))
        receipts += [*counted, *(receipt for found in by_part.values() for receipt in found)]

        deduplicated, rounds = self._deduplicate(parts, by_part, tables, units)
        ledgers = outputs_of(deduplicated)
        by_unit = {unit: ledgers[f"ledger/{unit}"] for unit in units.values()}
        ledger_of = {part.key: by_unit[units[part.key]] for part in parts}
        tokenizer = self._one("tokenizer", run_tokenizer, (parts, tables, ledger_of, kept))
        template = self._one("template", run_template, ()) if recipe.sequences.of_conversations else ()
        put = [each[-1].outputs[0] for each in (tokenizer, template) if each]
        packed = self._pack(parts, tables, units, ledgers, *put)

        receipts += [*deduplicated, *tokenizer, *template, *packed]
        self.book.compact({receipt.step for receipt in (*receipts, *rounds)})
        published = publish(self.storage, recipe, self.recipe_file.text, parts, receipts)
        self.reporter.step("publish", 1, 1)
        return published

    def _parts(
        self,
        parts: Sequence[Part],
        skips: Mapping[str, Skips],
        thresholds: Mapping[str, Cut | None] | None,
        steps: Sequence[str],
        lines: Mapping[str, InScope],
    ) -> dict[str, list[Receipt]]:
        """Receipts of each part after the given steps, in order."""
        items = [
            PartItem(part, self.book.of_task(part.key), skips.get(part.key, {}), thresholds, lines.get(part.key))
            for part in parts
        ]
        reports = self._all(part_task, items, [f"part {part.key} of {part.source}" for part in parts], steps)
        return {part.key: list(report.receipts) for part, report in zip(parts, reports, strict=True)}

    def _lines(self, parts: Sequence[Part], skips: Mapping[str, Skips]) -> tuple[dict[str, InScope], list[Receipt]]:
        """What each part is told of the lines that its scope repeats, and the receipts of their counts."""

        def count(inside: Sequence[Part], told: Mapping[str, InScope]) -> dict[str, Receipt]:
            found = self._parts(inside, skips, None, ("count_lines",), told)
            return {key: receipts[-1] for key, receipts in found.items()}

        progress = RoundProgress(self.storage, self.reporter, "lines", self.planned)
        counted = count_run(self.shared.recipe, parts, count, partial(self._round, progress))
        progress.end()
        return counted

    def _thresholds(
        self, parts: Sequence[Part], measured: Mapping[str, list[Receipt]]
    ) -> tuple[dict[str, Cut | None], list[Receipt]]:
        tables: dict[str, list[dict[str, Output]]] = {source.name: [] for source in self.shared.recipe.sources}
        for part in parts:
            tables[part.source].append(outputs_of(measured[part.key]))
        run = TaskRun(self.storage, self.book.known)
        values = run_thresholds(run, self.shared.recipe, tables, self._counted)
        for receipt in run.receipts:
            self.book.add(receipt)
        self.reporter.step("thresholds", len(values), len(values))
        return values, run.receipts

    def _counted(self, items: Sequence[PartCount]) -> Iterator[dict[str, Counts]]:
        """Counts of parts as they come; raises when any failed, after the others."""
        failed: list[str] = []
        for index, result in self.executor.map(count_task, self.shared, items):
            if isinstance(result, Failed):
                name = f"counts of {items[index].tables['documents']}"
                failed.append(f"{name}: {result.error}")
                self.log.append({"task": name, "error": result.error, "trace": result.trace})
            else:
                yield result
        self._raise_if(failed, len(items), ["thresholds"])

    def _deduplicate(
        self,
        parts: Sequence[Part],
        by_part: Mapping[str, Sequence[Receipt]],
        tables: Mapping[str, Mapping[str, Output]],
        units: Mapping[str, str],
    ) -> tuple[list[Receipt], list[Receipt]]:
        """Receipts to publish, and those of the rounds that led to them."""
        earlier = earlier_parts(self.shared.recipe, self.storage)
        groups = groups_of_run(self.shared.recipe, parts, by_part, tables, earlier)
        progress = RoundProgress(self.storage, self.reporter, "deduplicate", self.planned)
        context = Context(self.shared.recipe, groups, partial(self._round, progress), dict(units))
        done = standing(context, self.book.known)
        if done is not None:
            self.reporter.step("deduplicate", len(done) - 1, len(done) - 1)
            return done, [receipt for receipt in self.book.known.values() if receipt.step.startswith("dedup_")]
        deduplicated = finish(context, find_edges(context))
        progress.end()
        return deduplicated, context.receipts

    def _round(self, progress: RoundProgress, step: str, tasks: Sequence[RoundTask]) -> list[Receipt]:
        """Submit a round of *deduplicate* or of counted lines; see `dedup_rounds.edges.Submit`."""
        items = [GlobalItem(task.function, self.book.of_task(task.name), task.arguments) for task in tasks]
        show = progress.begin(len(tasks), sum(receipt.step == step for receipt in self.book.known.values()))
        reports = self._all(global_task, items, [f"{step} of {task.name}" for task in tasks], [step], show)
        return [report.receipts[0] for report in reports]

    def _one(self, step: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Receipt, ...]:
        item = GlobalItem(function, self.book.of_task("all"), arguments)
        return self._all(global_task, [item], [step], [step])[0].receipts

    def _pack(
        self,
        parts: Sequence[Part],
        tables: Mapping[str, Mapping[str, Output]],
        units: Mapping[str, str],
        ledgers: Mapping[str, Output],
        tokenizer: Output,
        template: Output | None = None,
    ) -> list[Receipt]:
        members: dict[str, list[Part]] = defaultdict(list)
        for part in parts:
            members[units[part.key]].append(part)
        removals = tuple(request_paths(self.storage))
        found = []
        for name, group in sorted(members.items()):
            ordered = tuple(sorted(group, key=lambda part: part.key))
            unit = Unit(
                name,
                ordered[0].source,
                ordered,
                {part.key: tables[part.key] for part in ordered},
                ledgers[f"ledger/{name}"],
                tokenizer,
                removals,
                ledgers[f"clusters/{name}"],
                template,
            )
            found.append(unit)
        return self.of_units("pack", run_pack, found)

    def of_units(self, step: str, function: Callable[..., Any], units: Sequence[Unit]) -> list[Receipt]:
        """Run a step of units, such as `run_pack`; their receipts."""
        items = [GlobalItem(function, self.book.of_task(unit.name), (unit,), unit.bytes) for unit in units]
        reports = self._all(global_task, items, [f"unit {unit.name}" for unit in units], [step])
        return [receipt for report in reports for receipt in report.receipts]

    def _all(
        self,
        function: Callable[..., Report],
        items: Sequence[Any],
        names: Sequence[str],
        steps: Sequence[str],
        reporter: Reporter | None = None,
    ) -> list[Report]:
        """Run what has no receipts yet, largest first; show progress; raise when any failed, after the others."""
        reports: list[Report | None] = [self._if_done(function, item) for item in items]
        pending = [index for index, report in enumerate(reports) if report is None]
        pending.sort(key=lambda index: -items[index].bytes)  # or the largest begun last keeps all cores but one idle
        failed: list[str] = []
        done, running = len(items) - len(pending), 0

        def show() -> None:
            for step in steps:
                (reporter or self.reporter).step(step, done, len(items), Now(running, len(failed)))

        def handed() -> Iterator[Any]:
            nonlocal running
            for index in pending:
                running += 1
                show()
                yield items[index]

        show()
        for at, result in self.executor.map(function, self.shared, handed()):
            index = pending[at]
            running -= 1
            self._note(names[index], result)
            if isinstance(result, Failed):
                failed.append(f"{names[index]}: {result.error}")
            else:
                reports[index] = result
                done += 1
            show()
        self._raise_if(failed, len(items), steps)
        return [report for report in reports if report is not None]

    def _note(self, name: str, result: Report | Failed) -> None:
        """Put a task that came back into the log, and its receipts into the book."""
        if isinstance(result, Failed):
            self.log.append({"task": name, "error": result.error, "trace": result.trace})
            return
        for receipt in result.receipts:
            self.book.add(receipt)
            if receipt.step in result.seconds:  # others were done before
                self.reporter.book(receipt, result.seconds[receipt.step])
        used = {"seconds": dict(result.seconds), "host": result.host, "max_rss_bytes": result.max_rss_bytes}
        self.log.append({"task": name, **used})

    def _raise_if(self, failed: Sequence[str], total: int, steps: Sequence[str]) -> None:
        if failed:
            shown = "\n  ".join(sorted(failed)[:20])
            raise RunFailedError(
                f"{len(failed)} of {total} tasks failed in {', '.join(steps)}; the others are done and keep their "
                f"receipts, so run the recipe again when this is mended ({self.storage.root}/logs says where each was "
                f"raised):\n  {shown}"
            )

    def _if_done(self, function: Callable[..., Report], item: Any) -> Report | None:
        try:
            return function(self.shared, item, True)
        except PendingError:
            return None
