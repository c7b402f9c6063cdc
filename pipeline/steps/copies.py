"""copies: clusters → which range of sizes each kept document of a unit is in, as one hash; *pack* depends on no more.

Clusters grow with the run: a document that was seen 5 times and is now seen 6 times is in the range "5-9" as it was,
and its unit is not packed again. Runs where `strata: {by: [copies]}` is asked for.
"""

import numpy as np
import xxhash

from tokenmill.manifests.receipts import Receipt, Task
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.copies import NO_CLUSTERS, ranges_of, sizes_by_part
from tokenmill.pipeline.kept import NONE_REMOVED, removed_rows
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table
from tokenmill.pipeline.units import Unit

VERSION = 1


def run_copies(run: TaskRun, recipe: Recipe, unit: Unit) -> Receipt:
    """Note the `hash` of the ranges that the documents of one unit are in."""
    bounds = recipe.strata.copies_bounds
    assert bounds is not None, "asked for by the recipe"
    assert unit.clusters is not None, "deduplicate writes clusters beside every ledger"
    inputs = {"clusters": unit.clusters.hash, "ledger": unit.ledger.hash}
    task = Task("copies", VERSION, unit.source, unit.name, {"copies": bounds}, inputs)
    return run.once(task, lambda _: Work((), notes={"hash": _hash(run.storage, unit, bounds)}))


def _hash(storage: Storage, unit: Unit, bounds: tuple[int, ...]) -> str:
    """Of part, row and range of the documents that the ledger leaves and that are not in the first range."""
    assert unit.clusters is not None, "see run_copies"
    clusters = sizes_by_part(read_table(storage, unit.clusters.path))
    removed = removed_rows(read_table(storage, unit.ledger.path))
    digest = xxhash.xxh3_128()
    for part in unit.parts:
        sizes = clusters.get(part.key, NO_CLUSTERS)
        ranges = ranges_of(sizes.sizes, bounds)
        counts = (ranges > 0) & ~np.isin(sizes.rows, removed.get(part.key, NONE_REMOVED))
        rows = np.stack((sizes.rows[counts], ranges[counts]), axis=1).astype("<i4")
        digest.update(f"{part.key} {len(rows)}\n".encode() + rows.tobytes())
    return digest.hexdigest()
