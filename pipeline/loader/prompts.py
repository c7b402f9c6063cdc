"""Prompts whose answers can be checked, a row each: what a trainer by rewards samples from.

A row holds a conversation up to where the model is to answer, the template's generation prompt included, and padding.
What the answer is checked against, and how, comes with it. Nothing hangs on the seed.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tokenmill.manifests.shards import PROMPTS
from tokenmill.pipeline.loader.batch import Batch, Gathered, NoiseKey, PromptBatch, parameters_hash
from tokenmill.pipeline.loader.masking import segment_fields
from tokenmill.pipeline.loader.segments import row_borders


@dataclass(frozen=True)
class Prompts:
    """The objective has no parameters."""

    batch_type: ClassVar[type[Batch]] = PromptBatch
    needs_mask: ClassVar[bool] = False
    needs_pieces: ClassVar[bool] = False
    needs_eos: ClassVar[bool] = False
    layouts: ClassVar[tuple[str, ...]] = (PROMPTS,)
    masks_on_device: ClassVar[bool] = False

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of what decides a row's arrays; no mask id does."""
        return parameters_hash("prompts/1", self)

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of a PromptBatch; a prompt begins its row, so padding is behind it, aligned or not."""
        assert gathered.checks is not None
        lengths = gathered.valid.astype(np.int64)
        length = gathered.clean.shape[1]
        return {
            "clean": gathered.clean,
            "prompt_lengths": lengths,
            "answers": tuple(answer for answer, _ in gathered.checks),
            "checkers": tuple(checker for _, checker in gathered.checks),
            **segment_fields(row_borders(np.zeros_like(lengths), lengths, length), length),
            "denominator": int(np.count_nonzero((lengths > 0) & (gathered.rows >= 0))),
        }
