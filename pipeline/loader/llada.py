"""LLaDA's pretraining objective (arXiv 2502.09992, ML-GSAI/LLaDA `GUIDELINES.md`): mask each row with one probability.

    t ~ U[0, 1] a row, p = (1 - ε)·t + ε, masked with probability p, loss = Σ w·CE / (B·L), w = masked / p

With probability 0.01 a row's length is U{1..L}. The reference draws that once a batch and throws the tail away; here it
is drawn a row, and the tail stays as a segment of its own with the row's p (or becomes padding, `tail="drop"`). With
every CE at 1 the expected loss is 1 on rows without padding; a row's Σ w/L has standard deviation √(5.914670/L).

Rows whose pieces were packed at multiples of a block (`sequences: {align: …}`) have padding between them, which
attention must not reach: there each piece, and each gap, is a segment of its own, with the row's p.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xxhash

from tokenmill.pipeline.loader import noise
from tokenmill.pipeline.loader.reader import Pieces

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Llada:
    """Parameters of the objective.

    Attributes:
        epsilon: least mask probability.
        random_length_probability: how often a row's length is drawn from U{1..L}.
        tail: what becomes of the rest of such a row: a second "segment", or padding ("drop").
    """

    epsilon: float = 1e-3
    random_length_probability: float = 0.01
    tail: Literal["segment", "drop"] = "segment"

    def __post_init__(self) -> None:
        noise.epsilon_units(self.epsilon)
        if not 0 <= self.random_length_probability <= 1:
            raise ValueError(f"random_length_probability is {self.random_length_probability}: give 0 … 1")
        if self.tail not in ("segment", "drop"):
            raise ValueError(f"tail is {self.tail!r}: give 'segment' or 'drop'")

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of all that decides the noise of a row, but for the seed."""
        value = {"objective": "llada/1", "mask_token_id": mask_token_id, **asdict(self)}
        return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch: B rows of L tokens in S segments.

    Attributes:
        clean: int64 [B, L], the stored tokens.
        noisy: int64 [B, L], `clean` with the mask id at masked places.
        labels: int64 [B, L], `clean` itself.
        masked: bool [B, L], within `maskable`.
        maskable: bool [B, L], all but padding.
        mask_probability: float32 [B, L], p of each token's segment, padding too (never 0).
        loss_weight: float32 [B, L], 1/p where masked, else 0.
        noise_threshold: uint32 [S], P of each segment; p = P / 2^32.
        cu_seqlens: int32 [S + 1], segment borders in the flat batch, 0 … B·L: a row's first tokens, its tail
            where it was cut, its padding; in aligned rows each piece and each gap.
        max_seqlen: longest segment.
        position_ids: int64 [B, L], from 0 in each segment.
        rows: int64 [B], global row numbers: what this batch is, for ever, in this plan.
        component: int32 [B], index into `component_names`.
        component_names: of all the mixture's components.
        epoch: int32 [B], of the row's component.
        stored_row: int64 [B], row of the component in stored order.
        denominator: this rank's share of the loss's denominator, B·L tokens.
        state: the loader's state once this batch is consumed.
    """

    clean: I64
    noisy: I64
    labels: I64
    masked: npt.NDArray[np.bool_]
    maskable: npt.NDArray[np.bool_]
    mask_probability: npt.NDArray[np.float32]
    loss_weight: npt.NDArray[np.float32]
    noise_threshold: npt.NDArray[np.uint32]
    cu_seqlens: npt.NDArray[np.int32]
    max_seqlen: int
    position_ids: I64
    rows: I64
    component: npt.NDArray[np.int32]
    component_names: tuple[str, ...]
    epoch: npt.NDArray[np.int32]
    stored_row: I64
    denominator: int
    state: dict[str, Any]


def noisy_rows(
    params: Llada,
    clean: I64,
    valid: npt.NDArray[np.int32],
    pieces: Pieces | None,
    rows: I64,
    *,
    noise_seed: int,
    mask_token_id: int,
    padding_id: int | None,
) -> dict[str, Any]:
    """The objective's fields of a Batch.

    Args:
        params: the objective.
        clean: int64 [B, L]; dropped tails are overwritten.
        valid: int32 [B], tokens of each row that are not padding.
        pieces: where they stand in aligned rows; None: they come first.
        rows: int64 [B], global row numbers.
        noise_seed: 64-bit.
        mask_token_id: must not occur in `clean`.
        padding_id: what a dropped tail becomes; None if none is dropped.

    Raises:
        ValueError: the mask id occurs in a row; names the row and the place.
    """
    _refuse_mask_id(clean, rows, mask_token_id)
    size, length = clean.shape
    ends = valid.astype(np.int64)
    if pieces is not None:
        np.maximum.at(ends, pieces.row, pieces.end)
    cuts = _cuts(params, rows, ends, length, noise_seed)
    whole_ends = ends
    if padding_id is not None:
        ends, cuts = np.where(cuts > 0, cuts, ends), np.zeros_like(cuts)
    places = np.arange(length)
    maskable = places < ends[:, None]
    if padding_id is not None:
        clean[(places < whole_ends[:, None]) & ~maskable] = padding_id
    cu_seqlens = _borders(cuts, ends, length)
    if pieces is not None:
        cu_seqlens = _cut_at_pieces(cu_seqlens, pieces, ends, length)
        _clear_gaps(maskable.reshape(-1), pieces, length)
    row_of = cu_seqlens[:-1] // length
    drawn = noise.draw(noise_seed, noise.PURPOSE_NOISE_LEVEL, rows, 1)[:, 0]
    noise_threshold = noise.thresholds(drawn, params.epsilon)[row_of]
    noisy, masked, probability, weight = noise.corrupt(
        noise_seed, rows, clean, maskable, cu_seqlens, noise_threshold, mask_token_id
    )
    positions = np.tile(places, size)
    for start, end in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True):
        if start % length:
            positions[start:end] -= start % length
    return {
        "clean": clean,
        "noisy": noisy,
        "labels": clean,
        "masked": masked,
        "maskable": maskable,
        "mask_probability": probability,
        "loss_weight": weight,
        "noise_threshold": noise_threshold,
        "cu_seqlens": cu_seqlens,
        "max_seqlen": int(np.diff(cu_seqlens).max()),
        "position_ids": positions.reshape(size, length),
        "denominator": size * length,
    }


def _cuts(params: Llada, rows: I64, ends: I64, length: int, noise_seed: int) -> I64:
    """Where each row is cut: U{1..L} with the given probability; 0 for a row left whole or cut in its padding."""
    drawn = noise.draw(noise_seed, noise.PURPOSE_LENGTH, rows, 2)
    chosen = drawn[:, 0].astype(np.int64) < round(params.random_length_probability * (1 << 32))
    cuts = np.where(chosen, noise.uniform_from_one(drawn[:, 1], length), 0)
    return np.where(cuts < ends, cuts, 0)


def _borders(cuts: I64, ends: I64, length: int) -> npt.NDArray[np.int32]:
    """Segment borders of the flat batch, int32 [S + 1]."""
    inside = np.stack([np.zeros_like(cuts), cuts, ends], axis=1)
    is_border = np.stack([np.ones(cuts.size, np.bool_), cuts > 0, (ends > 0) & (ends < length)], axis=1)
    row_of = np.nonzero(is_border)[0]
    return np.append(row_of * length + inside[is_border], cuts.size * length).astype(np.int32)


def _cut_at_pieces(borders: npt.NDArray[np.int32], pieces: Pieces, ends: I64, length: int) -> npt.NDArray[np.int32]:
    """The borders, and those of all pieces up to the `ends` of their rows; what lies behind an end is one segment."""
    row, place = np.tile(pieces.row, 2), np.concatenate([pieces.start, pieces.end])
    inside = place < ends[row]
    return np.union1d(borders, (row * length + place)[inside]).astype(np.int32)


def _clear_gaps(maskable: npt.NDArray[np.bool_], pieces: Pieces, length: int) -> None:
    """Take the padding between pieces out of what can be masked, in place; the flat batch."""
    begins, ends = pieces.row * length + pieces.start, pieces.row * length + pieces.end
    same_row = pieces.row[1:] == pieces.row[:-1]
    for start, end in zip(ends[:-1][same_row].tolist(), begins[1:][same_row].tolist(), strict=True):
        maskable[start:end] = False


def _refuse_mask_id(clean: I64, rows: I64, mask_token_id: int) -> None:
    """Raise ValueError if the mask id is among the tokens: the model could not tell it from noise."""
    found = clean == mask_token_id
    if found.any():
        row, place = (int(index[0]) for index in np.nonzero(found))
        raise ValueError(
            f"mask_token_id {mask_token_id} occurs in the data, at place {place} of global row {rows[row]}: pass the "
            "id of a token that is in no text, such as one past the vocabulary"
        )
