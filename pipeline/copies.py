"""How often a kept document was seen, as part of its stratum, so that a mixture can weigh it by that.

What many crawls and sites hold tends to be better, up to a point: FineWeb-2 (Penedo et al. 2025) keeps one document of
each cluster and upsamples it by the cluster's size, which it calls rehydration. Here the size is the one of the
clusters table: all members, exact copies and other kept ones included. It is known only after *deduplicate*, so *pack*
puts it into the stratum, and *select* knows nothing of it:

    copies: [1, 2, 5, 10]    train/en → train/en/copies=1, …/copies=2-4, …/copies=5-9, …/copies=10+
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MARK = "/copies="


def copies_names(bounds: tuple[int, ...]) -> tuple[str, ...]:
    """What each range of sizes is called: "1", "2-4", "10+". `bounds`: the least size of each, rising from 1."""
    ends = [first - 1 for first in bounds[1:]]
    closed = [str(first) if first == last else f"{first}-{last}" for first, last in zip(bounds, ends, strict=False)]
    return (*closed, f"{bounds[-1]}+")


def with_copies(strata: pa.StringArray, sizes: npt.NDArray[np.int32], bounds: tuple[int, ...]) -> pa.StringArray:
    """Strata with the range of each document's size.

    Args:
        strata: string[n].
        sizes: int32[n], members of each document's cluster; 1 for one that is like no other.
        bounds: the least size of each range, rising from 1.
    """
    names = pa.array(copies_names(bounds), pa.string())
    return pc.binary_join_element_wise(strata, names.take(pa.array(ranges_of(sizes, bounds))), MARK)


def ranges_of(sizes: npt.NDArray[np.int32], bounds: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Which range each size is in, from 0: int64[n]."""
    return np.searchsorted(np.array(bounds, np.int32), sizes, "right") - 1


def stratum_with_copies(stratum: str, cluster: Mapping[str, Any] | None, bounds: tuple[int, ...] | None) -> str:
    """The whole stratum of one document: `cluster` is its row of CLUSTERS, if it has one."""
    if bounds is None:
        return stratum
    size = cluster["cluster_documents"] if cluster is not None else 1
    return str(with_copies(pa.array([stratum], pa.string()), np.array([size], np.int32), bounds)[0].as_py())


@dataclass(frozen=True, eq=False)
class ClusterSizes:
    """Sizes of the clusters that a part's documents are in.

    Attributes:
        rows: int32[n], rows of the part that are in one, rising.
        sizes: int32[n], members of each's cluster.
    """

    rows: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]

    def of_rows(self, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """int32, the size of each row's cluster; 1 for a row that is in none."""
        found = np.ones(len(rows), np.int32)
        at = np.searchsorted(self.rows, rows)
        inside = at < len(self.rows)
        inside[inside] = self.rows[at[inside]] == rows[inside]
        found[inside] = self.sizes[at[inside]]
        return found


def sizes_by_part(clusters: pa.Table) -> Mapping[str, ClusterSizes]:
    """Cluster sizes by part key, from a unit's table of CLUSTERS, which is sorted by part and row."""
    found: dict[str, ClusterSizes] = {}
    for key in pc.unique(clusters.column("part")).to_pylist():
        mine = clusters.filter(pc.equal(clusters.column("part"), key))
        found[key] = ClusterSizes(mine.column("row").to_numpy(), mine.column("cluster_documents").to_numpy())
    return found


NO_CLUSTERS = ClusterSizes(np.zeros(0, np.int32), np.zeros(0, np.int32))
