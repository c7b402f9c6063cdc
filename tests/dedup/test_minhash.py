"""Signatures against Python's integers, and against the Jaccard similarity they estimate."""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dedup.texts import shingles_of
from tokenmill.dedup.minhash import MinHashParams, permutations, signature_matrix, signatures
from tokenmill.manifests.schemas import signature_schema

PARAMS = MinHashParams()
SMALL = MinHashParams(num_permutations=8, bands=4, rows=2, ngram_words=2)


def column(texts: Sequence[str | None]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def minima(found: pa.FixedSizeBinaryArray) -> list[list[int] | None]:
    """A column of signatures, each decoded by itself."""
    return [None if one is None else list(struct.unpack(f"<{len(one) // 4}I", one)) for one in found.to_pylist()]


def slow_signature(shingles: list[int], params: MinHashParams) -> list[int]:
    pairs = zip(*(values.tolist() for values in permutations(params)), strict=True)
    return [min((a * h + b) % 2**64 >> 32 for h in shingles) for a, b in pairs]


@settings(deadline=None)
@given(
    st.lists(st.none() | st.text(st.sampled_from("ab \n.日é3"), max_size=30), max_size=6),
    st.integers(0, 3),
    st.none() | st.integers(1, 4),
    st.booleans(),
)
def test_minima_are_those_of_the_slow_version(
    texts: list[str | None], seed: int, characters: int | None, keep_digits: bool
) -> None:
    params = MinHashParams(*(5, 1, 5), ngram_words=2, seed=seed, ngram_characters=characters, keep_digits=keep_digits)
    sets = shingles_of(texts, params)
    expected = [None if t is None else slow_signature(sorted(s), params) for t, s in zip(texts, sets, strict=True)]
    found = signatures(column(texts), params)
    assert found.schema.equals(signature_schema(5))
    assert minima(found.column(0)) == expected


def test_golden() -> None:
    """Stored signatures are compared with ones made years later: these numbers may never change."""
    found = signatures(column(["The quick brown fox jumps over the lazy dog.", "", "日本語の文章です。"]), SMALL)
    assert minima(found.column(0)) == GOLDEN


def test_permutations_are_bijections_and_distinct() -> None:
    multipliers, increments = permutations(PARAMS)
    assert (multipliers % 2).tolist() == [1] * 112
    assert len(set(multipliers.tolist())) == len(set(increments.tolist())) == 112
    assert multipliers.tolist() != permutations(MinHashParams(seed=2))[0].tolist()
    fewer = MinHashParams(num_permutations=16, bands=2, rows=8)
    assert permutations(fewer)[0].tolist() == multipliers[:16].tolist()


def test_the_estimate_is_within_four_standard_errors_of_exact_jaccard() -> None:
    rng = np.random.default_rng(7)
    texts = []
    for replaced in range(0, 200, 2):  # similarities from 1 to 0
        words = [f"w{''.join(map(chr, row))}" for row in rng.integers(97, 123, (300, 6))]
        other = list(words)
        for place in rng.choice(300, replaced, replace=False):
            other[place] = "x" + other[place]
        texts += [" ".join(words), " ".join(other)]
    sets = shingles_of(texts, PARAMS)
    matrix = signature_matrix(signatures(column(texts), PARAMS).column(0))
    exact = np.array([len(a & b) / len(a | b) for a, b in zip(sets[::2], sets[1::2], strict=True)])
    estimate = (matrix[::2] == matrix[1::2]).mean(axis=1)
    errors = np.sqrt(exact * (1 - exact) / 112)
    assert exact[0] == estimate[0] == 1
    assert exact.min() < 0.05
    assert (np.abs(estimate - exact) <= 4 * errors + 1e-12).all()
    assert abs((estimate - exact).sum()) <= 4 * math.sqrt((errors**2).sum())


@settings(deadline=None)
@given(st.lists(st.none() | st.text(max_size=20), max_size=12), st.data())
def test_chunks_change_nothing(texts: list[str | None], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(texts)), max_size=3)))
    whole = column(texts)
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(texts)], strict=True)]
    found = [row for part in parts for row in minima(signatures(part, SMALL).column(0))]
    assert found == minima(signatures(whole, SMALL).column(0))


def test_every_text_has_a_signature_and_equal_texts_an_equal_one() -> None:
    rows = signatures(column(["", "", "!", "a b", "A  b.", None]), SMALL).column(0).to_pylist()
    assert rows[0] == rows[1] != rows[2]
    assert rows[3] == rows[4] != rows[0]
    assert rows[5] is None


def test_a_matrix_is_the_column_even_when_sliced() -> None:
    made = signatures(column(["a", "b", "c"]), SMALL).column(0)
    assert signature_matrix(made[1:]).tolist() == minima(made)[1:]
    assert signature_matrix(made[:0]).shape == (0, 8)
    with pytest.raises(ValueError, match="1 of 2 signatures are null"):
        signature_matrix(signatures(column(["a", None]), SMALL).column(0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bands": 15}, "bands = 15 of rows = 8 need 120 permutations, more than num_permutations = 112"),
        ({"rows": 0}, "rows must be at least 1, found 0"),
        ({"ngram_words": 0}, "ngram_words must be at least 1, found 0"),
        ({"ngram_characters": 0}, "ngram_characters must be at least 1, found 0"),
        ({"threshold": 0.0}, "threshold must be above 0 and at most 1, found 0.0"),
        ({"threshold": 1.01}, "found 1.01"),
        ({"threshold": math.nan}, "found nan"),
    ],
)
def test_params_that_do_not_fit_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MinHashParams(**wrong)


GOLDEN = [
    [340506260, 41388113, 105333868, 674172322, 638265863, 1816513768, 1357573412, 1416894502],
    [2294437236, 3151581634, 4029160855, 582494149, 2866046456, 2027767416, 2447975421, 1739802835],
    [957438061, 188415776, 69806334, 1044430657, 1069393538, 130889257, 1640457049, 423579313],
]
