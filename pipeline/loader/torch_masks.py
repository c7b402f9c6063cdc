"""Noise drawn on the device that trains: torch functions that draw what `noise` draws, bit for bit.

Philox4x32-10 in int64 arithmetic. A 32-bit word travels in an int64; a product of two would not fit, so it is made of
two 16-bit halves of one factor and nothing overflows, which no compiler may then take for impossible. All are
elementwise operations on [B, L / 4] words: `torch.compile` makes one kernel of them.

p and 1/p are computed in float64 and rounded once to float32, which gives the correctly rounded quotient (53 ≥ 2·24 + 2
bits; Figueroa, "When is double rounding innocuous?", 1995), as the reference has it: weights are bit-equal too.
"""

from typing import NamedTuple

from tokenmill.pipeline.loader.noise import PURPOSE_MASK
from tokenmill.pipeline.loader.torch_adapter import TorchBatch, torch

_LOW = 0xFFFFFFFF


class Corrupted(NamedTuple):
    """What `noise.corrupt` returns, as tensors [B, L] on the device of `clean`.

    Attributes:
        noisy: int64.
        masked: bool.
        mask_probability: float32.
        loss_weight: float32.
    """

    noisy: torch.Tensor
    masked: torch.Tensor
    mask_probability: torch.Tensor
    loss_weight: torch.Tensor


def corrupt(
    seed: int,
    rows: torch.Tensor,
    clean: torch.Tensor,
    maskable: torch.Tensor,
    noise_threshold: torch.Tensor,
    mask_token_id: int,
    cu_seqlens: torch.Tensor | None = None,
) -> Corrupted:
    """Mask the rows of a batch where they lie; bit-equal to `noise.corrupt`.

    Args:
        seed: 64-bit noise seed.
        rows: int64 [B], global row numbers.
        clean: int64 [B, L].
        maskable: bool [B, L].
        noise_threshold: int64, P (0 … 2^32 - 1) of each token, [B, L]; or, with `cu_seqlens`, of each segment, [S].
        mask_token_id: what stands at masked places.
        cu_seqlens: int32 [S + 1], segment borders in the flat batch, 0 … B·L.
    """
    if cu_seqlens is not None:
        noise_threshold = per_token(cu_seqlens, noise_threshold, clean.shape)
    masked = maskable & (draw(seed, PURPOSE_MASK, rows, clean.shape[1]) < noise_threshold)
    probability = (noise_threshold.double() / (1 << 32)).float()
    weight = torch.where(masked, (1.0 / probability.double()).float(), 0.0)
    return Corrupted(torch.where(masked, mask_token_id, clean), masked, probability, weight)


def with_masks(batch: TorchBatch) -> TorchBatch:
    """A batch of `open_mixture(…, masks="device")` with the fields that the loader would have drawn, on its device.

    Args:
        batch: the tensors of a `KeyedBatch`, moved to where they are wanted.

    Returns:
        The same with `noisy`, `masked`, `mask_probability` and `loss_weight`, [B, L], bit-equal to the loader's; with
        `block` also `input_ids` and `input_position_ids`.

    Raises:
        ValueError: the batch has its masks already.
    """
    if "noise_borders" not in batch:
        raise ValueError("the batch has its masks already: open the mixture with masks='device' to draw them here")
    clean, positions = batch["clean"], batch["position_ids"]
    rows = torch.as_tensor(batch["rows"], device=clean.device)
    given = (batch["maskable"], batch["noise_threshold"], batch["mask_token_id"])
    noisy, masked, probability, weight = corrupt(batch["noise_seed"], rows, clean, *given, batch["noise_borders"])
    if batch["answer_lengths"] is not None:
        weight = weight / batch["answer_lengths"].clamp(min=1).float()[:, None]
    drawn = {"noisy": noisy, "masked": masked, "mask_probability": probability, "loss_weight": weight}
    if batch["block_size"] is not None:
        both = batch["block_size"] < clean.shape[1]
        drawn["input_ids"] = torch.cat([noisy, clean], dim=1) if both else noisy
        drawn["input_position_ids"] = torch.cat([positions, positions], dim=1) if both else positions
    return TorchBatch({**batch, **drawn})


def per_token(cu_seqlens: torch.Tensor, values: torch.Tensor, shape: tuple[int, ...] | torch.Size) -> torch.Tensor:
    """Each token's segment's value: [B, L] of [S], for segments with borders `cu_seqlens` [S + 1] in the flat batch."""
    places = torch.arange(shape[0] * shape[1], device=values.device, dtype=cu_seqlens.dtype)
    segments = torch.searchsorted(cu_seqlens, places, right=True) - 1
    return values[segments].reshape(shape)


def draw(seed: int, purpose: int, rows: torch.Tensor, count: int) -> torch.Tensor:
    """The first `count` draws of each global row for one purpose, as `noise.draw`: int64 [rows, count], below 2^32."""
    groups = torch.arange(-(-count // 4), device=rows.device).expand(rows.shape[0], -1)
    low, high = (rows & _LOW)[:, None].expand_as(groups), (rows >> 32)[:, None].expand_as(groups)
    words = _philox(seed, (groups, torch.full_like(low, purpose), low, high))
    return torch.stack(words, dim=-1).flatten(1)[:, :count]


def _philox(seed: int, counter: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Philox4x32-10 of four words, each a tensor of any one shape."""
    c0, c1, c2, c3 = counter
    k0, k1 = seed & _LOW, seed >> 32
    for _ in range(10):
        high_a, low_a = _product(0xD2511F53, c0)
        high_b, low_b = _product(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high_b ^ c1 ^ k0, low_b, high_a ^ c3 ^ k1, low_a
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return c0, c1, c2, c3


def _product(factor: int, word: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low 32 bits of a 32-bit factor times 32-bit words."""
    low = (word & 0xFFFF) * factor
    high = (word >> 16) * factor + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)
