"""The units of a published version, made again from its plan and receipts: no raw file, no model is looked at."""

from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa

from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.pipeline.checks import receipts_in
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.readers.records import Piece, RawFile
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.steps.publish import Published, manifest_table
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.units import Unit, assign_units


@dataclass(frozen=True)
class OpenedUnits:
    """A published version's units.

    Attributes:
        parts: in the plan's order; where their raw files are is not known here.
        units: by name, sorted, as *pack* took them.
        unit_of: name of each part's unit, by part key.
        packed: receipts of *pack*, by unit.
        clusters: clusters tables, by unit.
        takedown: takedown tables, by unit; none before the first takedown.
        receipts: everything the version is made of.
    """

    parts: list[Part]
    units: dict[str, Unit]
    unit_of: dict[str, str]
    packed: dict[str, Receipt]
    clusters: dict[str, Output]
    takedown: dict[str, Output]
    receipts: list[Receipt]


def open_units(storage: Storage, published: Published, recipe: Recipe) -> OpenedUnits:
    """Read the plan and the receipts of a published version; `recipe` is the one it was run with."""
    receipts = receipts_in(storage, published)
    parts = planned_parts(manifest_table(storage, published, "plan"))
    tables: dict[str, dict[str, Output]] = {part.key: {} for part in parts}
    kept: dict[str, int] = {}
    named: dict[str, Output] = {}
    for receipt in receipts:
        outputs = {output.name: output for output in receipt.outputs}
        if receipt.step in ("ingest", "annotate", "select"):
            tables[receipt.task.split(".")[0]] |= outputs
        else:
            named |= outputs
        if receipt.step == "select":
            kept[receipt.task] = receipt.balance.out.bytes
    unit_of = assign_units(parts, kept, int(recipe.sequences.unit_bytes))
    members: dict[str, list[Part]] = defaultdict(list)
    for part in sorted(parts, key=lambda part: part.key):
        members[unit_of[part.key]].append(part)
    removals = tuple(published.value.get("removals", []))
    units = {
        name: Unit(
            name,
            group[0].source,
            tuple(group),
            {part.key: tables[part.key] for part in group},
            named[f"ledger/{name}"],
            named["tokenizer"],
            removals,
            named.get(f"clusters/{name}"),
            named.get("template"),
        )
        for name, group in sorted(members.items())
    }
    return OpenedUnits(
        parts,
        units,
        unit_of,
        {receipt.task: receipt for receipt in receipts if receipt.step == "pack"},
        {name: named[f"clusters/{name}"] for name in units if f"clusters/{name}" in named},
        {receipt.task: receipt.output("takedown") for receipt in receipts if receipt.step == "takedown"},
        receipts,
    )


def planned_parts(plan: pa.Table) -> list[Part]:
    """The parts of a PLAN in its order, their raw files without a URL."""
    pieces: dict[tuple[str, str, int], list[Piece]] = {}
    for row in plan.to_pylist():
        piece = Piece(RawFile("", row["path"], row["bytes"], row["version"]), row["slice"], row["slices"])
        pieces.setdefault((row["source"], row["part"], row["generation"]), []).append(piece)
    return [Part(source, key, generation, tuple(found)) for (source, key, generation), found in pieces.items()]
