"""Integer noise against a slow Philox of Python integers, and the figures of OBJECTIVES."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.pipeline.loader import noise

SEEDS = st.integers(0, 2**64 - 1)
EPSILON = 1e-3


def slow_philox(counter: list[int], key: int) -> list[int]:
    """Philox4x32-10, word for word from the paper."""
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [b >> 32 ^ counter[1] ^ k0, b & 0xFFFFFFFF, a >> 32 ^ counter[3] ^ k1, a & 0xFFFFFFFF]
        k0, k1 = k0 + 0x9E3779B9 & 0xFFFFFFFF, k1 + 0xBB67AE85 & 0xFFFFFFFF
    return counter


def slow_draw(seed: int, purpose: int, row: int, pos: int) -> int:
    return slow_philox([pos // 4, purpose, row & 0xFFFFFFFF, row >> 32], seed)[pos % 4]


def test_golden_words():
    """Counter 0, key 0; and the other known answers of Random123 (kat_vectors)."""
    expected = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert slow_philox([0, 0, 0, 0], 0) == expected
    assert noise.draw(0, 0, np.zeros(1, np.int64), 4).tolist() == [expected]
    ones = 0xFFFFFFFF
    assert slow_philox([ones] * 4, 2**64 - 1) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    digits = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert slow_philox(digits, 0x299F31D0A4093822) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@settings(deadline=None)  # kernels are compiled on first use
@given(SEEDS, st.integers(0, 2), st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4), st.integers(1, 23))
def test_draws_equal_slow_philox(seed, purpose, rows, count):
    found = noise.draw(seed, purpose, np.array(rows, np.int64), count)
    assert found.dtype == np.uint32
    assert found.tolist() == [[slow_draw(seed, purpose, row, pos) for pos in range(count)] for row in rows]


@settings(deadline=None)  # kernels are compiled on first use
@given(SEEDS, st.data())
def test_corrupt_equals_slow_loop(seed, data):
    length, size = data.draw(st.integers(1, 21)), data.draw(st.integers(1, 4))
    rows = np.array(data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=size, max_size=size)), np.int64)
    inside = data.draw(st.sets(st.integers(1, size * length - 1))) if size * length > 1 else set()
    borders = sorted({*inside, *range(0, size * length + 1, length)})
    limits = noise.thresholds(noise.draw(seed, 9, np.arange(len(borders) - 1), 1)[:, 0], EPSILON)
    clean = np.arange(size * length, dtype=np.int64).reshape(size, length)
    maskable = noise.draw(seed, 8, rows, length) % 4 > 0
    found = noise.corrupt(seed, rows, clean, maskable, np.array(borders, np.int32), limits, -7)
    for place in range(size * length):
        row, pos = divmod(place, length)
        limit = int(limits[sum(border <= place for border in borders) - 1])
        hit = bool(maskable[row, pos]) and slow_draw(seed, noise.PURPOSE_MASK, int(rows[row]), pos) < limit
        p = np.float32(limit / 2**32)
        expected = (-7 if hit else place, hit, p, np.float32(1) / p if hit else np.float32(0))
        assert tuple(array[row, pos] for array in found) == expected
    assert [array.dtype for array in found] == [np.int64, np.bool_, np.float32, np.float32]


@given(st.integers(0, 2**32 - 1), st.floats(2**-31, 0.999))
def test_thresholds_equal_python_integers(draw, epsilon):
    least = round(epsilon * 2**32)
    assert noise.thresholds(np.array([draw], np.uint32), epsilon).tolist() == [least + ((2**32 - least) * draw >> 32)]


def test_threshold_borders():
    assert noise.thresholds(np.array([0, 2**32 - 1], np.uint32), EPSILON).tolist() == [4_294_967, 2**32 - 1]


@pytest.mark.parametrize("epsilon", [0.0, -0.1, 1.0, 1e-12])
def test_epsilon_out_of_range_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon is"):
        noise.thresholds(np.zeros(1, np.uint32), epsilon)


@given(st.integers(0, 2**32 - 1), st.integers(1, 2**31))
def test_uniform_from_one_equals_python_integers(draw, n):
    found = int(noise.uniform_from_one(np.array([draw], np.uint32), n)[0])
    assert found == 1 + (draw * n >> 32)
    assert 1 <= found <= n


def standard_error(sample: np.ndarray) -> float:
    return float(sample.std()) / math.sqrt(sample.size)


def test_mask_probability_has_its_mean_and_inverse_mean():
    """E[p] = 0.5005 and E[1/p] = ln(1000)/0.999 = 6.914670, within 4 standard errors of 10^6 rows."""
    p = noise.thresholds(noise.draw(5, noise.PURPOSE_NOISE_LEVEL, np.arange(1_000_000), 1)[:, 0], EPSILON) / 2**32
    assert p.mean() == pytest.approx(0.5005, abs=4 * standard_error(p))
    assert (1 / p).mean() == pytest.approx(6.914670, abs=4 * standard_error(1 / p))


@pytest.mark.parametrize(("length", "size"), [(256, 20_000), (32, 200_000)])
def test_loss_weights_average_one(length, size):
    """Mean of Σ(mask/p)/L: 1, with standard deviation √(5.914670/L), 0.1520 at L = 256."""
    masked, weight = corrupted(length, size)
    np.testing.assert_array_equal(weight > 0, masked)
    means = weight.mean(axis=1, dtype=np.float64)
    assert means.mean() == pytest.approx(1.0, abs=4 * standard_error(means))
    squares = (means - 1) ** 2
    assert squares.mean() == pytest.approx(5.914670 / length, abs=4 * standard_error(squares))


def test_rows_without_a_masked_token():
    """P(no token masked) is 2.93 % at L = 32."""
    masked, _ = corrupted(32, 200_000)
    assert (~masked.any(axis=1)).mean() == pytest.approx(0.0293, abs=4 * math.sqrt(0.0293 / 200_000) + 0.00005)


def corrupted(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """`masked` and `loss_weight` of `size` rows, one segment each."""
    rows = np.arange(size)
    clean = np.zeros((size, length), np.int64)
    borders = np.arange(0, clean.size + 1, length, dtype=np.int32)
    limits = noise.thresholds(noise.draw(5, noise.PURPOSE_NOISE_LEVEL, rows, 1)[:, 0], EPSILON)
    _, masked, _, weight = noise.corrupt(5, rows, clean, clean == 0, borders, limits, 1)
    return masked, weight


@pytest.mark.parametrize(("length", "expected"), [(32, 0.0293), (4096, 4.1e-6)])
def test_how_often_no_token_is_masked_exactly(length, expected):
    """The mean of (1 - p)^L over noise levels that lie evenly in 0 … 1."""
    draws = np.linspace(0, 2**32 - 1, 1 << 20).astype(np.uint32)
    p = noise.thresholds(draws, EPSILON) / 2**32
    assert ((1 - p) ** length).mean() == pytest.approx(expected, rel=0.01)
