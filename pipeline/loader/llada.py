"""LLaDA's pretraining objective (arXiv 2502.09992, ML-GSAI/LLaDA `GUIDELINES.md`): mask each row with one probability.

    t ~ U[0, 1] a row, p = (1 - ε)·t + ε, masked with probability p, loss = Σ w·CE / (B·L), w = masked / p

With probability 0.01 a row's length is U{1..L}. The reference draws that once a batch and throws the tail away; here it
is drawn a row, and the tail stays as a segment of its own with the row's p (or becomes padding, `tail="drop"`). With
every CE at 1 the expected loss is 1 on rows without padding; a row's Σ w/L has standard deviation √(5.914670/L).

Rows whose pieces were packed at multiples of a block (`sequences: {align: …}`) have padding between them, which
attention must not reach: there each piece, and each gap, is a segment of its own, with the row's p.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.shards import PRETRAINING
from tokenmill.pipeline.loader import noise
from tokenmill.pipeline.loader.batch import Batch, Gathered, MaskedBatch, NoiseKey, parameters_hash
from tokenmill.pipeline.loader.masking import masked_fields, segment_fields
from tokenmill.pipeline.loader.noise_levels import INDEPENDENT, NoiseLevels
from tokenmill.pipeline.loader.segments import row_borders, row_ends, token_places, with_pieces

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Llada:
    """Parameters of the objective.

    Attributes:
        epsilon: least mask probability.
        random_length_probability: how often a row's length is drawn from U{1..L}.
        tail: what becomes of the rest of such a row: a second "segment", or padding ("drop").
        noise_levels: where t comes from.
    """

    batch_type: ClassVar[type[Batch]] = MaskedBatch
    needs_mask: ClassVar[bool] = True
    needs_pieces: ClassVar[bool] = False
    needs_eos: ClassVar[bool] = False
    layouts: ClassVar[tuple[str, ...]] = (PRETRAINING,)
    masks_on_device: ClassVar[bool] = True

    epsilon: float = 1e-3
    random_length_probability: float = 0.01
    tail: Literal["segment", "drop"] = "segment"
    noise_levels: NoiseLevels = INDEPENDENT

    def __post_init__(self) -> None:
        noise.epsilon_units(self.epsilon)
        if not 0 <= self.random_length_probability <= 1:
            raise ValueError(f"random_length_probability is {self.random_length_probability}: give 0 … 1")
        if self.tail not in ("segment", "drop"):
            raise ValueError(f"tail is {self.tail!r}: give 'segment' or 'drop'")

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of all that decides the noise of a row, but for the seed."""
        return parameters_hash("llada/1", self, mask_token_id=mask_token_id)

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of a MaskedBatch; in `gathered.clean`, dropped tails are overwritten.

        Raises:
            ValueError: the mask id occurs in a row; names the row and the place.
        """
        clean, pieces, rows = gathered.clean, gathered.pieces, gathered.rows
        length = clean.shape[1]
        ends = row_ends(gathered.valid, pieces, gathered.aligned)
        cuts = _cuts(self, rows, ends, length, noise_key.seed)
        whole_ends = ends
        if self.tail == "drop":
            ends, cuts = np.where(cuts > 0, cuts, ends), np.zeros_like(cuts)
        if self.tail == "drop":
            places = np.arange(length)
            clean[(places < whole_ends[:, None]) & (places >= ends[:, None])] = noise_key.padding_id
        maskable = token_places(ends, length, pieces, gathered.aligned)
        cu_seqlens = row_borders(cuts, ends, length)
        if pieces is not None and gathered.aligned:
            cu_seqlens = with_pieces(cu_seqlens, pieces, ends, length)
        drawn = self.noise_levels.draws(gathered, noise_key.seed, 1)[:, 0]
        noise_threshold = noise.thresholds(drawn, self.epsilon)[cu_seqlens[:-1] // length]
        return {
            **masked_fields(clean, rows, maskable, cu_seqlens, noise_threshold, noise_key),
            **segment_fields(cu_seqlens, length),
            "denominator": int(np.count_nonzero(rows >= 0)) * length,
        }


def _cuts(params: Llada, rows: I64, ends: I64, length: int, seed: int) -> I64:
    """Where each row is cut: U{1..L} with the given probability; 0 for a row left whole or cut in its padding."""
    drawn = noise.draw(seed, noise.PURPOSE_LENGTH, rows, 2)
    chosen = drawn[:, 0].astype(np.int64) < round(params.random_length_probability * (1 << 32))
    cuts = np.where(chosen, noise.uniform_from_one(drawn[:, 1], length), 0)
    return np.where(cuts < ends, cuts, 0)
