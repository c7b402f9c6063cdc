"""Dream's batches: CART weights against their definition and golden numbers, and what can be masked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.gathered import MASK, drawn_dialogues, drawn_rows, gathered, key, stored_dialogues
from tokenmill.pipeline.loader import Dream, noise
from tokenmill.pipeline.loader.dream import cart_weights


def slow_weights(masked: list[bool], spans: list[tuple[int, int]], p_c: float) -> list[float]:
    """The definition, token by token."""
    found = [0.0] * len(masked)
    for start, end in spans:
        for n in range(start, end):
            if masked[n]:
                clean = [j for j in range(start, end) if not masked[j]]
                found[n] = sum(0.5 * p_c * (1 - p_c) ** (abs(n - j) - 1) for j in clean)
    return found


@pytest.mark.parametrize(
    ("p_c", "expected"), [(0.1, [0.213305, 0.216950, 0.207330]), (0.3, [0.469515, 0.484950, 0.466225])]
)
def test_golden_weights(p_c, expected):
    masked = np.isin(np.arange(8), [2, 3, 6])
    weight = np.empty(8, np.float32)
    cart_weights(masked, np.array([0, 8], np.int32), p_c, weight)
    np.testing.assert_allclose(weight[masked], expected, atol=5e-7)
    assert (weight[~masked] == 0).all()


@pytest.mark.parametrize("align", [1, 3])
@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**64 - 1), p_c=st.sampled_from([0.1, 0.3, 0.8]))
def test_of_documents(align, data, seed, p_c):
    spans, length = data.draw(drawn_rows(align))
    rows = data.draw(st.lists(st.integers(0, 2**40), min_size=len(spans), max_size=len(spans)))
    stored = gathered(spans, length, rows, align > 1)
    batch = Dream(cart_probability=p_c).arrays(stored, key(seed))
    can = np.zeros((len(spans), length), np.bool_)
    for row, some in enumerate(spans):
        for start, end in some:
            can[row, start + 1 : end] = True  # the shift leaves no logit for a document's first
    np.testing.assert_array_equal(batch["maskable"], can)
    levels = noise.thresholds(noise.draw(seed, noise.PURPOSE_NOISE_LEVEL, np.array(rows), 1), 1e-3)
    masked = can & (noise.draw(seed, noise.PURPOSE_MASK, np.array(rows), length) < levels)
    np.testing.assert_array_equal(batch["masked"], masked)
    np.testing.assert_array_equal(batch["noisy"], np.where(masked, MASK, stored.clean))
    for row, some in enumerate(spans):
        expected = slow_weights(masked[row].tolist(), some, p_c)
        np.testing.assert_allclose(batch["loss_weight"][row], expected, rtol=1e-5)
    assert batch["denominator"] == masked.sum()
    starts = [row * length + start for row, some in enumerate(spans) for start, _ in some]
    assert set(starts) <= set(batch["cu_seqlens"].tolist())
    assert (batch["position_ids"].reshape(-1)[batch["cu_seqlens"][:-1]] == 0).all()


@settings(deadline=None, max_examples=40)
@given(drawn_dialogues(), st.integers(0, 2**64 - 1))
def test_in_dialogues_answers_alone_are_masked(drawn, seed):
    dialogues, length = drawn
    stored = stored_dialogues(dialogues, length, range(len(dialogues)))
    batch = Dream().arrays(stored, key(seed))
    expected = stored.answers.copy()
    expected[:, 0] = False
    np.testing.assert_array_equal(batch["maskable"], expected)
    assert not (batch["masked"] & ~expected).any()


@pytest.mark.parametrize("p_c", [0.0, 1.0, -0.3])
def test_bad_parameters_are_refused(p_c):
    with pytest.raises(ValueError, match="give p_c above 0 and below 1"):
        Dream(cart_probability=p_c)
