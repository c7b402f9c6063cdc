"""Next-token training on the same shards, as Qwen2.5 does (arXiv 2412.15115): positions restart at each document.

`labels` are the tokens themselves, for models that shift them, with -100 at each document's first token, which nothing
in its document foretells; with `pre_shifted` they are shifted here, and -100 stands at each document's last. Padding is
-100 too, and so, in SFT's `concat` rows, is all that is no answer. loss = Σ CE / (labels that are not -100).
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import xxhash

from tokenmill.manifests.shards import CONCAT, PRETRAINING
from tokenmill.pipeline.loader.batch import AutoregressiveBatch, Batch, Gathered, NoiseKey
from tokenmill.pipeline.loader.masking import segment_fields
from tokenmill.pipeline.loader.segments import clear_gaps, row_borders, row_ends, with_pieces

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
        value = {"objective": "autoregressive/1", **asdict(self)}
        return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of an AutoregressiveBatch. A document that is cut where a row ends begins anew in the next."""
        clean, pieces = gathered.clean, gathered.pieces
        assert pieces is not None
        length = clean.shape[1]
        ends = row_ends(gathered.valid, pieces, gathered.aligned)
        cu_seqlens = with_pieces(row_borders(np.zeros_like(ends), ends, length), pieces, ends, length)
        targets = np.arange(length) < ends[:, None]
        if gathered.aligned:
            clear_gaps(targets, pieces)
        if gathered.answers is not None:
            targets &= gathered.answers
        targets.reshape(-1)[cu_seqlens[:-1]] = False
        labels = np.where(targets, clean, IGNORED)
        if self.pre_shifted:
            labels = np.append(labels.reshape(-1)[1:], IGNORED).reshape(clean.shape)
        return {
            "input_ids": clean,
            "labels": labels,
            **segment_fields(cu_seqlens, length),
            "denominator": int(np.count_nonzero(labels != IGNORED)),
        }
