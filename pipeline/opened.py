"""A published run opened to look into: its recipe, the cuts of its percentile bounds, the tables of its parts."""

from dataclasses import dataclass, field

from tokenmill.filters.bounds import Cut
from tokenmill.manifests.balance import Balance
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.checks import receipts_in
from tokenmill.pipeline.recipe.file import RecipeFile, load_recipe
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.steps.thresholds import noted_cut
from tokenmill.pipeline.storage import Storage


@dataclass
class OpenedPart:
    """What one part has at rest up to *select*.

    Attributes:
        tables: outputs by name ("documents", "signals/…", "edits/…", "decisions").
        balances: books of *ingest* and *select*.
    """

    tables: dict[str, Output] = field(default_factory=dict)
    balances: dict[str, Balance] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenedRun:
    """A published version of a run.

    Attributes:
        storage: the run's folder.
        recipe_file: the recipe it was run with.
        thresholds: cuts of percentile bounds, "source/group.bound"; None where no document has the signal.
        parts: for each source in the recipe's order, its parts by key, sorted.
    """

    storage: Storage
    recipe_file: RecipeFile
    thresholds: dict[str, Cut | None]
    parts: dict[str, dict[str, OpenedPart]]


def open_run(storage: Storage, published: Published) -> OpenedRun:
    """Read the receipts of a published version. Raises RecipeError when its recipe names a variable that is not set."""
    recipe_file = load_recipe(published.value["recipe"], f"the recipe in {published.path}")
    thresholds: dict[str, Cut | None] = {}
    parts: dict[str, dict[str, OpenedPart]] = {source.name: {} for source in recipe_file.recipe.sources}
    for receipt in receipts_in(storage, published):
        if receipt.step == "thresholds":
            name = f"{receipt.source}/{receipt.task.removeprefix(f'{receipt.source}.')}"
            thresholds[name] = noted_cut(receipt.notes)
        elif receipt.step in ("ingest", "annotate", "select"):
            part = parts[receipt.source].setdefault(receipt.task.split(".")[0], OpenedPart())
            part.tables |= {output.name: output for output in receipt.outputs}
            part.balances[receipt.step] = receipt.balance
    ordered = {name: dict(sorted(found.items())) for name, found in parts.items()}
    return OpenedRun(storage, recipe_file, thresholds, ordered)
