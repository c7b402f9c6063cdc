"""The order of a validation split: every row once, by length, components by name, each as it is stored."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.manifests.plan import Plan
from tokenmill.pipeline.loader.groups import groups
from tokenmill.pipeline.loader.order import OrderedRows, Places
from tokenmill.pipeline.loader.stock import I64, stocks_of


class StoredOrder:
    """As `Order`, of a plan in stored order. Row -1, which only fills a batch, lies where the last row does.

    Args:
        plan: from `validation_plan`.
        table: its shard table; see `stocks_of`.

    Raises:
        ValueError: the shard table does not hold what the plan says.
    """

    def __init__(self, plan: Plan, table: pa.Table) -> None:
        self.plan = plan
        opened = stocks_of(table)
        self._stocks = [opened[name] for name in plan.component_names]
        #: By stage, its components by name, and the rows of the stage before each of them and in all.
        self._by_name: list[npt.NDArray[np.int32]] = []
        self._first_rows: list[I64] = []
        for stage in plan.stages:
            listed = sorted(stage.components, key=lambda index: self._stocks[index].name)
            rows = [self._stocks[index].rows for index in listed]
            self._by_name.append(np.array(listed, np.int32))
            self._first_rows.append(np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]))

    def order(self, k: npt.ArrayLike) -> OrderedRows:
        """Component, epoch (0) and row of each global row in `k`; component and row are -1 where k is."""
        asked = np.atleast_1d(np.asarray(k, dtype=np.int64))
        if asked.size and not (asked.min() >= -1 and asked.max() < self.plan.total_rows):
            raise ValueError(f"asked for rows {asked.min()} … {asked.max()}, the plan has {self.plan.total_rows} rows")
        component, row = np.full(asked.size, -1, np.int32), np.full(asked.size, -1, np.int64)
        places = self.plan.places(np.maximum(asked, 0))
        for stage, members in groups(np.where(asked < 0, -1, places.stage)):
            if stage >= 0:
                here, first_rows = places.row[members], self._first_rows[stage]
                part = np.searchsorted(first_rows, here, side="right") - 1
                component[members], row[members] = self._by_name[stage][part], here - first_rows[part]
        return OrderedRows(component, np.zeros(asked.size, np.int32), row)

    def places(self, rows: OrderedRows, stage: int = 0) -> Places:
        """The record batch that holds each row of a stage, and the row's place in it."""
        batch, inside = np.empty_like(rows.row), np.empty_like(rows.row)
        for index, members in groups(rows.component):
            stock = self._stocks[index if index >= 0 else self._by_name[stage][-1]]
            found, inside[members] = stock.locate(rows.row[members] if index >= 0 else rows.row[members] + stock.rows)
            batch[members] = found + stock.first_batch
        return Places(batch, inside)

    def identities(self, rows: OrderedRows, stage: int = 0) -> npt.NDArray[np.uint64]:
        """Hash of each row's unit and its place in that; 0 for rows of padding."""
        found = np.zeros(rows.row.size, np.uint64)
        for index, members in groups(rows.component):
            if index >= 0:
                found[members] = self._stocks[index].row_hashes(rows.row[members])
        return found
