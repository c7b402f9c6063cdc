"""Fates of documents: which edges may still matter, and the walk over whole components.

Documents are named by rank (place in survivor order) or number here, not by position: a task holds a few documents of
a run, and the edges among them. See `survivors` for what the walk decides.
"""

import numpy as np
import numpy.typing as npt

from tokenmill.dedup.radix import order_by, places_in
from tokenmill.dedup.survivors import walk

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
BOOL = npt.NDArray[np.bool_]


def surely_gone(earlier: U64, later: U64, roots: U64) -> U64:
    """Documents that go whatever the fate of all others: neighbours of a root.

    A root, a document without an earlier neighbour, stays. An edge whose earlier end goes names no keeper, so the walk
    without it is the same: in a cluster of n alike documents n - 1 of some 64 n edges are left.

    Args:
        earlier: uint64[k], documents by rank or number.
        later: uint64[k].
        roots: uint64, ascending: documents known to have no earlier neighbour; of some others it may not be known.

    Returns:
        uint64, in no order, with repeats.
    """
    return later[is_among(earlier, roots)]


def is_among(values: U64, of: U64) -> BOOL:
    """Whether each value is in `of`, which ascends: bool, as long as `values`."""
    if not len(of):
        return np.zeros(len(values), np.bool_)
    found: BOOL = of[np.minimum(places_in(of, values), len(of) - 1)] == values
    return found


def walk_ranks(ranks: U64, earlier: U64, later: U64, equal: I32) -> tuple[I64, I32]:
    """One walk in survivor order over the edges of whole components.

    Args:
        ranks: uint64[n], ascending: every document of the components.
        earlier: uint64[k], ranks.
        later: uint64[k], ranks.
        equal: int32[k], equal minima, at least 1.

    Returns:
        Per document: position of its keeper, -1 where it stays, int64[n]; equal minima with it, int32[n].
    """
    order = order_by(later, earlier)
    equal = equal[order]
    at_later = np.searchsorted(ranks, later[order])  # ascends
    return walk(len(ranks), places_in(ranks, earlier[order]), at_later, equal)
