"""Dream's objective (arXiv 2508.15487): the autoregressive shift kept, and CART weights in place of 1/t.

    t ~ U[0, 1] a row, p = (1 - ε)·t + ε; a masked token weighs what the clean ones near it tell:
    w_n = masked_n · Σ_{j not masked} K[n, j], K[i, j] = ½ · p_c · (1 - p_c)^(|i - j| - 1), K[i, i] = 0,
    loss = Σ w · CE / (masked tokens), logits shifted right by one: cat(logits[:, :1], logits[:, :-1])

The sum stays within the document. Its first token, for which the shift leaves no logit, cannot be masked here: the
reference masks and ignores it. In dialogues the answers of all turns can be masked, no other tokens. Sources say p_c is
0.1, 0.3 or 0.8, and have no ε; the reference's cut-off by batch hangs on who shares a batch, and is not offered.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenmill.kernels import kernel
from tokenmill.manifests.shards import DIALOGUE, PRETRAINING
from tokenmill.pipeline.loader import noise
from tokenmill.pipeline.loader.batch import Batch, Gathered, MaskedBatch, NoiseKey, parameters_hash
from tokenmill.pipeline.loader.masking import masked_fields, segment_fields
from tokenmill.pipeline.loader.noise_levels import INDEPENDENT, NoiseLevels
from tokenmill.pipeline.loader.segments import by_document

BOOL = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Dream:
    """Parameters of the objective.

    Attributes:
        epsilon: least mask probability.
        cart_probability: p_c, how fast a clean token's worth falls with its distance.
        noise_levels: where t comes from.
    """

    batch_type: ClassVar[type[Batch]] = MaskedBatch
    needs_mask: ClassVar[bool] = True
    needs_pieces: ClassVar[bool] = True
    needs_eos: ClassVar[bool] = False
    layouts: ClassVar[tuple[str, ...]] = (PRETRAINING, DIALOGUE)
    masks_on_device: ClassVar[bool] = False

    epsilon: float = 1e-3
    cart_probability: float = 0.1
    noise_levels: NoiseLevels = INDEPENDENT

    def __post_init__(self) -> None:
        noise.epsilon_units(self.epsilon)
        if not 0 < self.cart_probability < 1:
            raise ValueError(f"cart_probability is {self.cart_probability}: give p_c above 0 and below 1")

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of all that decides the noise of a row, but for the seed."""
        return parameters_hash("dream/1", self, mask_token_id=mask_token_id)

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of a MaskedBatch; a segment a document.

        Raises:
            ValueError: the mask id occurs in a row; names the row and the place.
        """
        clean, rows = gathered.clean, gathered.rows
        length = clean.shape[1]
        borders, maskable = by_document(gathered)
        levels = noise.thresholds(self.noise_levels.draws(gathered, noise_key.seed, 1)[:, 0], self.epsilon)
        fields = {
            **masked_fields(clean, rows, maskable, borders, levels[borders[:-1] // length], noise_key),
            **segment_fields(borders, length),
        }
        masked = fields["masked"]
        cart_weights(masked.reshape(-1), borders, self.cart_probability, fields["loss_weight"].reshape(-1))
        return {**fields, "denominator": int(np.count_nonzero(masked))}


@kernel
def cart_weights(masked: BOOL, borders: npt.NDArray[np.int32], probability: float, weight: F32) -> None:
    """Write w of each token of the flat batch, masked bool [T], into `weight`, float32 [T]; segments lie in `borders`.

    A sum over the clean tokens on each side is what it was one token before, (1 - p_c) times, and that token.
    """
    fade = 1.0 - probability
    for segment in range(borders.shape[0] - 1):
        start, end = np.int64(borders[segment]), np.int64(borders[segment + 1])
        near = 0.0
        for place in range(start, end):
            weight[place] = np.float32(0.0)
            if masked[place]:
                weight[place] = np.float32(near)
            near = near * fade + (0.0 if masked[place] else 1.0)
        near = 0.0
        for back in range(end - start):
            at = end - 1 - back
            if masked[at]:
                weight[at] = np.float32(0.5 * probability * (np.float64(weight[at]) + near))
            near = near * fade + (0.0 if masked[at] else 1.0)
