"""Where a packed document's pieces stand in the order of training: the global rows of the first epoch."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from tokenmill.pipeline.loader.opening import OpenedOrder, open_order
from tokenmill.pipeline.loader.stored_order import StoredOrder
from tokenmill.pipeline.steps.publish import Published
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.why import Fate


def open_first_epoch(
    storage: Storage, published: Published, total_rows: int | None, window_bytes: int | None
) -> OpenedOrder | None:
    """The order of a version's own mixture, as `open_mixture` with these arguments takes rows; None without one."""
    path = published.value["mixture"]
    if path is None:
        return None
    return open_order(storage.url(path), total_rows=total_rows, window_bytes=window_bytes)


def rows_of(opened: OpenedOrder | None, fate: Fate) -> list[int | None]:
    """Of each of a fate's pieces the global row in epoch 0; None where training never comes to it."""
    component = f"{fate.source}/{fate.stratum}"
    if opened is None or isinstance(opened.order, StoredOrder):
        return [None] * len(fate.pieces)
    shards = opened.stages[0].shards
    mine = shards.filter(pc.equal(shards.column("component"), component))
    starts = np.concatenate([[0], np.cumsum(mine.column("rows").to_numpy())]).tolist()
    first = dict(zip(mine.column("path").to_pylist(), starts, strict=False))
    rows: dict[tuple[str, int], int | None] = {}
    for piece in fate.pieces:
        place = (piece["shard"], piece["row"])
        if place not in rows and piece["shard"] in first:
            rows[place] = opened.order.first_visit(component, first[piece["shard"]] + piece["row"])
    return [rows.get((piece["shard"], piece["row"])) for piece in fate.pieces]


def told(fate: Fate, rows: list[int | None]) -> list[str]:
    """Lines for people, below those of `why`."""
    known = [f"{row:,}" for row in rows if row is not None]
    if not fate.pieces:
        return []
    if not known:
        return ["  in no row of the training order: it is held out, or the mixture ends before"]
    return [f"  global rows of the first epoch: {', '.join(known)} (`tokenmill trace --row` shows one)"]


def as_json(rows: list[int | None], value: dict[str, Any]) -> dict[str, Any]:
    """The fate's plain values with each piece's `global_row`."""
    pieces = [{**piece, "global_row": row} for piece, row in zip(value["pieces"], rows, strict=True)]
    return {**value, "pieces": pieces}
