"""The last receipt of *deduplicate*: what the rounds found, and of what; by it a rerun knows that nothing has changed.

No manifest names the rounds' files, so `tokenmill gc` takes them. The ledgers that they led to stay; while these are of
the same tables, units and parameters, no round is asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenmill.manifests.balance import Balance
from tokenmill.manifests.receipts import Receipt, Task
from tokenmill.pipeline.book import Known, TaskRun, Work
from tokenmill.pipeline.dedup_rounds import (
    asks,
    bands,
    components,
    contract,
    exact,
    fates,
    gone,
    ledger,
    merge,
    order,
    texts,
    verify,
    walk,
)
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask
from tokenmill.pipeline.dedup_rounds.groups import GroupPart
from tokenmill.pipeline.recipe import Recipe

VERSION = 2
STEP = "dedup_summary"
_ROUNDS = (asks, bands, components, contract, exact, fates, gone, ledger, merge, order, texts, verify, walk)


def summarise(context: Context, notes: Mapping[str, Any], ledgers: Sequence[Receipt]) -> Receipt:
    """Note what the rounds found. `ledgers`: receipts of *deduplicate*, of every unit."""
    inputs = {"asked": _asked(context), **{f"deduplicate/{receipt.task}": receipt.key for receipt in ledgers}}
    (summary,) = context.run(STEP, [RoundTask("all", run_summary, (notes, inputs))])
    return summary


def run_summary(run: TaskRun, recipe: Recipe, notes: Mapping[str, Any], inputs: Mapping[str, str]) -> Receipt:
    """Write the receipt; it has no outputs."""
    return run.once(Task(STEP, VERSION, "", "all", notes, inputs), lambda key: Work((), Balance(), notes))


def standing(context: Context, known: Known) -> list[Receipt] | None:
    """The receipts that `finish.finish` would return, if all of them are there; else the rounds have to be run."""
    asked = _asked(context)
    for path in sorted(path for path in known if path.startswith(f"receipts/{STEP}/")):
        summary = known[path]
        if summary.inputs.get("asked") == asked:
            names = [(name, key) for name, key in summary.inputs.items() if name != "asked"]
            ledgers = [known.get(f"receipts/{name}.{key}.json") for name, key in sorted(names)]
            found = [receipt for receipt in ledgers if receipt is not None]
            if len(found) == len(ledgers):
                return [*found, summary]
    return None


def _asked(context: Context) -> str:
    """One key of all that the rounds read and are told; what it leaves out changes no ledger."""
    recipe = context.recipe
    params = {
        "versions": {module.__name__: module.VERSION for module in _ROUNDS},
        "dedup": recipe.dedup.model_dump(mode="json"),
        "sources": {
            source.name: [source.priority, [entry.group for entry in source.filters]] for source in recipe.sources
        },
        "parts": [_described(part, context.units) for group in context.groups for part in group.parts],
    }
    return Task(STEP, VERSION, "", "all", params, {}).key


def _described(part: GroupPart, units: Mapping[str, str]) -> list[Any]:
    tables = {name: output.hash for name, output in part.tables.items()}
    there = part.elsewhere
    place = [units[part.key]] if there is None else [there.run, there.version, there.edits]
    return [part.source, part.key, part.generation, part.base, part.rows, part.documents, tables, *place]
