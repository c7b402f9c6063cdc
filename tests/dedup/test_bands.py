"""Bands, candidates, verification and components against their obvious versions."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.dedup.bands import band_keys, bucket_order, candidates, optimal_bands
from tokenmill.dedup.components import components, sizes
from tokenmill.dedup.minhash import MinHashParams
from tokenmill.dedup.verify import equal_minima, min_equal, similarity

PARAMS = MinHashParams(num_permutations=7, bands=3, rows=2)
ROWS = st.lists(st.lists(st.integers(0, 2), min_size=7, max_size=7), max_size=25)


def matrix(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.uint32).reshape(-1, 7)


@settings(deadline=None)
@given(ROWS)
def test_keys_are_equal_where_a_band_is(rows: list[list[int]]) -> None:
    keys = band_keys(matrix(rows), PARAMS)
    assert keys.shape == (3, len(rows))
    owner = {int(keys[b, i]): (b, *row[2 * b : 2 * b + 2]) for b in range(3) for i, row in enumerate(rows)}
    assert [[owner[int(k)] for k in keys[b]] for b in range(3)] == [
        [(b, *row[2 * b : 2 * b + 2]) for row in rows] for b in range(3)
    ]
    assert len(owner) == len(set(owner.values()))


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 6))
def test_a_document_meets_the_first_members_of_its_bucket(keys: list[int], limit: int) -> None:
    expected, cut = set(), 0
    for later, key in enumerate(keys):
        before = [row for row in range(later) if keys[row] == key]
        expected |= {(row, later) for row in before[:limit]}
        cut += len(before[limit:])
    found = candidates(np.array(keys, np.uint64), limit)
    pairs = list(zip(found.earlier.tolist(), found.later.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected
    assert found.cut == cut


def test_a_bucket_limit_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="bucket_limit must be at least 1, found 0"):
        candidates(np.zeros(2, np.uint64), 0)


@settings(deadline=None)
@given(ROWS.filter(bool), st.data())
def test_similarity_is_the_fraction_of_equal_minima(rows: list[list[int]], data: st.DataObject) -> None:
    index = st.integers(0, len(rows) - 1)
    pairs = data.draw(st.lists(st.tuples(index, index), max_size=10))
    left, right = (np.array([p[k] for p in pairs], np.int64) for k in (0, 1))
    expected = [sum(a == b for a, b in zip(rows[i], rows[j], strict=True)) for i, j in pairs]
    equal = equal_minima(matrix(rows), left, right)
    assert equal.tolist() == expected
    assert similarity(equal, 7).tolist() == [float(np.float32(n / 7)) for n in expected]


@pytest.mark.parametrize(
    ("threshold", "num_permutations", "expected"),
    [(0.8, 112, 90), (0.7, 10, 7), (0.1, 10, 1), (0.3, 10, 3), (0.001, 10, 1), (1.0, 112, 112), (1e-05, 4, 1)],
)
def test_the_threshold_means_what_is_written(threshold: float, num_permutations: int, expected: int) -> None:
    assert min_equal(MinHashParams(num_permutations, 1, 1, threshold=threshold)) == expected


@settings(deadline=None)
@given(st.integers(1, 25), st.data())
def test_components_are_those_of_a_flood(documents: int, data: st.DataObject) -> None:
    row = st.integers(0, documents - 1)
    pairs = data.draw(st.lists(st.tuples(row, row), max_size=30))
    label = list(range(documents))
    for _ in range(documents):
        for a, b in pairs:
            label[a] = label[b] = min(label[a], label[b])
    left, right = (np.array([p[k] for p in pairs], np.int64) for k in (0, 1))
    found = components(documents, left, right)
    assert found.tolist() == label
    assert sizes(found).tolist() == [label.count(value) for value in label]


def test_a_long_chain_is_one_component_from_either_end() -> None:
    rows = np.arange(100_000, dtype=np.int64)
    for order in (slice(None), slice(None, None, -1)):
        found = components(len(rows), rows[:-1][order], rows[1:][order])
        assert found.max() == 0


@pytest.mark.parametrize(("threshold", "num_permutations"), [(0.0, 10), (1.1, 10), (0.5, 0)])
def test_optimal_bands_refuses_what_has_no_optimum(threshold: float, num_permutations: int) -> None:
    with pytest.raises(ValueError, match=f"found {threshold} and {num_permutations}"):
        optimal_bands(threshold, num_permutations)


@given(st.lists(st.integers(0, 5), max_size=60), st.randoms(use_true_random=False))
def test_bucket_order_is_by_key_and_then_by_rank(keys: list[int], random: Random) -> None:
    ranks = random.sample(range(1000), len(keys))
    ordered = bucket_order(np.array(keys, np.uint64), np.array(ranks, np.uint64))
    assert ordered.tolist() == sorted(range(len(keys)), key=lambda row: (keys[row], ranks[row]))
