"""Noise in integers: the same draws on every device, for any number of ranks.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) under key = the 64-bit seed and
counter = (⌊pos/4⌋, purpose, k low, k high), of whose four words position `pos` takes word pos mod 4; k is the global
row, pos the place in the stored row. Every decision is a comparison of 32-bit integers:

    mask probability   P = E + ((2^32 - E) · T >> 32), T a draw, E = round(ε · 2^32)
    masked             draw < P
    p = float32(P / 2^32), loss weight = 1 / p where masked, else 0 (float32)
    U{1..n}            1 + (draw · n >> 32)
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.kernels import helper

# What a draw is for: one number each, never given to another purpose, so that draws of one row never meet.
PURPOSE_MASK = 0  # pos = place in the row
PURPOSE_NOISE_LEVEL = 1  # pos = segment or block of the row
PURPOSE_LENGTH = 2  # pos 0: whether the row is cut; pos 1: where
PURPOSE_TURN = 3  # pos 0: which turn of a dialogue
PURPOSE_TOKEN = 4  # pos = place in the row: which token stands where it is corrupted by another
PURPOSE_CANVAS = 5  # pos 0: which block of a canvas is scored

U32 = npt.NDArray[np.uint32]
_WORD = 1 << 32
_LOW = 0xFFFFFFFF


def epsilon_units(epsilon: float) -> int:
    """E: the least mask probability in units of 2^-32. ValueError unless 0 < ε < 1 (at t = 0, ε = 0 gives 0/0)."""
    units = round(epsilon * _WORD)
    if not 1 <= units < _WORD:
        raise ValueError(
            f"epsilon is {epsilon}: give the least mask probability, above 2^-32 and below 1 (papers: 1e-3)"
        )
    return units


def thresholds(draws: U32, epsilon: float, most: float = 1.0) -> U32:
    """P of each noise-level draw T: uint32, from E to below `most` · 2^32. A token is masked when its draw < P."""
    least = np.uint64(epsilon_units(epsilon))
    span = np.uint64(round(most * _WORD)) - least
    return (least + (span * draws.astype(np.uint64) >> np.uint64(32))).astype(np.uint32)


def probabilities(noise_threshold: U32) -> npt.NDArray[np.float32]:
    """Mask probabilities, p = float32(P / 2^32)."""
    return (noise_threshold / np.float64(_WORD)).astype(np.float32)


def uniform_from_one(draws: U32, n: int | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """U{1..n} of each draw: 1 + (draw · n >> 32), for n below 2^32, one for all or one a draw."""
    return 1 + (draws.astype(np.uint64) * np.asarray(n, np.uint64) >> np.uint64(32)).astype(np.int64)


def draw(seed: int, purpose: int, rows: npt.NDArray[np.int64], count: int) -> U32:
    """The first `count` draws of each global row for one purpose: uint32 [rows, count]."""
    words = np.empty((rows.size, -(-count // 4) * 4), np.uint32)
    _draw(np.uint64(seed), np.uint64(purpose), rows, words)
    return words[:, :count]


def corrupt(
    seed: int,
    rows: npt.NDArray[np.int64],
    clean: npt.NDArray[np.int64],
    maskable: npt.NDArray[np.bool_],
    cu_seqlens: npt.NDArray[np.int32],
    noise_threshold: U32,
    mask_token_id: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mask the rows of a batch, each segment with its own probability.

    Args:
        seed: 64-bit noise seed.
        rows: int64 [B], global row numbers.
        clean: int64 [B, L].
        maskable: bool [B, L].
        cu_seqlens: int32 [S + 1], segment borders in the flat batch, 0 … B·L; no segment crosses rows.
        noise_threshold: uint32 [S], P of each segment.
        mask_token_id: what stands at masked places.

    Returns:
        noisy int64, masked bool, mask_probability float32, loss_weight float32; all [B, L].
    """
    # One allocation: the allocator hands four freed arrays back to the system and pays for fresh pages every batch
    # (58 million tokens/s), while one block is kept or comes in huge pages (above 1,000).
    size, length = clean.size, clean.shape[1]
    block = np.empty(17 * size, np.uint8)
    noisy = block[: 8 * size].view(np.int64).reshape(clean.shape)
    probability, weight = block[8 * size : 16 * size].view(np.float32).reshape(2, *clean.shape)
    masked = block[16 * size :].view(np.bool_).reshape(clean.shape)
    drawn = np.empty(-(-length // 4) * 4, np.uint32)
    out = (noisy.reshape(-1), masked.reshape(-1), probability.reshape(-1), weight.reshape(-1))
    flat = (clean.reshape(-1), maskable.reshape(-1), cu_seqlens, noise_threshold)
    _corrupt(np.uint64(seed), rows, length, *flat, mask_token_id, drawn, *out)
    return noisy, masked, probability, weight


@helper
def _words(seed, purpose, row, out):  # type: ignore[no-untyped-def]
    """Fill `out` (a multiple of 4 long) with the draws of one row. 32-bit words travel in uint64: products fit."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    for group in range(out.size // 4):
        c0, c1, c2, c3 = np.uint64(group), purpose, row & low, row >> half
        k0, k1 = seed & low, seed >> half
        for _ in range(10):
            a = np.uint64(0xD2511F53) * c0
            b = np.uint64(0xCD9E8D57) * c2
            c0, c1, c2, c3 = (b >> half) ^ c1 ^ k0, b & low, (a >> half) ^ c3 ^ k1, a & low
            k0 = (k0 + np.uint64(0x9E3779B9)) & low
            k1 = (k1 + np.uint64(0xBB67AE85)) & low
        out[4 * group] = c0
        out[4 * group + 1] = c1
        out[4 * group + 2] = c2
        out[4 * group + 3] = c3


@njit(nogil=True, cache=True)
def _draw(seed, purpose, rows, out):  # type: ignore[no-untyped-def]
    for index in range(rows.size):
        _words(seed, purpose, np.uint64(rows[index]), out[index])


@njit(nogil=True, cache=True)
def _corrupt(  # type: ignore[no-untyped-def]
    seed, rows, length, clean, maskable, borders, limits, mask_id, drawn, noisy, masked, probability, weight
):
    at = -1
    for segment in range(limits.size):
        start, end = np.int64(borders[segment]), np.int64(borders[segment + 1])
        if start // length != at:
            at = start // length
            _words(seed, np.uint64(PURPOSE_MASK), np.uint64(rows[at]), drawn)
        here = slice(start, end)
        limit = limits[segment]
        p = np.float32(np.float64(limit) / 4294967296.0)
        probability[here] = p
        _segment(
            drawn[start - at * length : end - at * length],
            limit,
            np.float32(1.0) / p,
            mask_id,
            clean[here],
            maskable[here],
            masked[here],
            noisy[here],
            weight[here],
        )


@helper
def _segment(drawn, limit, inverse, mask_id, clean, maskable, masked, noisy, weight):  # type: ignore[no-untyped-def]
    """One loop an output and no branch inside: LLVM turns each into vector code (ten times one loop for all)."""
    for i in range(drawn.size):
        masked[i] = maskable[i] & (drawn[i] < limit)
    for i in range(drawn.size):
        noisy[i] = mask_id if masked[i] else clean[i]
    for i in range(drawn.size):
        weight[i] = inverse if masked[i] else np.float32(0.0)
