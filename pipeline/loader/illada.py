"""iLLaDA's objective (arXiv 2606.25331), for pretraining and SFT alike: rows cut in two at times, varlen attention.

    t ~ U[0, 1] a segment, p = (1 - ε)·t + ε, masked with probability p, loss = Σ w·CE / (maskable tokens),
    w = masked / p

With probability 0.3 a row is cut in two at c ~ U{1..end - 1}, end behind its last token, whatever documents stand
there; no token is lost, and E[S] = 1.3·B. A row's padding is one more segment behind, which cannot be masked. SFT's
`concat` rows hold prompts and answers one after another, all of whose tokens can be masked. The paper states not how
the cut is drawn, nor whether the two halves have a t each, nor the normaliser: these are ours.

Nor does it say whether attention stays in a segment or in a document: `attention="segment"` (the default) restarts
positions at segments, "document" at documents too, whose borders stand in `document_cu_seqlens` either way. Where
pieces are aligned, each of them, and each gap, is a segment, as in `llada`; the pieces of a half have its p.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.shards import CONCAT, PRETRAINING
from tokenmill.pipeline.loader import noise
from tokenmill.pipeline.loader.batch import Batch, Gathered, IlladaBatch, NoiseKey, parameters_hash
from tokenmill.pipeline.loader.masking import masked_fields, segment_fields
from tokenmill.pipeline.loader.noise_levels import INDEPENDENT, NoiseLevels
from tokenmill.pipeline.loader.segments import positions, row_borders, row_ends, token_places, with_pieces

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Illada:
    """Parameters of the objective.

    Attributes:
        epsilon: least mask probability.
        cut_probability: how often a row is cut in two.
        attention: where positions restart: at each "segment", or at each "document" in it.
        noise_levels: where t comes from.
    """

    batch_type: ClassVar[type[Batch]] = IlladaBatch
    needs_mask: ClassVar[bool] = True
    needs_pieces: ClassVar[bool] = True
    needs_eos: ClassVar[bool] = False
    layouts: ClassVar[tuple[str, ...]] = (PRETRAINING, CONCAT)
    masks_on_device: ClassVar[bool] = True

    epsilon: float = 1e-3
    cut_probability: float = 0.3
    attention: Literal["segment", "document"] = "segment"
    noise_levels: NoiseLevels = INDEPENDENT

    def __post_init__(self) -> None:
        noise.epsilon_units(self.epsilon)
        if not 0 <= self.cut_probability <= 1:
            raise ValueError(f"cut_probability is {self.cut_probability}: give 0 … 1")
        if self.attention not in ("segment", "document"):
            raise ValueError(f"attention is {self.attention!r}: give 'segment' or 'document'")

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of all that decides the noise of a row, but for the seed."""
        return parameters_hash("illada/1", self, mask_token_id=mask_token_id)

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of an IlladaBatch.

        Raises:
            ValueError: the mask id occurs in a row; names the row and the place.
        """
        clean, pieces, rows = gathered.clean, gathered.pieces, gathered.rows
        assert pieces is not None
        length = clean.shape[1]
        ends = row_ends(gathered.valid, pieces, gathered.aligned)
        cuts = _cuts(self, rows, ends, noise_key.seed)
        maskable = token_places(ends, length, pieces, gathered.aligned)
        cu_seqlens = row_borders(cuts, ends, length)
        documents = with_pieces(cu_seqlens, pieces, ends, length)
        if gathered.aligned:
            cu_seqlens = documents
        drawn = self.noise_levels.draws(gathered, noise_key.seed, 2)
        row, place = np.divmod(cu_seqlens[:-1].astype(np.int64), length)
        half = ((cuts[row] > 0) & (place >= cuts[row])).astype(np.int64)
        noise_threshold = noise.thresholds(drawn[row, half], self.epsilon)
        fields = {
            **masked_fields(clean, rows, maskable, cu_seqlens, noise_threshold, noise_key),
            **segment_fields(cu_seqlens, length),
            "document_cu_seqlens": documents,
            "document_max_seqlen": int(np.diff(documents).max()),
            "denominator": int(np.count_nonzero(maskable)),
        }
        if self.attention == "document":
            fields["position_ids"] = positions(documents, length)
        return fields


def _cuts(params: Illada, rows: I64, ends: I64, seed: int) -> I64:
    """Where each row is cut: U{1..end-1} with the given probability; 0 for a row left whole, as one of a token is."""
    drawn = noise.draw(seed, noise.PURPOSE_LENGTH, rows, 2)
    chosen = drawn[:, 0].astype(np.int64) < round(params.cut_probability * (1 << 32))
    cuts = noise.uniform_from_one(drawn[:, 1], np.maximum(ends - 1, 1))
    return np.where(chosen & (ends > 1), cuts, 0)
