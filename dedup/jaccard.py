"""Exact Jaccard similarity of shingle sets: what a signature estimates, counted on the text.

A document's set is its distinct shingle hashes, 8 bytes each, about 1.4 times the bytes of English text. Two shingles
share a hash with chance 2^-64. Shared shingles are counted and held against the threshold as integers: no rounding
decides, and J = 4/5 reaches 0.8.
"""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.dedup.folding import folding
from tokenmill.dedup.shingles import WORDS_AT_ONCE, Shingling, next_shingles, text_buffers
from tokenmill.kernels import helper, kernel

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

#: A similarity checked on text is written in millionths, rounded down, as one by signature is in equal minima.
MILLION = 1_000_000


class ShingleSets(NamedTuple):
    """Sets of n documents: those of document i are hashes[bounds[i] : bounds[i + 1]], sorted and distinct.

    `hashes` is uint64, `bounds` int64[n + 1].
    """

    hashes: U64
    bounds: I64


def shingle_sets(texts: pa.LargeStringArray, shingling: Shingling) -> ShingleSets:
    """The set of each text: empty where it is null, never otherwise.

    Args:
        texts: one document a row.
        shingling: as the signatures were made: `MinHashParams.shingling`.
    """
    data, bounds = text_buffers(texts)
    valid = texts.is_valid().to_numpy(zero_copy_only=False)
    table = folding(shingling.characters, shingling.keep_digits)
    return ShingleSets(*_sets_of_texts(data, bounds, valid, *table, shingling.ngram))


def joined(sets: list[ShingleSets]) -> ShingleSets:
    """The documents of several batches, one after another."""
    counts = [np.diff(batch.bounds) for batch in sets]
    bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.concatenate((np.zeros(0, np.int64), *counts)))))
    return ShingleSets(np.concatenate((np.zeros(0, np.uint64), *(batch.hashes for batch in sets))), bounds)


def similar_texts(
    earlier: ShingleSets, later: ShingleSets, earlier_rows: I64, later_rows: I64, threshold: float
) -> I32:
    """Jaccard similarity of pairs that reach `threshold`, in millionths, at least 1; 0 for those that don't: int32[k].

    Args:
        earlier: sets of the documents that come first.
        later: sets of the others; both may be the same.
        earlier_rows: int64[k], rows of `earlier`.
        later_rows: int64[k], rows of `later`.
        threshold: similarity, 0 < threshold ≤ 1.
    """
    shared = shared_shingles(earlier, later, earlier_rows, later_rows).astype(np.int64)
    union = np.diff(earlier.bounds)[earlier_rows] + np.diff(later.bounds)[later_rows] - shared
    return np.where(
        reaches(shared, union, threshold), np.maximum(1, MILLION * shared // np.maximum(1, union)), 0
    ).astype(np.int32)


def reaches(shared: I64, union: I64, threshold: float) -> npt.NDArray[np.bool_]:
    """Whether shared / union ≥ threshold as it is written, bool[k]; both int64[k]. An empty union reaches nothing."""
    t = Fraction(str(threshold))
    # Counts fit 32 bits, as does the denominator of any threshold a person writes; Python's integers hold the rest.
    exact = np.int64 if t.denominator < 1 << 30 else object
    reached = shared.astype(exact) * t.denominator >= union.astype(exact) * t.numerator
    return reached.astype(np.bool_) & (union > 0)


def shared_shingles(earlier: ShingleSets, later: ShingleSets, earlier_rows: I64, later_rows: I64) -> I32:
    """Shingles that both ends of each pair have, int32[k]: one merge a pair, 1.5 ns a shingle."""
    shared = np.empty(len(earlier_rows), np.int32)
    _count_shared(*earlier, *later, earlier_rows, later_rows, shared)
    return shared


@kernel
def _count_shared(
    hashes: U64, bounds: I64, other_hashes: U64, other_bounds: I64, rows: I64, other_rows: I64, shared: I32
) -> None:
    for k in range(rows.shape[0]):
        i, end = bounds[rows[k]], bounds[rows[k] + 1]
        j, other_end = other_bounds[other_rows[k]], other_bounds[other_rows[k] + 1]
        count = 0
        while i < end and j < other_end:
            a, b = hashes[i], other_hashes[j]
            count += a == b
            i += a <= b
            j += b <= a
        shared[k] = count


@helper
def _close_set(held: U64, start: int, filled: int) -> int:
    """Leave each of the sorted hashes from `start` to `filled` once: the end of what stays."""
    stays = start
    for k in range(start, filled):
        if k == start or held[k] != held[k - 1]:
            held[stays] = held[k]
            stays += 1
    return stays


@njit(nogil=True, cache=True)
def _sets_of_texts(
    data: U8, bounds: I64, valid: npt.NDArray[np.bool_], fold: U32, expansions: U32, ngram: int
) -> tuple[U64, I64]:
    words = np.empty(WORDS_AT_ONCE + ngram, np.uint64)
    shingles = np.empty(words.shape[0], np.uint64)
    held = np.empty(words.shape[0], np.uint64)
    ends = np.zeros(bounds.shape[0], np.int64)
    filled = 0
    for i in range(valid.shape[0]):
        start, at, carried, going = filled, bounds[i], 0, valid[i]
        while going:  # once for an empty text too: it has a shingle
            at, carried, count = next_shingles(
                data, bounds[i], at, bounds[i + 1], fold, expansions, words, carried, ngram, shingles
            )
            if filled + count > held.shape[0]:
                held = np.concatenate((held[:filled], np.empty(held.shape[0] + count, np.uint64)))
            for k in range(count):  # an assignment of slices takes seconds to compile
                held[filled + k] = shingles[k]
            filled += count
            going = at < bounds[i + 1]
        held[start:filled].sort()
        filled = _close_set(held, start, filled)
        ends[i + 1] = filled
    return held[:filled].copy(), ends
