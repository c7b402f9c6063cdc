"""Of a million rows: E[Σ masked/p] is the number of maskable tokens, and masks are as frequent as p says."""

import math

import numpy as np
import pytest

from tests.loader.gathered import key
from tokenmill.pipeline.loader import Block, Dream, Illada, Llada, LladaSft, NoiseLevels
from tokenmill.pipeline.loader.batch import Gathered
from tokenmill.pipeline.loader.stored_rows import Pieces

ROWS, LENGTH = 1_000_000, 4
PRETRAINING = {
    "llada": Llada(),
    "llada, levels by batch": Llada(noise_levels=NoiseLevels("batch", 8)),
    "llada, levels by visit": Llada(noise_levels=NoiseLevels("visit", 12)),
    "illada": Illada(),
    "block": Block(block_size=2),
    "block, antithetic": Block(block_size=2, levels="antithetic"),
    "block, clipped": Block(block_size=2, least=0.3, most=0.8),
    "dream": Dream(),
}


def million(answers: np.ndarray | None = None) -> Gathered:
    """Rows of one document each."""
    rows = np.arange(ROWS)
    zeros = np.zeros(ROWS, np.int64)
    return Gathered(
        clean=np.full((ROWS, LENGTH), 7, np.int64),
        valid=np.full(ROWS, LENGTH, np.int32),
        pieces=Pieces(rows, zeros, zeros + LENGTH),
        aligned=False,
        rows=rows,
        answers=answers,
        epoch=(rows % 12).astype(np.int32),
        identities=lambda: (rows // 12).astype(np.uint64),
        batch_rows=(0, ROWS),
    )


def mean_is(sample: np.ndarray, expected: float) -> bool:
    return abs(sample.mean() - expected) <= 4 * sample.std() / math.sqrt(sample.size)


@pytest.mark.parametrize("name", PRETRAINING)
def test_inverse_weights_count_the_maskable_tokens(name):
    fields = PRETRAINING[name].arrays(million(), key(11))
    p = fields["mask_probability"].astype(np.float64)
    maskable = fields["maskable"]
    shares = np.where(fields["masked"], 1 / p, 0).sum(axis=1) - maskable.sum(axis=1)
    assert mean_is(shares, 0)
    assert mean_is((fields["masked"] - p)[maskable], 0)
    assert not fields["masked"][~maskable].any()
    if name != "block, clipped":
        assert mean_is(p[:, -1], 0.5005)
        assert p.min() >= 1e-3
    if name != "dream":
        assert mean_is(fields["loss_weight"].sum(axis=1, dtype=np.float64), LENGTH)


def test_answers_weigh_one_in_the_mean():
    answers = np.arange(LENGTH) >= (np.arange(ROWS) % 3 + 1)[:, None]
    fields = LladaSft().arrays(million(answers), key(11))
    assert mean_is(fields["loss_weight"].sum(axis=1, dtype=np.float64), 1)
    assert fields["denominator"] == ROWS


@pytest.mark.parametrize("name", PRETRAINING)
def test_rows_in_which_no_token_is_masked(name):
    """They come up: of 4 tokens one row in five has none masked. Nothing is divided by their number."""
    fields = PRETRAINING[name].arrays(million(), key(11))
    none = ~fields["masked"].any(axis=1)
    assert none.any()
    assert (fields["loss_weight"][none] == 0).all()
    assert (fields["noisy"][none] == fields["clean"][none]).all()
    assert np.isfinite(fields["loss_weight"]).all()
    assert isinstance(fields["denominator"], int)
