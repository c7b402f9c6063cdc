"""Bands: signatures → candidate pairs (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4).

A pair of similarity s shares a band of r rows with chance sʳ, and at least one of b bands with chance 1 - (1 - sʳ)ᵇ. A
heavy bucket (templates, cookie notices) would make quadratically many pairs: each document meets only the first
`bucket_limit` members in survivor order, so work is linear, the result depends on nothing but the order, and the
meetings left out are counted.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.dedup.minhash import MinHashParams
from tokenmill.dedup.shingles import mix
from tokenmill.kernels import helper

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

BUCKET_LIMIT = 64


class Candidates(NamedTuple):
    """Pairs of one band: `earlier` < `later`, int64, and how many meetings the bucket limit left out."""

    earlier: I64
    later: I64
    cut: int


class Buckets(NamedTuple):
    """Records in order of (key, survivor order), so that buckets are runs; arrays are int64[n], one place a record.

    Attributes:
        order: row of the record at each place.
        place: members of its bucket before it.
        met: how many of them, the first ones, it meets.
        cut: meetings that the bucket limit left out.
    """

    order: I64
    place: I64
    met: I64
    cut: int


def optimal_bands(threshold: float, num_permutations: int, miss_weight: int = 1) -> tuple[int, int]:
    """(bands, rows) whose S-curve errs least around `threshold`: datasketch's optimum at weights 1 : miss_weight.

    Minimises ∫₀ᵗ 1-(1-sʳ)ᵇ ds + miss_weight · ∫ₜ¹ (1-sʳ)ᵇ ds over bands * rows ≤ num_permutations; of equals the first
    by (bands, rows). The integrals are polynomials, so they are compared exactly, as integers: no platform's rounding
    can change a plan.

    Args:
        threshold: similarity, 0 < threshold ≤ 1.
        num_permutations: minima a signature; time grows with its square or faster (5 ms at 112, 50 ms at 256).
        miss_weight: how many candidates below the threshold a missed pair above it is worth.
    """
    if not 0 < threshold <= 1 or num_permutations < 1:
        raise ValueError(
            f"optimal bands need 0 < threshold ≤ 1 and num_permutations ≥ 1, found {threshold} and {num_permutations}"
        )
    t = Fraction(str(threshold))
    top = num_permutations + 1
    scale = math.lcm(*range(1, top + 1))
    # ∫₀¹ sᵐ⁻¹ and ∫₀ᵗ sᵐ⁻¹ over the common denominator scale · denominator(t)^top.
    whole = [0, *(scale // m * t.denominator**top for m in range(1, top + 1))]
    below = [0, *(scale // m * t.numerator**m * t.denominator ** (top - m) for m in range(1, top + 1))]

    def error(bands: int, rows: int) -> int:
        # With F(x) = ∫₀ˣ (1-sʳ)ᵇ ds the two integrals add up to t - F(t) + w (F(1) - F(t)); t is common to all.
        return sum(
            (-1) ** k
            * math.comb(bands, k)
            * (miss_weight * whole[rows * k + 1] - (1 + miss_weight) * below[rows * k + 1])
            for k in range(bands + 1)
        )

    pairs = ((b, r) for b in range(1, top) for r in range(1, num_permutations // b + 1))
    return min(pairs, key=lambda pair: (error(*pair), pair))


def band_keys(signatures: U32, params: MinHashParams) -> U64:
    """64-bit key of each document's bands: uint64[bands, n], so that one band's keys lie together.

    Keys of different bands differ. Two contents share a key with chance 2^-64, and verification then refuses the pair.

    Args:
        signatures: uint32[n, num_permutations].
        params: see `MinHashParams`.
    """
    keys = np.empty((params.bands, signatures.shape[0]), np.uint64)
    _fill_keys(signatures, params.rows, keys)
    return keys


def candidates(keys: U64, bucket_limit: int = BUCKET_LIMIT) -> Candidates:
    """Pairs that share a bucket of one band.

    Args:
        keys: uint64[n], documents in survivor order.
        bucket_limit: a document meets the first so many members of its bucket.

    Returns:
        Positions in `keys`, in no order to rely on; each pair once.
    """
    if bucket_limit < 1:
        raise ValueError(f"bucket_limit must be at least 1, found {bucket_limit}")
    order = np.argsort(keys, kind="stable")  # stable: a bucket's members stay in survivor order
    buckets = _buckets(keys, order, bucket_limit)
    return Candidates(*pairs_between(buckets, 0, len(keys)), buckets.cut)


def buckets_of(keys: U64, ranks: U64, bucket_limit: int = BUCKET_LIMIT) -> Buckets:
    """Buckets of records that come in any order.

    Args:
        keys: uint64[n], of any bands.
        ranks: uint64[n], each document's place in survivor order.
        bucket_limit: a document meets the first so many members of its bucket.
    """
    return _buckets(keys, bucket_order(keys, ranks), bucket_limit)


def bucket_order(keys: U64, ranks: U64) -> I64:
    """Order by (key, rank), both uint64[n]; no two records of a key have the same rank: int64[n]."""
    order = np.argsort(keys, kind="stable")
    _order_runs(keys, ranks, order)
    return order


def chunk_ends(buckets: Buckets, pairs: int) -> list[int]:
    """Ends of chunks of places in order that have about `pairs` pairs each; the last is the number of records."""
    total = np.cumsum(buckets.met)
    places = len(total)
    if not places:
        return []
    ends = np.searchsorted(total, np.arange(pairs, int(total[-1]) + 1, pairs), side="left") + 1
    return sorted({*ends.tolist(), places})


def pairs_between(buckets: Buckets, begin: int, end: int) -> tuple[I64, I64]:
    """Pairs of the documents at places begin … end - 1 with those they meet: earlier and later, rows of the records."""
    total = int(buckets.met[begin:end].sum())
    earlier, later = np.empty(total, np.int64), np.empty(total, np.int64)
    _fill_pairs(buckets.order, buckets.place, buckets.met, begin, end, earlier, later)
    return earlier, later


def _buckets(keys: U64, order: I64, bucket_limit: int) -> Buckets:
    place = _ranks(keys, order)
    met = np.minimum(place, bucket_limit)
    return Buckets(order, place, met, int(place.sum()) - int(met.sum()))


@njit(nogil=True, cache=True)
def _fill_keys(signatures: U32, rows: int, keys: U64) -> None:
    for i in range(keys.shape[1]):
        for band in range(keys.shape[0]):
            key = mix(np.uint64(band))
            for k in range(band * rows, (band + 1) * rows):
                key = mix(key ^ np.uint64(signatures[i, k]))
            keys[band, i] = key


@njit(nogil=True, cache=True)
def _ranks(keys: U64, order: I64) -> I64:
    """For each place in `order`, how many members of its bucket come before it."""
    rank = np.zeros(order.shape[0], np.int64)
    for k in range(1, order.shape[0]):
        if keys[order[k]] == keys[order[k - 1]]:
            rank[k] = rank[k - 1] + 1
    return rank


@njit(nogil=True, cache=True)
def _order_runs(keys: U64, ranks: U64, order: I64) -> None:
    """Sort each run of equal keys in `order` by rank."""
    begin = 0
    for k in range(1, order.shape[0] + 1):
        if k < order.shape[0] and keys[order[k]] == keys[order[begin]]:
            continue
        _sort_run(ranks, order, begin, k)
        begin = k


@njit(nogil=True, cache=True)
def _fill_pairs(order: I64, rank: I64, met: I64, begin: int, end: int, earlier: I64, later: I64) -> None:
    """Pair the document at each place from `begin` to `end` with the first `met` members of its bucket."""
    at = 0
    for k in range(begin, end):
        opens = k - rank[k]
        for j in range(opens, opens + met[k]):
            earlier[at], later[at] = order[j], order[k]
            at += 1


@helper
def _sort_run(ranks: U64, order: I64, begin: int, end: int) -> None:
    """Sort places begin … end of `order` by rank: a heap, in place (`np.argsort` would take seconds to compile)."""
    if end - begin == 2 and ranks[order[begin]] > ranks[order[begin + 1]]:
        order[begin], order[begin + 1] = order[begin + 1], order[begin]
    if end - begin <= 2:
        return
    for top in range((end - begin) // 2 - 1, -1, -1):
        _sift(ranks, order, begin, top, end - begin)
    for size in range(end - begin - 1, 0, -1):
        order[begin], order[begin + size] = order[begin + size], order[begin]
        _sift(ranks, order, begin, 0, size)


@helper
def _sift(ranks: U64, order: I64, begin: int, top: int, size: int) -> None:
    """Let the item at `top` of a heap of `size` items sink below those of higher rank."""
    item = order[begin + top]
    while 2 * top + 1 < size:
        child = 2 * top + 1
        if child + 1 < size and ranks[order[begin + child]] < ranks[order[begin + child + 1]]:
            child += 1
        if ranks[order[begin + child]] <= ranks[item]:
            break
        order[begin + top] = order[begin + child]
        top = child
    order[begin + top] = item
