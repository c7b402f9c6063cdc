"""Erase what was taken down: its text goes out of the run's folder, and with it every version but the newest.

    0  requests and answers of `tokenmill regenerate` go out of what lies under the run's folder (`regenerate.erased`)
    1  documents, turns and edits of the parts that hold such rows are written again without their text, beside the old
    2  their receipts name the new files, under the hash that every later task was keyed with: nothing else is redone
    3  the newest version is published with them
    4  a tombstone for each earlier version says when and why it went
    5  the earlier manifests are deleted, then every file that the newest does not name

Each step finds what an erasure that was killed has done, and goes on. What stays of a document is its place, its
signals, hash and signature, by which its copies stay out, near ones too (see `dedup_rounds.texts`); the tokenizer, if
it was trained here, may have seen it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from tokenmill.manifests.receipts import Output, Receipt, canonical_json
from tokenmill.pipeline.book import Book
from tokenmill.pipeline.chat.turns import without
from tokenmill.pipeline.checks import DATA_FOLDERS, garbage
from tokenmill.pipeline.opened_units import OpenedUnits, open_units
from tokenmill.pipeline.recipe.file import RecipeFile, load_recipe
from tokenmill.pipeline.regenerate.erased import erase_answers
from tokenmill.pipeline.steps.publish import Published, publish, versions
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import new_table, open_groups, read_table

TOMBSTONES = "tombstones"
#: What `dedup_rounds.texts` leaves of texts, merged or not.
SHINGLES = ("dedup/sets/", "dedup/merge/sets-")
Rows = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Erased:
    """What an erasure came to.

    Attributes:
        documents: whose text is gone, now or before.
        parts: that hold them.
        versions: deleted now.
        files: deleted now.
        published: the one version left.
    """

    documents: int
    parts: int
    versions: tuple[str, ...]
    files: int
    published: Published


def erase_removed(storage: Storage, published: Published) -> Erased:
    """Erase everything that is taken down.

    Args:
        storage: the run's folder.
        published: its newest version, which packs none of it.

    Raises:
        ValueError: nothing was ever taken down.
    """
    if not published.value.get("removals"):
        raise ValueError(f"nothing was ever removed from {storage.root!r}, so there is nothing to erase")
    recipe_file = load_recipe(published.value["recipe"], f"the recipe in {published.path}")
    units = open_units(storage, published, recipe_file.recipe)
    rows = _rows(storage, units)
    erase_answers(storage, (f"{part}:{row}" for part, some in rows.items() for row in some.tolist()))
    published = _without_texts(storage, recipe_file, units, rows)
    documents = sum(map(len, rows.values()))
    retired = [path for path in versions(storage) if path != published.path]
    for path in retired:
        _bury(storage, path, published, documents)
    for path in retired:
        storage.delete(path)
    # loose receipts and what rounds of *deduplicate* left spare a rerun work, and hold no text; `gc` takes them. But
    # whoever has all shingle hashes of a text can guess it, word after word
    gone = [
        path
        for path in garbage(storage, [published.path])
        if path.split("/")[0] in (*DATA_FOLDERS, "tmp") or path.startswith(SHINGLES)
    ]
    for path in gone:
        storage.delete(path)
    return Erased(documents, len(rows), tuple(retired), len(retired) + len(gone), published)


def _rows(storage: Storage, units: OpenedUnits) -> dict[str, Rows]:
    """Rows that are taken down, standing or not, by part key."""
    found: dict[str, Rows] = {}
    for output in units.takedown.values():
        table = read_table(storage, output.path, ["part", "row"])
        for key in pc.unique(table.column("part")).to_pylist():
            found[key] = table.filter(pc.equal(table.column("part"), key)).column("row").to_numpy()
    return found


def _without_texts(
    storage: Storage, recipe_file: RecipeFile, units: OpenedUnits, rows: Mapping[str, Rows]
) -> Published:
    """Write what holds a text again, then its receipts, then the version that names them."""
    book = Book(storage)
    book.load()
    receipts: list[Receipt] = []
    for receipt in units.receipts:
        part = receipt.task.split(".")[0]
        if receipt.step in ("ingest", "annotate") and part in rows:
            outputs = tuple(_erased(storage, output, rows[part]) for output in receipt.outputs)
            if outputs != receipt.outputs:
                receipt = replace(receipt, outputs=outputs)
                storage.write(receipt.path, canonical_json(receipt.to_row()).encode())
                book.add(receipt)
        receipts.append(receipt)
    book.compact({"ingest", "annotate"})
    return publish(storage, recipe_file.recipe, recipe_file.text, units.parts, receipts)


def _erased(storage: Storage, output: Output, rows: Rows) -> Output:
    """The table without the texts of `rows`; as it is, where it holds none or has lost them before."""
    change = _no_edits if output.name.startswith("edits/") else _CHANGES.get(output.name)
    digest = xxhash.xxh3_128_hexdigest(rows.tobytes())
    if change is None or output.detail.get("erased", {}).get("rows_hash") == digest:
        return output
    return _rewritten(storage, output, rows, digest, change)


def _rewritten(
    storage: Storage,
    output: Output,
    rows: Rows,
    digest: str,
    change: Callable[[pa.RecordBatch, int, Rows], pa.RecordBatch],
) -> Output:
    stem = output.path.removesuffix(".parquet").split(".erased-")[0]
    first_row = 0
    with open_groups(storage, output.path) as groups, new_table(storage, groups.schema) as writer:
        for index in range(len(groups)):
            batch = groups.read(index)
            writer.write_group(change(batch, first_row, rows))
            first_row += batch.num_rows
        new = writer.commit(output.name, f"{stem}.erased-{{hash}}.parquet")
    erased = {"hash": new.hash, "rows": len(rows), "rows_hash": digest}
    return replace(new, hash=output.hash, detail={**output.detail, "erased": erased})


def _no_text(documents: pa.RecordBatch, first_row: int, rows: Rows) -> pa.RecordBatch:
    gone = _gone(documents, first_row, rows)
    at = documents.schema.get_field_index("text")
    text = pc.if_else(pa.array(gone), pa.scalar(None, pa.large_string()), documents.column(at))
    return documents.set_column(at, documents.schema.field(at), text)


def _gone(batch: pa.RecordBatch, first_row: int, rows: Rows) -> npt.NDArray[np.bool_]:
    gone = np.zeros(batch.num_rows, np.bool_)
    inside = rows[(rows >= first_row) & (rows < first_row + batch.num_rows)]
    gone[inside - first_row] = True
    return gone


def _no_turns(turns: pa.RecordBatch, first_row: int, rows: Rows) -> pa.RecordBatch:
    return without(turns, _gone(turns, first_row, rows))


_CHANGES: Mapping[str, Callable[[pa.RecordBatch, int, Rows], pa.RecordBatch]] = {
    "documents": _no_text,
    "turns": _no_turns,
}


def _no_edits(edits: pa.RecordBatch, _first_row: int, rows: Rows) -> pa.RecordBatch:
    return edits.filter(pc.invert(pc.is_in(edits.column("row"), pa.array(rows, pa.int32()))))


def _bury(storage: Storage, version: str, heir: Published, documents: int) -> None:
    """Write a version's tombstone, unless an erasure that was killed has."""
    path = f"{TOMBSTONES}/{version.removeprefix('manifests/')}"
    if path in storage.sizes(TOMBSTONES):
        return
    stone = {
        "version": version,
        "erased": datetime.now(UTC).isoformat(timespec="seconds"),
        "because": "documents that were taken down may be in it",
        "removals": heir.value["removals"],
        "documents": documents,
        "goes_on_as": heir.path,
    }
    storage.write(path, canonical_json(stone).encode())


def tombstones(storage: Storage) -> list[dict[str, object]]:
    """What is known of the versions that were erased, oldest first."""
    return [json.loads(storage.read(path)) for path in sorted(storage.sizes(TOMBSTONES))]
