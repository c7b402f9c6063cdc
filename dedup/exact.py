"""Exact duplicates: documents of the same content hash (`filters.content_hashes`)."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.dedup.columns import fixed_bytes
from tokenmill.dedup.radix import order_by

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

HASH_BYTES = 16


def hash_matrix(column: pa.FixedSizeBinaryArray) -> U8:
    """The hashes as uint8[n, 16], a view of the column's buffer. Raises ValueError if a row is null."""
    return fixed_bytes(column, "content hashes")


def first_equal(hashes: U8) -> I64:
    """For each row of uint8[n, 16] the first row with the same hash (itself where it is the first): int64[n]."""
    halves = np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: equal hashes stay in row order
    ordered = halves[order]
    opens = np.ones(len(order), np.bool_)
    opens[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), np.int64)
    first[order] = order[np.flatnonzero(opens)][np.cumsum(opens) - 1]
    return first


def repeats(high: U64, low: U64, ranks: U64) -> tuple[I64, I64]:
    """Records whose hash a record of lower rank has, and the one of lowest rank that has it: int64[k] rows each.

    Args:
        high: uint64[n], half of each hash.
        low: uint64[n], the other half.
        ranks: uint64[n], each document's place in survivor order.
    """
    order = order_by(high, ranks)
    same_high = np.zeros(len(order), np.bool_)
    same_high[1:] = high[order[1:]] == high[order[:-1]]
    same = same_high.copy()
    same[1:] &= low[order[1:]] == low[order[:-1]]
    if (same != same_high).any():  # two hashes with one half in common, 2^-64 a pair: then both halves order them
        order = np.lexsort((ranks, low, high))
        same[1:] = (high[order[1:]] == high[order[:-1]]) & (low[order[1:]] == low[order[:-1]])
    opens = np.flatnonzero(~same)
    return order[same], order[opens[np.cumsum(~same)[same] - 1]]
