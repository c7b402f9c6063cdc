"""LLaDA's fine-tuning batches: the turn drawn, what fills the row, weights, and the expected loss."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.gathered import EOS, MASK, answer_spans, drawn_dialogues, key, stored_dialogues
from tokenmill.pipeline.loader import LladaSft, noise


@settings(deadline=None)
@given(drawn_dialogues(), st.integers(0, 2**64 - 1), st.data())
def test_against_the_slow_version(drawn, seed, data):
    dialogues, length = drawn
    rows = data.draw(st.lists(st.integers(0, 2**40), min_size=len(dialogues), max_size=len(dialogues)))
    stored = stored_dialogues(dialogues, length, rows)
    before = stored.clean.copy()
    batch = LladaSft().arrays(stored, key(seed))
    turns = noise.draw(seed, noise.PURPOSE_TURN, np.array(rows), 1)[:, 0]
    levels = noise.thresholds(noise.draw(seed, noise.PURPOSE_NOISE_LEVEL, np.array(rows), 1), 1e-3)[:, 0]
    drawn_masks = noise.draw(seed, noise.PURPOSE_MASK, np.array(rows), length)
    for row, runs in enumerate(dialogues):
        spans = answer_spans(runs)
        begin, end = spans[int(turns[row]) * len(spans) >> 32]
        clean = [*before[row, :end].tolist(), *[EOS] * (length - end)]
        can = [at >= begin for at in range(length)]
        masked = [can[at] and drawn_masks[row, at] < levels[row] for at in range(length)]
        assert batch["prompt_lengths"][row] == begin
        assert batch["answer_lengths"][row] == length - begin
        assert batch["clean"][row].tolist() == clean
        assert batch["maskable"][row].tolist() == can
        assert batch["masked"][row].tolist() == masked
        assert batch["noisy"][row].tolist() == [MASK if masked[at] else clean[at] for at in range(length)]
        weight = 1 / (int(levels[row]) / 2**32) / (length - begin)
        np.testing.assert_allclose(batch["loss_weight"][row], [weight if m else 0 for m in masked], rtol=1e-6)
    assert batch["denominator"] == len(dialogues)
    assert batch["cu_seqlens"].tolist() == [row * length for row in range(len(dialogues) + 1)]


def test_each_turn_has_the_same_chance():
    rows = 6000
    batch = LladaSft().arrays(stored_dialogues([[1, 2, 1, 3, 2, 1]] * rows, 10, range(rows)), key(4))
    counts = [int((batch["prompt_lengths"] == begin).sum()) for begin in (1, 4, 9)]
    assert sum(counts) == rows
    assert all(abs(count - rows / 3) < 4 * math.sqrt(rows * 2 / 9) for count in counts)


def test_the_expected_loss_is_one():
    rows, length = 20_000, 64
    batch = LladaSft().arrays(stored_dialogues([[16, 40]] * rows, length, range(rows)), key(8))
    mean = batch["loss_weight"].sum(dtype=np.float64) / batch["denominator"]
    assert mean == pytest.approx(1, abs=4 * math.sqrt(5.914670 / 48 / rows))


def test_a_row_without_an_answer_counts_for_nothing():
    batch = LladaSft().arrays(stored_dialogues([[3, 5], [8], []], 8, range(3)), key(1))
    assert batch["answer_lengths"].tolist() == [5, 0, 0]
    assert batch["denominator"] == 1
    assert not batch["maskable"][1:].any()
    assert np.isfinite(batch["loss_weight"]).all()


def test_the_mask_id_is_refused():
    stored = stored_dialogues([[2, 6]], 8, [5])
    stored.clean[0, 1] = MASK
    with pytest.raises(ValueError, match="mask_token_id 2 occurs in the data, at place 1 of global row 5"):
        LladaSft().arrays(stored, key(0))
