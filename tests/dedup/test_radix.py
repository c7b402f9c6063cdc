"""Dealing and sorting by counting against the obvious versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.dedup.radix import by_hash, dealt, order_by, places_in

U64 = st.integers(0, (1 << 64) - 1)


@given(st.lists(U64, max_size=50), st.integers(1, 1 << 20))
def test_a_key_goes_to_the_range_that_holds_it(keys: list[int], partitions: int) -> None:
    found = by_hash(np.array(keys, np.uint64), partitions)
    assert found.tolist() == [(key >> 32) * partitions >> 32 for key in keys]


@settings(deadline=None)
@given(st.integers(1, 9).flatmap(lambda k: st.tuples(st.just(k), st.lists(st.integers(0, k - 1), max_size=60))))
def test_dealt_records_keep_their_order(given_: tuple[int, list[int]]) -> None:
    partitions, partition = given_
    order, counts = dealt(np.array(partition, np.int64), partitions)
    assert order.tolist() == sorted(range(len(partition)), key=lambda row: partition[row])
    assert counts.tolist() == [partition.count(index) for index in range(partitions)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.one_of(st.integers(0, 3), U64), st.one_of(st.integers(0, 3), U64)), max_size=80))
def test_records_are_ordered_by_key_and_rank(records: list[tuple[int, int]]) -> None:
    keys, ranks = (np.array([record[k] for record in records], np.uint64) for k in (0, 1))
    assert order_by(keys, ranks).tolist() == sorted(range(len(records)), key=lambda row: records[row])
    assert order_by(keys).tolist() == sorted(range(len(records)), key=lambda row: records[row][0])


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(0, 3), U64)), st.lists(st.one_of(st.integers(0, 3), U64)))
def test_places_are_those_of_a_search(ordered: list[int], values: list[int]) -> None:
    among, sought = np.array(sorted(ordered), np.uint64), np.array(values, np.uint64)
    assert places_in(among, sought).tolist() == np.searchsorted(among, sought).tolist()


@pytest.mark.parametrize("distinct", [1, 40, 1 << 40])
@pytest.mark.parametrize("low", [0, 1 << 63])
def test_many_records_in_many_hands(distinct: int, low: int) -> None:
    rng = np.random.default_rng(3)
    keys = rng.integers(low, low + distinct, 100_000, dtype=np.uint64)
    ranks = rng.permutation(len(keys)).astype(np.uint64)
    assert (order_by(keys, ranks) == np.lexsort((ranks, keys))).all()
