"""LLaDA's supervised fine-tuning (arXiv 2502.09992): one dialogue a row, the answer and the EOS behind it masked.

    t ~ U[0, 1] a row, p = (1 - ε)·t + ε, masked with probability p from the answer's start to the row's end,
    loss = (1 / B) Σ_b Σ_i masked · CE / (p · answer_length_b), answer_length = L - prompt_length

An n-turn dialogue is n pairs of prompt and answer, of which (seed, global row) draws one a visit: all before the turn's
answer is its prompt, what follows is dropped. EOS fills the row, is attended to, masked and in the loss; the paper saw
that this makes a model stop early, so pack rows not much longer than their answers. The reference pads to the
longest row of a batch; L here is the stored one, so that a row does not depend on those it is batched with.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tokenmill.manifests.shards import DIALOGUE
from tokenmill.pipeline.loader import noise
from tokenmill.pipeline.loader.answers import drawn_turns
from tokenmill.pipeline.loader.batch import Batch, Gathered, LladaSftBatch, NoiseKey, parameters_hash
from tokenmill.pipeline.loader.masking import masked_fields, segment_fields
from tokenmill.pipeline.loader.noise_levels import INDEPENDENT, NoiseLevels


@dataclass(frozen=True)
class LladaSft:
    """Parameters of the objective.

    Attributes:
        epsilon: least mask probability.
        noise_levels: where t comes from.
    """

    batch_type: ClassVar[type[Batch]] = LladaSftBatch
    needs_mask: ClassVar[bool] = True
    needs_pieces: ClassVar[bool] = False
    needs_eos: ClassVar[bool] = True
    layouts: ClassVar[tuple[str, ...]] = (DIALOGUE,)
    masks_on_device: ClassVar[bool] = True

    epsilon: float = 1e-3
    noise_levels: NoiseLevels = INDEPENDENT

    def __post_init__(self) -> None:
        noise.epsilon_units(self.epsilon)

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of all that decides the noise of a row, but for the seed."""
        return parameters_hash("llada_sft/1", self, mask_token_id=mask_token_id)

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of a LladaSftBatch; in `gathered.clean`, what follows the answer is overwritten.

        Rows without an answer, as those of padding, have nothing to mask and no share in the denominator.

        Raises:
            ValueError: the mask id occurs in a row; names the row and the place.
        """
        clean, rows = gathered.clean, gathered.rows
        assert gathered.answers is not None
        length = clean.shape[1]
        begins, ends = drawn_turns(gathered.answers, rows, noise_key.seed)
        places = np.arange(length)
        clean[(places >= ends[:, None]) & (begins < length)[:, None]] = noise_key.eos_id
        borders = np.arange(0, clean.size + 1, length, dtype=np.int32)
        noise_threshold = noise.thresholds(self.noise_levels.draws(gathered, noise_key.seed, 1)[:, 0], self.epsilon)
        answer_lengths = length - begins
        fields = {
            **masked_fields(clean, rows, places >= begins[:, None], borders, noise_threshold, noise_key),
            **segment_fields(borders, length),
            "prompt_lengths": begins,
            "answer_lengths": answer_lengths,
            "denominator": int(np.count_nonzero(answer_lengths)),
        }
        if not noise_key.on_device:
            fields["loss_weight"] /= np.maximum(answer_lengths, 1).astype(np.float32)[:, None]
        return fields
