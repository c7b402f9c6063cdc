"""Connected components over edges that no machine holds at once: alternating stars on arrays.

Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii, Connected Components in MapReduce and Beyond (SoCC 2014). Edges are
held by partition of their ends. A *small star* ties each node and its smaller neighbours to the smallest of them; a
*large star* ties each node's larger neighbours to the smallest of the node and its neighbours. They take turns until
every node hangs on the smallest of its component. Here a small star contracts all edges that its task holds, by
union-find: what one task can see is settled at once, so a chain of n documents costs rounds by the logarithm of the
tasks that hold it, not of n.

    edges 1-2 2-3 3-4      small star, one task holding all: 2→1 3→1 4→1; the large star finds nothing unsettled
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.dedup.components import components
from tokenmill.dedup.radix import order_by, places_in

U64 = npt.NDArray[np.uint64]


class Tied(NamedTuple):
    """Edges as (node, a smaller node of its component): uint64[k], uint64[k]."""

    node: U64
    least: U64


class Settled(NamedTuple):
    """What a large star made, and how many nodes did not hang on exactly one node that hangs on none."""

    tied: Tied
    unsettled: int


def contract(one: U64, other: U64) -> Tied:
    """Tie every node to the smallest that these edges connect it with.

    Args:
        one: uint64[k], one end of each edge, in any order.
        other: uint64[k], the other end.

    Returns:
        At most an edge a node, sorted by node; a component's smallest node has none.
    """
    nodes = distinct(np.concatenate((one, other)))
    label = components(len(nodes), places_in(nodes, one), places_in(nodes, other))
    tied = np.flatnonzero(label != np.arange(len(nodes)))
    return Tied(nodes[tied], nodes[label[tied]])


def large_star(end: U64, other: U64) -> Settled:
    """Tie the larger neighbours of each node to the smallest of its neighbours and itself.

    Args:
        end: uint64[k]; all edges of a node must be here, each with that node as `end`.
        other: uint64[k], the neighbour.

    Returns:
        An edge for each neighbour that is larger than `end`, sorted by (`end`, neighbour). If no node is unsettled in
        any task, the edges are (node, smallest of its component), each node once.
    """
    order = order_by(end, other)
    end, other = end[order], other[order]
    larger = other > end
    least, unsettled = _least_neighbours(end, other)
    return Settled(Tied(other[larger], least[larger]), int(unsettled))


def distinct(values: U64) -> U64:
    """The values in order, each once; np.unique, which hashes, takes 10 s for 13M numbers."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


@njit(nogil=True, cache=True)
def _least_neighbours(end: U64, other: U64) -> tuple[U64, int]:
    """For each edge (sorted by end, other) the smallest of `end` and its neighbours; nodes that are unsettled."""
    least = np.empty(end.shape[0], np.uint64)
    unsettled, opens = 0, 0
    while opens < end.shape[0]:
        node, smallest = end[opens], min(end[opens], other[opens])
        smaller, larger, k = 0, False, opens
        while k < end.shape[0] and end[k] == node:
            least[k] = smallest
            if other[k] > node:
                larger = True
            elif k == opens or other[k] != other[k - 1]:
                smaller += 1
            k += 1
        unsettled += smaller > 1 or (smaller == 1 and larger)
        opens = k
    return least, unsettled
