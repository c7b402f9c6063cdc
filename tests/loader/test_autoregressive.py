"""Next-token batches against a slow version, and through the loader."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.gathered import Spans, borders_of, drawn_rows, gathered, key
from tokenmill.pipeline.loader import Autoregressive, open_mixture


def slow_labels(spans: Spans, length: int, clean: np.ndarray, pre_shifted: bool) -> list[int]:
    labels = np.full(clean.shape, -100)
    for row, some in enumerate(spans):
        for start, end in some:
            inside = range(start, end - 1) if pre_shifted else range(start + 1, end)
            for at in inside:
                labels[row, at] = clean[row, at + 1 if pre_shifted else at]
    return labels.ravel().tolist()


@pytest.mark.parametrize("align", [1, 3])
@pytest.mark.parametrize("pre_shifted", [False, True])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_labels_and_documents(align: int, pre_shifted: bool, data):
    spans, length = data.draw(drawn_rows(align))
    given_rows = gathered(spans, length, range(len(spans)), align > 1)
    batch = Autoregressive(pre_shifted).arrays(given_rows, key(0))
    expected = slow_labels(spans, length, given_rows.clean, pre_shifted)
    assert batch["labels"].ravel().tolist() == expected
    assert batch["denominator"] == sum(label != -100 for label in expected)
    holders = [
        (row, next((span for span in some if span[0] <= at < span[1]), sum(span[1] <= at for span in some)))
        for row, some in enumerate(spans)
        for at in range(length)
    ]
    borders = borders_of(holders)
    assert batch["cu_seqlens"].tolist() == borders
    assert batch["position_ids"].ravel().tolist() == [i for a, b in pairwise(borders) for i in range(b - a)]
    assert batch["max_seqlen"] == max(b - a for a, b in pairwise(borders))
    np.testing.assert_array_equal(batch["input_ids"], given_rows.clean)


def test_through_the_loader_without_a_mask_id(run):
    """The same rows as with llada; no mask id is asked for."""
    plain = open_mixture(run.path, batch_size=8)
    for batch, other in zip(open_mixture(run.path, batch_size=8, objective="autoregressive"), plain, strict=True):
        np.testing.assert_array_equal(batch.input_ids, other.clean)
        there = batch.labels != -100
        np.testing.assert_array_equal(batch.labels[there], batch.input_ids[there])
        assert batch.denominator == there.sum() == other.maskable.sum() - len(other.rows)  # a document a row


def test_an_objective_that_there_is_not(run):
    with pytest.raises(ValueError, match="no objective 'gpt': there are 'llada', 'llada_sft', 'illada', 'dream'"):
        open_mixture(run.path, batch_size=8, objective="gpt")
