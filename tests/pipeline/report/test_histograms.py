"""Bins: counted like a loop over every value, whatever the parts, and drawn where a bound is."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.pipeline.report.histograms import NUMBER, SHARE, WHOLE, Histogram, bins_of, edges_of, place_of, shape_of

SHAPES = st.sampled_from([SHARE, WHOLE, NUMBER])
VALUES = st.one_of(
    st.floats(-2, 2),
    st.floats(0, 1e12),
    st.integers(0, 10**6).map(float),
    st.just(math.nan),
    st.sampled_from([0.0, 1.0]),
)


def bin_by_loop(shape: str, value: float) -> int:
    """The last bin whose lower edge the value reaches."""
    edges = edges_of(shape)
    reached = [
        index for index in range(len(edges) - 1) if edges[index] <= (round(value, 6) if shape == SHARE else value)
    ]
    return reached[-1] if reached else 0


@given(SHAPES, st.lists(st.tuples(VALUES, st.booleans()), max_size=30))
def test_documents_are_counted_as_a_loop_counts_them(shape: str, documents: list[tuple[float, bool]]):
    found = Histogram.empty(shape)
    found.count(
        np.array([value for value, _ in documents], np.float64), np.array([kept for _, kept in documents], bool)
    )
    expected = Histogram.empty(shape)
    for value, kept in documents:
        if math.isnan(value):
            expected.missing += 1
        else:
            (expected.kept if kept else expected.dropped)[bin_by_loop(shape, value)] += 1
    assert (found.kept.tolist(), found.dropped.tolist()) == (expected.kept.tolist(), expected.dropped.tolist())
    assert found.missing == expected.missing


@given(SHAPES, st.lists(VALUES, max_size=20), st.integers(0, 20))
def test_parts_add_up(shape: str, values: list[float], cut: int):
    whole, first, second = (Histogram.empty(shape) for _ in range(3))
    for histogram, some in ((whole, values), (first, values[:cut]), (second, values[cut:])):
        histogram.count(np.array(some, np.float64), np.arange(len(some)) < 0)
    first += second
    assert (first.dropped.tolist(), first.missing) == (whole.dropped.tolist(), whole.missing)


@pytest.mark.parametrize("shape", [SHARE, WHOLE, NUMBER])
def test_edges_rise(shape: str):
    edges = edges_of(shape)
    assert (np.diff(edges) > 0).all()
    assert edges[0] == 0


@given(SHAPES, st.floats(0, 1e8))
def test_a_bound_is_drawn_inside_the_bin_of_its_value(shape: str, value: float):
    place = place_of(shape, value)
    at = int(bins_of(shape, np.array([value]))[0])
    assert at - 1e-4 <= place <= at + 1 + 1e-4


def test_single_precision_falls_into_the_bin_of_its_number():
    """A signal of float32 0.29 and a bound of 0.29 are on the same side of a bin's edge."""
    hundredths = np.arange(101) / 100
    assert bins_of(SHARE, hundredths.astype(np.float32).astype(np.float64)).tolist() == list(range(101))


def test_every_small_whole_number_has_its_bin():
    assert bins_of(WHOLE, np.arange(21.0)).tolist() == list(range(21))


def test_shapes_follow_names_and_types():
    assert shape_of("words", pa.int32()) == WHOLE
    assert shape_of("hash_fraction", pa.float32()) == SHARE
    assert shape_of("score", pa.float32()) == shape_of("language_score", pa.float32()) == SHARE
    assert shape_of("mean_word_length", pa.float64()) == NUMBER
