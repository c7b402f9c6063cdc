"""Block diffusion's batches: levels, pairs, schedule, the documents, and golden counts of the attention mask."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.gathered import EOS, MASK, drawn_rows, gathered, key, stored_dialogues
from tokenmill.pipeline.loader import Block, noise, open_mixture
from tokenmill.pipeline.loader.noise_levels import in_strata

SEEDS = st.integers(0, 2**64 - 1)


def whole_rows(length: int, rows) -> object:
    return gathered([[(0, length)]] * len(rows), length, rows)


def wide(threshold: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """P of each token, from those of the blocks."""
    return np.repeat(threshold, math.prod(shape) // threshold.size).reshape(shape)


@pytest.mark.parametrize("align", [1, 4])
@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=SEEDS)
def test_against_the_slow_version(align, data, seed):
    spans, length = data.draw(drawn_rows(align))
    size = data.draw(st.sampled_from([b for b in range(1, length + 1) if length % b == 0]))
    rows = data.draw(st.lists(st.integers(0, 2**40), min_size=len(spans), max_size=len(spans)))
    stored = gathered(spans, length, rows, align > 1)
    batch = Block(block_size=size).arrays(stored, key(seed))
    can = np.zeros((len(spans), length), np.bool_)
    for row, some in enumerate(spans):
        for start, end in some:
            can[row, start:end] = True
    np.testing.assert_array_equal(batch["maskable"], can)
    blocks = length // size
    thresholds = batch["noise_threshold"].reshape(len(rows), blocks).astype(object)
    for levels in thresholds.tolist():  # one in each of as many strata as there are blocks
        draws = [-(-(level - round(1e-3 * 2**32)) * 2**32 // (2**32 - round(1e-3 * 2**32))) for level in levels]
        assert sorted(draw * blocks >> 32 for draw in draws) == list(range(blocks))
    drawn = noise.draw(seed, noise.PURPOSE_MASK, np.array(rows), length)
    masked = can & (drawn < wide(batch["noise_threshold"], can.shape))
    np.testing.assert_array_equal(batch["masked"], masked)
    np.testing.assert_array_equal(batch["noisy"], np.where(masked, MASK, stored.clean))
    p = wide(batch["noise_threshold"], can.shape) / 2**32
    np.testing.assert_allclose(batch["loss_weight"], np.where(masked, 1 / p, 0), rtol=1e-6)
    if size == length:
        np.testing.assert_array_equal(batch["input_ids"], batch["noisy"])
    else:
        np.testing.assert_array_equal(batch["input_ids"], np.concatenate([batch["noisy"], stored.clean], axis=1))
        np.testing.assert_array_equal(batch["input_position_ids"], np.tile(batch["position_ids"], 2))
    starts = [row * length + start for row, some in enumerate(spans) for start, _ in some]
    assert set(starts) <= set(batch["cu_seqlens"].tolist())
    assert batch["denominator"] == can.sum()


@settings(deadline=None, max_examples=40)
@given(data=st.data(), seed=SEEDS, weight=st.sampled_from(["inverse", "flat"]))
def test_pairs_make_each_token_a_target_once(data, seed, weight):
    spans, length = data.draw(drawn_rows())
    size = data.draw(st.sampled_from([b for b in range(1, length + 1) if length % b == 0]))
    stored = gathered(spans, length, range(len(spans)))
    batch = Block(block_size=size, pairs=True, least=0.3, most=0.8, weight=weight).arrays(stored, key(seed))
    first, second = np.split(batch["masked"], 2)
    maskable = np.split(batch["maskable"], 2)[0]
    assert not (first & second).any()
    np.testing.assert_array_equal(first | second, maskable)
    p, twin = (half.astype(np.float64) for half in np.split(batch["mask_probability"], 2))
    np.testing.assert_allclose(p + twin, 1, atol=1e-6)
    assert (batch["noise_threshold"].reshape(2, -1).astype(np.uint64).sum(axis=0) == 2**32).all()
    for half, probability, masked in zip(np.split(batch["loss_weight"], 2), (p, twin), (first, second), strict=True):
        expected = np.where(masked, 1 if weight == "flat" else 1 / probability, 0)
        np.testing.assert_allclose(half, expected, rtol=1e-6)
    np.testing.assert_array_equal(batch["noisy"], np.where(batch["masked"], MASK, batch["clean"]))
    assert batch["cu_seqlens"][-1] == batch["clean"].size
    assert batch["denominator"] == maskable.sum() * (1 if weight == "flat" else 2)


def test_golden_antithetic_levels():
    """ε = .1, .5, .9, .3 of four blocks: .025, .375, .725, .825."""
    draws = np.array([round(e * 2**32) for e in (0.1, 0.5, 0.9, 0.3)], np.uint32)
    found = in_strata(draws, np.arange(4), 4) / 2**32
    np.testing.assert_allclose(found, [0.025, 0.375, 0.725, 0.825], atol=1e-9)


def test_antithetic_levels_over_the_global_batch_at_any_number_of_ranks():
    rows, blocks = np.arange(24, 32), 4
    params = Block(block_size=4, levels="antithetic", least=1e-9)
    stored = whole_rows(16, rows)
    whole = params.arrays(stored, key(6))["noise_threshold"].reshape(8, blocks)
    assert [int(level) * 32 >> 32 for level in whole.ravel()] == list(range(32))
    part = whole_rows(16, rows[1::2])._replace(batch_rows=(24, 32))
    np.testing.assert_array_equal(params.arrays(part, key(6))["noise_threshold"].reshape(4, blocks), whole[1::2])


def test_the_clip_is_an_affine_map():
    rows = np.arange(20_000)
    batch = Block(block_size=4, least=0.3, most=0.8).arrays(whole_rows(8, rows), key(6))
    p = batch["mask_probability"]
    assert 0.3 <= p.min() < 0.3001
    assert 0.7999 < p.max() < 0.8
    assert p.mean() == pytest.approx(0.55, abs=1e-3)
    weights = batch["loss_weight"].sum(dtype=np.float64)
    assert weights / batch["denominator"] == pytest.approx(1, abs=4 * math.sqrt(1 / p.size))


def test_eos_fills_the_last_block_of_an_answer():
    stored = stored_dialogues([[3, 4], [2, 1, 4], [2, 6], []], 12, range(4))
    batch = Block(block_size=4).arrays(stored, key(1))
    assert batch["clean"][0, 6:].tolist() == [9, EOS, 0, 0, 0, 0]
    assert np.flatnonzero(batch["maskable"][0]).tolist() == [3, 4, 5, 6, 7]
    assert np.flatnonzero(batch["maskable"][1]).tolist() == [2]  # it ends with a prompt: not filled up
    assert np.flatnonzero(batch["maskable"][2]).tolist() == [2, 3, 4, 5, 6, 7]
    assert not batch["maskable"][3].any()
    assert batch["cu_seqlens"].tolist() == [0, 8, 12, 19, 24, 32, 36, 48]


def test_the_block_size_follows_its_schedule():
    params = Block(block_size=((0, 1), (16, 4), (48, 16), (64, 4)))
    sizes = [params.size_of((first, first + 8), 16) for first in range(0, 80, 8)]
    assert sizes == [1, 1, 4, 4, 4, 4, 16, 16, 4, 4]


def test_the_schedule_through_the_loader(run):
    params = Block(block_size=((0, 1), (16, 4), (32, 16)))
    shapes = [
        (batch.block_size, batch.input_ids.shape) for batch in open_mixture(run.path, batch_size=8, objective=params)
    ]
    assert shapes[:5] == [(1, (8, 32)), (1, (8, 32)), (4, (8, 32)), (4, (8, 32)), (16, (8, 16))]
    with pytest.raises(
        ValueError, match="block_size changes at global row 16, within a batch of 10 rows: let it change at 10"
    ):
        next(iter(open_mixture(run.path, batch_size=10, objective=params)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"least": 0.0}, "epsilon is 0.0"),
        ({"least": 0.5, "most": 0.5}, "give 0 < least < most <= 1"),
        ({"weight": "none"}, "weight is 'none'"),
        ({"levels": "none"}, "levels are 'none'"),
        ({"pairs": True}, "give most below 1"),
        ({"block_size": ((1, 4),)}, "rows rising from 0"),
        ({"block_size": ((0, 4), (0, 8))}, "rows rising from 0"),
        ({"block_size": 0}, "give sizes of at least 1 token"),
    ],
)
def test_bad_parameters_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Block(**fields)


def test_a_size_that_does_not_divide_the_row_is_refused():
    with pytest.raises(ValueError, match="block_size 5 does not divide rows of 16 tokens: give 4"):
        Block(block_size=5).arrays(whole_rows(16, [0]), key(0))


@pytest.mark.parametrize(
    ("length", "spans", "total"), [(8, [(0, 8)], 96), (16, [(0, 16)], 320), (16, [(0, 8), (8, 16)], 192)]
)
def test_golden_counts_of_the_attention_mask(length, spans, total):
    torch = pytest.importorskip("torch")
    from tests.loader.gathered import batch_of
    from tokenmill.pipeline.loader.torch_adapter import mask_mod

    batch = batch_of(Block(block_size=4), gathered([spans], length, [3]))
    places = torch.arange(2 * length)
    dense = mask_mod(batch)(torch.zeros((), dtype=torch.int64), None, places[:, None], places[None, :])
    assert int(dense.sum()) == total
    document = np.searchsorted([end for _, end in spans], np.arange(length), side="right")
    for query in range(2 * length):
        for at in range(2 * length):
            q, k = query % length, at % length
            own = query // length == at // length and q // 4 == k // 4
            earlier = at >= length and k // 4 < q // 4
            assert dense[query, at] == ((own or earlier) and document[q] == document[k])
    if length == 8:
        assert dense.sum(dim=1).tolist() == [4, 4, 4, 4, 8, 8, 8, 8] * 2
