"""Preference pairs, a row each: what a trainer of DPO and its kin takes (arXiv 2305.18290; for diffusion 2505.19223).

A row holds the prompt with the chosen answer, then the prompt with the rejected one, then padding; each is a segment
with positions of its own, so one forward pass gives both. Which noise to draw is the trainer's affair: those of
diffusion models estimate a likelihood by several draws, the same for the model and its reference.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tokenmill.manifests.shards import PREFERENCE
from tokenmill.pipeline.loader.batch import Batch, Gathered, NoiseKey, PreferenceBatch, parameters_hash
from tokenmill.pipeline.loader.masking import segment_fields
from tokenmill.pipeline.loader.segments import by_document


@dataclass(frozen=True)
class Preference:
    """The objective has no parameters."""

    batch_type: ClassVar[type[Batch]] = PreferenceBatch
    needs_mask: ClassVar[bool] = False
    needs_pieces: ClassVar[bool] = True
    needs_eos: ClassVar[bool] = False
    layouts: ClassVar[tuple[str, ...]] = (PREFERENCE,)
    masks_on_device: ClassVar[bool] = False

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of what decides a row's arrays; no mask id does."""
        return parameters_hash("preference/1", self)

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of a PreferenceBatch; rows of padding hold no pair."""
        pieces, answers = gathered.pieces, gathered.answers
        assert pieces is not None
        assert answers is not None
        lengths = np.zeros((2, len(gathered.clean)), np.int64)
        lengths[(pieces.start > 0).astype(np.int64), pieces.row] = pieces.end - pieces.start
        return {
            "clean": gathered.clean,
            "answers": answers,
            "chosen_lengths": lengths[0],
            "rejected_lengths": lengths[1],
            **segment_fields(by_document(gathered)[0], gathered.clean.shape[1]),
            "denominator": int(np.count_nonzero((lengths[0] > 0) & (gathered.rows >= 0))),
        }
