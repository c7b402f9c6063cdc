"""Clusters: connected components over verified pairs, each named by its first document in survivor order.

Union-find whose root is always the smallest row, so that labels depend on neither the order of pairs nor who found
them. A cluster tells how often a text was seen; it deletes nothing (see `survivors`).
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.kernels import helper

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


def components(documents: int, left: I64, right: I64) -> I64:
    """Smallest row of each row's component: int64[documents].

    Args:
        documents: rows are 0 … documents - 1.
        left: int64[k], one end of each pair.
        right: int64[k], the other end.
    """
    parent = np.arange(documents, dtype=np.int64)
    _unite(parent, left, right)
    return parent


def sizes(component: I64) -> I32:
    """Members of each row's component: int32, as long as `component`."""
    counts = np.bincount(component, minlength=len(component)).astype(np.int32)
    return counts[component]


@helper
def _root(parent: I64, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]  # halve the path
        row = parent[row]
    return row


@njit(nogil=True, cache=True)
def _unite(parent: I64, left: I64, right: I64) -> None:
    for k in range(left.shape[0]):
        a, b = _root(parent, left[k]), _root(parent, right[k])
        parent[max(a, b)] = min(a, b)
    for row in range(parent.shape[0]):  # a parent is never larger than its child, so its own label is final
        parent[row] = parent[parent[row]]
