"""MinHash signatures (Broder 1997): the fraction of equal minima estimates the Jaccard similarity of shingle sets.

Permutation i maps a shingle h to (aᵢ·h + bᵢ mod 2⁶⁴) >> 32, aᵢ odd (multiply-shift, Dietzfelbinger et al. 1997). The
estimate of a similarity J has a standard error of √(J(1-J)/num_permutations): 0.038 at 0.8 with 112.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.dedup.columns import fixed_bytes
from tokenmill.dedup.folding import folding
from tokenmill.dedup.shingles import WORDS_AT_ONCE, Shingling, next_shingles, text_buffers
from tokenmill.kernels import helper
from tokenmill.manifests.keyed import key64, mix64
from tokenmill.manifests.schemas import signature_schema

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_HIGH = np.uint64(32)


@dataclass(frozen=True)
class MinHashParams:
    """How signatures are made and compared. Raises ValueError where the values don't fit each other.

    Attributes:
        num_permutations: uint32 minima a document.
        bands: a pair becomes a candidate when all rows of one band agree.
        rows: minima a band; bands * rows ≤ num_permutations.
        ngram_words: words a shingle.
        ngram_characters: characters a shingle, instead of words; None for words.
        keep_digits: whether digits count, see `Shingling`.
        seed: draws the permutations.
        threshold: similarity, estimated from the whole signature, from which a pair is a near duplicate; 0 < … ≤ 1.
    """

    num_permutations: int = 112
    bands: int = 14
    rows: int = 8
    ngram_words: int = 5
    seed: int = 1
    threshold: float = 0.8
    ngram_characters: int | None = None
    keep_digits: bool = False

    def __post_init__(self) -> None:
        for name in ("num_permutations", "bands", "rows", "ngram_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"MinHash {name} must be at least 1, found {getattr(self, name)}")
        if self.ngram_characters is not None and self.ngram_characters < 1:
            raise ValueError(f"MinHash ngram_characters must be at least 1, found {self.ngram_characters}")
        if self.bands * self.rows > self.num_permutations:
            raise ValueError(
                f"bands = {self.bands} of rows = {self.rows} need {self.bands * self.rows} permutations, more than "
                f"num_permutations = {self.num_permutations}: lower bands or rows, or raise num_permutations"
            )
        if not 0 < self.threshold <= 1:
            raise ValueError(f"MinHash threshold must be above 0 and at most 1, found {self.threshold}")

    @property
    def shingling(self) -> Shingling:
        """What the shingles are."""
        characters = self.ngram_characters is not None
        return Shingling(self.ngram_characters or self.ngram_words, characters, self.keep_digits)


@functools.cache
def permutations(params: MinHashParams) -> tuple[U64, U64]:
    """Multipliers (odd) and increments of the permutations, uint64[num_permutations] each."""
    index = np.arange(params.num_permutations, dtype=np.uint64)
    multipliers = mix64(index, key64("minhash", "multiplier", params.seed)) | np.uint64(1)
    return multipliers, mix64(index, key64("minhash", "increment", params.seed))


def signatures(texts: pa.LargeStringArray, params: MinHashParams) -> pa.RecordBatch:
    """MinHash signature of each document.

    Args:
        texts: one document a row, null where there is none.
        params: see `MinHashParams`; bands, rows and threshold change nothing here.

    Returns:
        `manifests.schemas.signature_schema`, one row a document in order; null where the text is null, never otherwise.
    """
    data, bounds = text_buffers(texts)
    valid = texts.is_valid().to_numpy(zero_copy_only=False)
    minima = np.zeros((len(texts), params.num_permutations), np.uint32)
    shingling = params.shingling
    table = folding(shingling.characters, shingling.keep_digits)
    _minima_of_texts(data, bounds, valid, *table, shingling.ngram, *permutations(params), minima)
    return pa.record_batch(
        [signature_column(minima, pa.array(valid).buffers()[1] if texts.null_count else None)],
        schema=signature_schema(params.num_permutations),
    )


def signature_column(minima: U32, valid: pa.Buffer | None = None) -> pa.FixedSizeBinaryArray:
    """Column of `signature_schema` over uint32[n, num_permutations], without a copy; `valid`: bits, or all are."""
    kind = signature_schema(minima.shape[1]).field(0).type
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(minima), [valid, pa.py_buffer(minima)])


def signature_matrix(column: pa.FixedSizeBinaryArray) -> U32:
    """Signatures as uint32[n, num_permutations], a view of the column. Raises ValueError if a row is null."""
    return fixed_bytes(column, "signatures").view(np.uint32)


@helper
def _lower_minima(shingles: U64, count: int, multipliers: U64, increments: U64, minima: U64) -> None:
    """Lower each permutation's minimum, uint64 before the shift (which keeps order), by `count` shingles."""
    for i in range(minima.shape[0]):
        multiplier, increment, least = multipliers[i], increments[i], minima[i]
        for k in range(count):
            least = min(least, multiplier * shingles[k] + increment)
        minima[i] = least


@njit(nogil=True, cache=True)
def _minima_of_texts(
    data: U8,
    bounds: I64,
    valid: npt.NDArray[np.bool_],
    fold: U32,
    expansions: U32,
    ngram: int,
    multipliers: U64,
    increments: U64,
    out: U32,
) -> None:
    """Fill out[i] with the signature of each valid text."""
    words = np.empty(WORDS_AT_ONCE + ngram, np.uint64)
    shingles = np.empty(words.shape[0], np.uint64)
    minima = np.empty(out.shape[1], np.uint64)
    for i in range(out.shape[0]):
        if not valid[i]:
            continue
        begin, end = bounds[i], bounds[i + 1]
        minima[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
        at, carried, count = next_shingles(data, begin, begin, end, fold, expansions, words, 0, ngram, shingles)
        _lower_minima(shingles, count, multipliers, increments, minima)
        while at < end:
            at, carried, count = next_shingles(data, begin, at, end, fold, expansions, words, carried, ngram, shingles)
            _lower_minima(shingles, count, multipliers, increments, minima)
        for k in range(minima.shape[0]):
            out[i, k] = np.uint32(minima[k] >> _HIGH)
