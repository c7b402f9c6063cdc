"""DiffusionGemma's fine-tuning (NVIDIA-NeMo/Automodel): answers on a canvas of blocks, random tokens for masks.

    t ~ U[ε, 1] a row; on the whole canvas corrupted = draw < t, noisy = where(corrupted, randint(0, vocab_size), clean)
    loss = Σ CE of one block, drawn by (seed, global row), / (its tokens), flat

The canvas begins with the answer and has R′ = 256·⌈R/256⌉ tokens, R those of the answer, its EOS included; EOS fills
it, is attended to and learned. An n-turn dialogue is n pairs of prompt and answer, of which one is drawn, as in
`llada_sft`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.shards import DIALOGUE
from tokenmill.pipeline.loader import noise
from tokenmill.pipeline.loader.answers import drawn_turns
from tokenmill.pipeline.loader.batch import Batch, CanvasBatch, Gathered, NoiseKey, parameters_hash
from tokenmill.pipeline.loader.masking import segment_fields
from tokenmill.pipeline.loader.noise_levels import INDEPENDENT, NoiseLevels
from tokenmill.pipeline.loader.segments import row_borders

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Canvas:
    """Parameters of the objective.

    Attributes:
        epsilon: least probability of a token to be another.
        block_size: tokens a block.
        noise_levels: where t comes from.
    """

    batch_type: ClassVar[type[Batch]] = CanvasBatch
    needs_mask: ClassVar[bool] = False
    needs_pieces: ClassVar[bool] = False
    needs_eos: ClassVar[bool] = True
    layouts: ClassVar[tuple[str, ...]] = (DIALOGUE,)
    masks_on_device: ClassVar[bool] = False

    epsilon: float = 1e-3
    block_size: int = 256
    noise_levels: NoiseLevels = INDEPENDENT

    def __post_init__(self) -> None:
        noise.epsilon_units(self.epsilon)
        if self.block_size < 1:
            raise ValueError(f"block_size is {self.block_size}: give at least 1 token")

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of all that decides the noise of a row, but for the seed; there is no mask id."""
        return parameters_hash("canvas/1", self)

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of a CanvasBatch. Rows without an answer, as those of padding, have a canvas of no block."""
        rows, seed, block = gathered.rows, noise_key.seed, self.block_size
        assert gathered.answers is not None
        size, length = gathered.clean.shape
        begins, ends = drawn_turns(gathered.answers, rows, seed)
        begins, ends = np.where(begins < length, [begins, ends], 0)
        lengths = -(-(ends - begins) // block) * block
        clean = np.full((size, length + block), noise_key.padding_id, np.int64)
        clean[:, :length] = gathered.clean
        places = np.arange(length + block)
        clean[places >= ends[:, None]] = noise_key.padding_id
        clean[(places >= ends[:, None]) & (places < (begins + lengths)[:, None])] = noise_key.eos_id
        inside = np.arange(int(lengths.max(initial=block)))
        on_canvas = inside < lengths[:, None]
        at = np.minimum(begins[:, None] + inside, length + block - 1)
        labels = np.where(on_canvas, np.take_along_axis(clean, at, axis=1), noise_key.padding_id)
        noise_threshold = noise.thresholds(self.noise_levels.draws(gathered, seed, 1)[:, 0], self.epsilon)
        drawn = noise.draw(seed, noise.PURPOSE_MASK, rows, length + block)
        corrupted = on_canvas & (np.take_along_axis(drawn, at, axis=1) < noise_threshold[:, None])
        scored = _scored_blocks(rows, seed, lengths // block)
        loss_weight = (on_canvas & (inside // block == scored[:, None])).astype(np.float32)
        return {
            "clean": clean,
            "canvas_start": begins,
            "canvas_lengths": lengths,
            "canvas_block": scored,
            "noisy": np.where(corrupted, _other_tokens(rows, noise_key, at, length + block), labels),
            "labels": labels,
            "corrupted": corrupted,
            "loss_weight": loss_weight,
            "mask_probability": noise.probabilities(noise_threshold),
            "noise_threshold": noise_threshold,
            **segment_fields(row_borders(np.zeros_like(ends), begins + lengths, length + block), length + block),
            "denominator": int(np.count_nonzero(loss_weight)),
        }


def _scored_blocks(rows: I64, seed: int, blocks: I64) -> I64:
    """The block of each canvas that the loss is taken of: U{0..blocks-1}, 0 where there is none."""
    drawn = noise.draw(seed, noise.PURPOSE_CANVAS, rows, 1)[:, 0]
    return noise.uniform_from_one(drawn, np.maximum(blocks, 1)) - 1


def _other_tokens(rows: I64, noise_key: NoiseKey, at: I64, width: int) -> I64:
    """randint(0, vocab_size) of each place `at` of the rows: int64 [B, R′]."""
    drawn = np.take_along_axis(noise.draw(noise_key.seed, noise.PURPOSE_TOKEN, rows, width), at, axis=1)
    return noise.uniform_from_one(drawn, noise_key.vocab_size) - 1
