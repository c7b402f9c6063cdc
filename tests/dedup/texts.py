"""Texts as the tests of this folder need them: shingle sets as Python's, and what all steps together remove."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.dedup.exact import hash_matrix
from tokenmill.dedup.jaccard import shingle_sets, similar_texts
from tokenmill.dedup.minhash import MinHashParams, signature_matrix, signatures
from tokenmill.dedup.survivors import Removals, deduplicate
from tokenmill.filters.content_hashes import content_hashes


def shingles_of(texts: Sequence[str | None], params: MinHashParams) -> list[set[int]]:
    """Each text's shingles."""
    hashes, bounds = shingle_sets(pa.array(texts, pa.large_string()), params.shingling)
    return [set(hashes[a:b].tolist()) for a, b in pairwise(bounds)]


def removals(texts: Sequence[str], params: MinHashParams, verify: str) -> Removals:
    """What is removed of texts in survivor order; `verify` as in the recipe."""
    column = pa.array(texts, pa.large_string())
    sets = shingle_sets(column, params.shingling)

    def check_text(earlier: npt.NDArray[np.int64], later: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        return similar_texts(sets, sets, earlier, later, params.threshold)

    return deduplicate(
        hash_matrix(content_hashes(column).column(0)),
        signature_matrix(signatures(column, params).column(0)),
        params,
        check_text=check_text if verify == "text" else None,
    )
