"""DiffusionGemma's batches against a slow version, and the odds of a corrupted token."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.gathered import EOS, PAD, VOCABULARY, answer_spans, drawn_dialogues, key, stored_dialogues
from tokenmill.pipeline.loader import Canvas, noise


@settings(deadline=None)
@given(drawn_dialogues(), st.integers(0, 2**64 - 1), st.integers(1, 5), st.data())
def test_against_the_slow_version(drawn, seed, block, data):
    dialogues, length = drawn
    rows = data.draw(st.lists(st.integers(0, 2**40), min_size=len(dialogues), max_size=len(dialogues)))
    stored = stored_dialogues(dialogues, length, rows)
    batch = Canvas(block_size=block).arrays(stored, key(seed))

    def drawn_for(purpose: int, count: int = 1) -> np.ndarray:
        return noise.draw(seed, purpose, np.array(rows), count)

    levels = noise.thresholds(drawn_for(noise.PURPOSE_NOISE_LEVEL), 1e-3)[:, 0]
    assert batch["clean"].shape == (len(rows), length + block)
    for row, runs in enumerate(dialogues):
        spans = answer_spans(runs)
        begin, end = spans[int(drawn_for(noise.PURPOSE_TURN)[row, 0]) * len(spans) >> 32]
        size = math.ceil((end - begin) / block) * block
        clean = [*stored.clean[row, :end].tolist(), *[EOS] * (size - end + begin)]
        assert batch["clean"][row].tolist() == clean + [PAD] * (length + block - len(clean))
        assert (batch["canvas_start"][row], batch["canvas_lengths"][row]) == (begin, size)
        scored = int(drawn_for(noise.PURPOSE_CANVAS)[row, 0]) * (size // block) >> 32
        assert batch["canvas_block"][row] == scored
        masks, others = drawn_for(noise.PURPOSE_MASK, length + block), drawn_for(noise.PURPOSE_TOKEN, length + block)
        for at in range(batch["noisy"].shape[1]):
            inside = at < size
            label = clean[begin + at] if inside else PAD
            corrupted = inside and masks[row, begin + at] < levels[row]
            token = int(others[row, begin + at]) * VOCABULARY >> 32 if corrupted else label
            assert batch["labels"][row, at] == label
            assert batch["corrupted"][row, at] == corrupted
            assert batch["noisy"][row, at] == token
            assert batch["loss_weight"][row, at] == (inside and at // block == scored)
        assert batch["position_ids"][row, : len(clean)].tolist() == list(range(len(clean)))
    assert batch["denominator"] == block * len(rows)


def test_the_share_of_corrupted_tokens_is_the_level():
    rows = 4000
    batch = Canvas(block_size=16).arrays(stored_dialogues([[4, 32]] * rows, 40, range(rows)), key(2))
    share = batch["corrupted"].mean(axis=1)
    assert (share - batch["mask_probability"]).mean() == pytest.approx(0, abs=4 * math.sqrt(1 / 6 / 32 / rows))
    assert batch["mask_probability"].mean() == pytest.approx(0.5005, abs=4 * math.sqrt(1 / 12 / rows))
    other = batch["noisy"][batch["corrupted"]]
    assert other.mean() == pytest.approx(VOCABULARY / 2, rel=0.02)


def test_a_row_without_an_answer_has_no_canvas():
    batch = Canvas(block_size=4).arrays(stored_dialogues([[3, 5], [8], []], 8, range(3)), key(1))
    assert batch["canvas_lengths"].tolist() == [8, 0, 0]
    assert batch["denominator"] == 4
    assert not batch["corrupted"][1:].any()
