"""An epoch's order, sorted a bucket at a time, against sorting it all; and where rows lie, against counting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.small_run import Stored
from tests.loader.test_order import table_of
from tokenmill.manifests.keyed import key64, mix64
from tokenmill.pipeline.loader.epoch import EpochOrder
from tokenmill.pipeline.loader.stock import Stock, packed_rows, stocks_of


def stock_of(batches: int, seed: int) -> Stock:
    """Record batches of 1 to 9 rows in shards of up to 40 and units of up to three shards."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 10, batches).tolist()
    units: list[list[list[int]]] = []
    while sizes:
        units.append([])
        for _ in range(rng.integers(1, 4)):
            count = rng.integers(1, 41)
            if sizes:
                units[-1].append(sizes[:count])
            sizes = sizes[count:]
    return stocks_of(table_of([Stored("a/train", 1.0, units)]))["a/train"]


@pytest.mark.parametrize("batches", [1, 2, 255, 256, 257, 511, 3000])
def test_equals_sorting_all_batches(batches):
    stock, key = stock_of(batches, batches), key64("epoch", batches)
    hashes = []
    for unit in range(stock.unit_keys.size):
        numbers = np.arange(stock.unit_batches[unit + 1] - stock.unit_batches[unit], dtype=np.uint64)
        hashes.append(mix64(mix64(numbers, 0) ^ stock.unit_keys[unit], key))
    expected = np.argsort(np.concatenate(hashes), kind="stable")
    sizes = stock.batch_rows[expected]
    firsts = np.cumsum(sizes) - sizes
    assert EpochOrder(stock, key).batches(0, batches).tolist() == expected.tolist()
    order = EpochOrder(stock, key)
    rng = np.random.default_rng(1)
    places = rng.integers(0, stock.rows, 500)  # in no order: buckets are sorted as they are met
    assert order.ranks(places).tolist() == (np.searchsorted(firsts, places, side="right") - 1).tolist()
    for rank in rng.integers(0, batches, 50).tolist():
        assert order.first_place(rank) == firsts[rank]
        end = min(batches, rank + 7)
        assert order.batches(rank, end).tolist() == expected[rank:end].tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**32))
def test_rows_lie_where_counting_finds_them(batches, seed):
    stock = stock_of(batches, seed)
    expected = [(batch, place) for batch, size in enumerate(stock.batch_rows.tolist()) for place in range(size)]
    rows = np.random.default_rng(0).permutation(stock.rows)
    found = zip(*(column.tolist() for column in stock.locate(rows)), strict=True)
    assert list(found) == [expected[row] for row in rows]
    firsts = np.cumsum(stock.batch_rows) - stock.batch_rows
    assert stock.first_rows(np.arange(batches)).tolist() == firsts.tolist()
    assert stock.rows == len(expected)


def test_rows_of_a_component_are_summed():
    table = table_of([Stored("a/train", 1.0, [[[4, 4]], [[3]]]), Stored("b/train", 1.0, [[[2]]])])
    assert packed_rows(table) == {"a/train": (11, 11 * 16), "b/train": (2, 32)}
