"""Next-token training on the same shards, as Qwen2.5 does (arXiv 2412.15115): positions restart at each document.

`labels` are the tokens themselves, for models that shift them, with -100 at each document's first token, which nothing
in its document foretells; with `pre_shifted` they are shifted here, and -100 stands at each document's last. Padding is
-100 too, and so, in SFT's `concat` rows, is all that is no answer. loss = Σ CE / (labels that are not -100).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tokenmill.manifests.shards import CONCAT, PRETRAINING
from tokenmill.pipeline.loader.batch import AutoregressiveBatch, Batch, Gathered, NoiseKey, parameters_hash
from tokenmill.pipeline.loader.masking import segment_fields
from tokenmill.pipeline.loader.segments import by_document

IGNORED = -100


@dataclass(frozen=True)
class Autoregressive:
    """Parameters of the objective.

    Attributes:
        pre_shifted: whether `labels` hold the token behind each place, not the one there.
    """

    batch_type: ClassVar[type[Batch]] = AutoregressiveBatch
    needs_mask: ClassVar[bool] = False
    needs_pieces: ClassVar[bool] = True
    needs_eos: ClassVar[bool] = False
    layouts: ClassVar[tuple[str, ...]] = (PRETRAINING, CONCAT)
    masks_on_device: ClassVar[bool] = False

    pre_shifted: bool = False

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of what decides a row's labels; no mask id does."""
        return parameters_hash("autoregressive/1", self)

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of an AutoregressiveBatch. A document that is cut where a row ends begins anew in the next."""
        clean = gathered.clean
        cu_seqlens, targets = by_document(gathered)
        labels = np.where(targets, clean, IGNORED)
        if self.pre_shifted:
            labels = np.append(labels.reshape(-1)[1:], IGNORED).reshape(clean.shape)
        return {
            "input_ids": clean,
            "labels": labels,
            **segment_fields(cu_seqlens, clean.shape[1]),
            "denominator": int(np.count_nonzero(labels != IGNORED)),
        }
