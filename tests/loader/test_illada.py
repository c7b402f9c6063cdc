"""iLLaDA's batches: segments and documents against a slow version, invariants, and the figures that concern them."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.gathered import MASK, Spans, borders_of, drawn_rows, gathered, key
from tokenmill.pipeline.loader import Illada, noise, open_mixture


def slow_places(params: Illada, spans: Spans, rows: list[int], length: int, seed: int, aligned: bool):
    """Every place of the flat batch: (segment, document, whether it can be masked, which of its row's two levels)."""
    places = []
    for row, (number, some) in enumerate(zip(rows, spans, strict=True)):
        chosen, drawn = (int(x) for x in noise.draw(seed, noise.PURPOSE_LENGTH, np.array([number]), 2)[0])
        end = some[-1][1] if some else 0
        cut = 0
        if end > 1 and chosen < round(params.cut_probability * 2**32):
            cut = 1 + (drawn * (end - 1) >> 32)
        for at in range(length):
            holder = [span for span in some if span[0] <= at < span[1]]
            gap = ("gap", sum(span[1] <= at for span in some))
            half = int(cut > 0 and at >= cut)
            if at >= end:
                places.append(((row, "padding"), (row, "padding"), False, half))
                continue
            document = (row, half, holder[0] if holder else gap)
            segment = document if aligned else (row, half)
            places.append((segment, document, bool(holder), half))
    return places


@pytest.mark.parametrize("align", [1, 3])
@pytest.mark.parametrize("attention", ["segment", "document"])
@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**64 - 1))
def test_segments_and_documents(align: int, attention, data, seed: int):
    spans, length = data.draw(drawn_rows(align))
    rows = data.draw(st.lists(st.integers(0, 2**40), min_size=len(spans), max_size=len(spans)))
    params = Illada(cut_probability=0.5, attention=attention)
    given_rows = gathered(spans, length, rows, align > 1)
    batch = params.arrays(given_rows, key(seed))
    places = slow_places(params, spans, rows, length, seed, align > 1)
    segments, documents = (borders_of([place[which] for place in places]) for which in (0, 1))
    assert batch["cu_seqlens"].tolist() == segments
    assert batch["document_cu_seqlens"].tolist() == documents
    assert batch["max_seqlen"] == max(b - a for a, b in pairwise(segments))
    assert batch["document_max_seqlen"] == max(b - a for a, b in pairwise(documents))
    restarts = documents if attention == "document" else segments
    assert batch["position_ids"].ravel().tolist() == [i for a, b in pairwise(restarts) for i in range(b - a)]
    assert batch["maskable"].ravel().tolist() == [place[2] for place in places]
    assert batch["denominator"] == sum(place[2] for place in places)
    levels = noise.thresholds(noise.draw(seed, noise.PURPOSE_NOISE_LEVEL, np.array(rows), 2), params.epsilon)
    expected = [levels[place // length, places[place][3]] for place in segments[:-1]]
    assert batch["noise_threshold"].tolist() == expected
    drawn = noise.draw(seed, noise.PURPOSE_MASK, np.array(rows), length).ravel()
    limits = np.repeat(expected, np.diff(segments))
    assert batch["masked"].ravel().tolist() == (batch["maskable"].ravel() & (drawn < limits)).tolist()
    np.testing.assert_array_equal(batch["noisy"], np.where(batch["masked"], MASK, batch["clean"]))
    weights = np.where(batch["masked"].ravel(), 1 / (limits / 2**32), 0)
    np.testing.assert_allclose(batch["loss_weight"].ravel(), weights, rtol=3e-7)


def test_three_rows_in_ten_are_cut():
    """E[S] = 1.3 · B, so that at L = 8192 a segment has 6301.5 tokens on the average."""
    rows, length = 40_000, 64
    batch = Illada().arrays(gathered([[(0, length)]] * rows, length, range(rows)), key(1))
    segments = batch["cu_seqlens"].size - 1
    assert segments / rows == pytest.approx(1.3, abs=4 * math.sqrt(0.3 * 0.7 / rows))
    assert 8192 * rows / segments == pytest.approx(6301.5, rel=0.01)
    cuts = batch["cu_seqlens"][batch["cu_seqlens"] % length > 0] % length
    assert (cuts.min(), cuts.max()) == (1, length - 1)
    assert cuts.mean() == pytest.approx(length / 2, abs=4 * 18.2 / math.sqrt(cuts.size))


def test_the_expected_loss_is_one():
    """Σ w over a row's tokens has mean 1 a token, and a standard deviation that a segment's own level gives."""
    rows, length = 20_000, 256
    batch = Illada(cut_probability=0.0).arrays(gathered([[(0, length)]] * rows, length, range(rows)), key(5))
    assert batch["loss_weight"].sum(dtype=np.float64) / batch["denominator"] == pytest.approx(
        1, abs=4 * math.sqrt(5.914670 / length / rows)
    )


def test_the_halves_have_a_level_each():
    params = Illada(cut_probability=1.0)
    batch = params.arrays(gathered([[(0, 16)]] * 50, 16, range(50)), key(9))
    levels = batch["noise_threshold"].reshape(50, 2)
    assert (levels[:, 0] != levels[:, 1]).all()


def test_noise_of_a_row_depends_on_its_number_alone():
    whole = Illada().arrays(gathered([[(0, 8)]] * 10, 8, range(10)), key(3))
    alone = Illada().arrays(gathered([[(0, 8)]], 8, [6]), key(3))
    for name in ("masked", "loss_weight", "mask_probability"):
        np.testing.assert_array_equal(alone[name][0], whole[name][6])


def test_a_row_that_holds_the_mask_id_is_refused():
    given_rows = gathered([[(0, 4)]], 4, [71])
    given_rows.clean[0, 2] = MASK
    with pytest.raises(ValueError, match="mask_token_id 2 occurs in the data, at place 2 of global row 71"):
        Illada().arrays(given_rows, key(0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"cut_probability": -0.1}, "cut_probability is -0.1: give 0 … 1"),
        ({"attention": "none"}, "attention is 'none': give 'segment' or 'document'"),
    ],
)
def test_bad_parameters_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Illada(**fields)


def test_through_the_loader(run):
    """The same rows as with llada, and the documents' borders from the shards."""
    plain = open_mixture(run.path, batch_size=8)
    for batch, other in zip(open_mixture(run.path, batch_size=8, objective="illada"), plain, strict=True):
        np.testing.assert_array_equal(batch.rows, other.rows)
        np.testing.assert_array_equal(batch.clean, other.clean)
        assert set(batch.cu_seqlens) <= set(batch.document_cu_seqlens)
        assert batch.document_ids.shape == batch.clean.shape
        assert np.bincount(batch.document_ids.ravel()).tolist() == np.diff(batch.cu_seqlens).tolist()
    with pytest.raises(ValueError, match="the state's objective is"):
        open_mixture(run.path, batch_size=8, objective="illada").load_state_dict(plain.state_dict())
