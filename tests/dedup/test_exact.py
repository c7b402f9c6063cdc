"""Content hashes: what counts as the same text, and who comes first."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.dedup.exact import first_equal, hash_matrix
from tokenmill.filters.content_hashes import content_hashes


def test_a_matrix_is_the_column_even_when_sliced() -> None:
    column = content_hashes(pa.array(["a", "b", "c"], pa.large_string())).column(0)
    assert [bytes(row) for row in hash_matrix(column[1:])] == column.to_pylist()[1:]
    assert hash_matrix(column[:0]).shape == (0, 16)
    with pytest.raises(ValueError, match="1 of 2 content hashes are null"):
        hash_matrix(content_hashes(pa.array(["a", None], pa.large_string())).column(0))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=40))
def test_first_equal_is_the_first_row_with_that_hash(keys: list[tuple[int, int]]) -> None:
    hashes = np.zeros((len(keys), 16), np.uint8)  # the two halves differ apart from each other
    for row, (low, high) in enumerate(keys):
        hashes[row, 0], hashes[row, 15] = low, high
    assert first_equal(hashes).tolist() == [keys.index(key) for key in keys]
