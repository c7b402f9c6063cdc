"""Block diffusion: BD3LM (arXiv 2503.09573), LLaDA2.0 (arXiv 2512.15745, inclusionAI/dFactory), Fast-dLLM v2.

    t of each block of b tokens, p = lo + (hi - lo)·t, masked with probability p; input cat(noisy, clean) [B, 2·L];
    a place attends to its own block in its own half, a noisy one to clean ones of earlier blocks, a clean one to clean
    ones of earlier blocks, too; and all of them within their document. loss = Σ w·CE / denominator

`weight="inverse"`: w = masked / p, over the maskable tokens; "flat": w = masked, over the masked tokens. t of a row's
blocks lies in as many strata, permuted by (seed, global row); `levels="antithetic"` is BD3LM's own formula over the
global batch, (ε_i / N + i / N) mod 1, i the block in the batch and N their number, so its noise changes with the size
of the global batch. A block as long as the row (b = L) gives plain rows.

With `pairs` each row comes twice, masked where its twin is not (p′ = 1 - p): each maskable token is a target once.

`block_size` may change by global row, at a global batch's start: ((0, 1), (1024, 4), …), LLaDA2.0's way to large blocks
and back. In shards of dialogues the answers alone can be masked, of all turns; EOS fills the last block of the row and
is learned as the rest of it [LLaDA2.0 says only that lengths are rounded up]. Other padding is a document of its own.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.keyed import key64, mix64
from tokenmill.manifests.shards import DIALOGUE, PRETRAINING
from tokenmill.pipeline.loader import noise
from tokenmill.pipeline.loader.batch import Batch, BlockBatch, Gathered, NoiseKey, parameters_hash
from tokenmill.pipeline.loader.masking import masked_fields, segment_fields
from tokenmill.pipeline.loader.noise_levels import in_strata, keyed_permutations
from tokenmill.pipeline.loader.segments import row_borders, row_ends, token_places, with_pieces

BOOL = npt.NDArray[np.bool_]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
_DEFAULT_BLOCK_SIZE = 32


@dataclass(frozen=True)
class Block:
    """Parameters of the objective.

    Attributes:
        block_size: b, which divides L; or a schedule of (first global row, b), the first of them for row 0.
        least: lo, the least mask probability; above 0.
        most: hi; dFactory clips to 0.3 … 0.8.
        weight: of a masked token, "inverse" (1/p) or "flat" (1).
        levels: noise levels in "strata" of the row, or "antithetic" over the global batch.
        pairs: whether each row comes twice, with complementary masks.
    """

    batch_type: ClassVar[type[Batch]] = BlockBatch
    needs_mask: ClassVar[bool] = True
    needs_pieces: ClassVar[bool] = True
    needs_eos: ClassVar[bool] = False
    layouts: ClassVar[tuple[str, ...]] = (PRETRAINING, DIALOGUE)

    block_size: int | tuple[tuple[int, int], ...] = _DEFAULT_BLOCK_SIZE
    least: float = 1e-3
    most: float = 1.0
    weight: Literal["inverse", "flat"] = "inverse"
    levels: Literal["strata", "antithetic"] = "strata"
    pairs: bool = False

    def __post_init__(self) -> None:
        noise.epsilon_units(self.least)
        if not self.least < self.most <= 1:
            raise ValueError(f"least is {self.least} and most {self.most}: give 0 < least < most <= 1")
        if self.weight not in ("inverse", "flat"):
            raise ValueError(f"weight is {self.weight!r}: give 'inverse' or 'flat'")
        if self.levels not in ("strata", "antithetic"):
            raise ValueError(f"levels are {self.levels!r}: give 'strata' or 'antithetic'")
        if self.pairs and self.weight == "inverse" and self.most == 1:
            raise ValueError(
                "the second of a pair has p′ = 1 - p and weight 1/p′, which most=1 lets grow without end: give most "
                "below 1 (dFactory: 0.8), or weight='flat'"
            )
        schedule = self.schedule
        if not schedule or schedule[0][0] != 0 or any(a[0] >= b[0] for a, b in pairwise(schedule)):
            raise ValueError(f"block_size is {self.block_size!r}: give (first row, size) pairs, rows rising from 0")
        if any(size < 1 for _, size in schedule):
            raise ValueError(f"block_size is {self.block_size!r}: give sizes of at least 1 token")

    @property
    def schedule(self) -> tuple[tuple[int, int], ...]:
        """(first global row, block size), ascending."""
        return ((0, self.block_size),) if isinstance(self.block_size, int) else self.block_size

    @property
    def masks_on_device(self) -> bool:
        """Whether a device can draw the masks: pairs and flat weights are made by the loader."""
        return not self.pairs and self.weight == "inverse"

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of all that decides the noise of a row, but for the seed."""
        return parameters_hash("block/1", self, mask_token_id=mask_token_id)

    def check_length(self, length: int) -> None:
        """Raise ValueError unless every block size divides rows of so many tokens."""
        for _, size in self.schedule:
            if length % size:
                near = max(d for d in range(1, min(size, length) + 1) if length % d == 0)
                raise ValueError(
                    f"block_size {size} does not divide rows of {length} tokens: give {near}, or other rows"
                )

    def size_of(self, batch_rows: tuple[int, int], length: int) -> int:
        """The block size of a global batch.

        Raises:
            ValueError: it changes within the batch, or within any of this size; or a size does not divide L.
        """
        self.check_length(length)
        first, behind = batch_rows
        for start, _ in self.schedule:
            if start > first and (start - first) % (behind - first):
                raise ValueError(
                    f"block_size changes at global row {start}, within a batch of {behind - first} rows: let it change "
                    f"at {start - (start - first) % (behind - first)}, where one begins"
                )
        return next(size for start, size in reversed(self.schedule) if start <= first)

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of a BlockBatch; in `gathered.clean`, the rest of a dialogue's last block is overwritten.

        Raises:
            ValueError: the mask id occurs in a row, or blocks don't fit the rows; see `size_of`.
        """
        clean, rows = gathered.clean, gathered.rows
        length = clean.shape[1]
        first, behind = gathered.batch_rows
        size = self.size_of((first - gathered.origin, behind - gathered.origin), length)
        maskable, documents = _places(gathered, size, noise_key.eos_id)
        drawn = self._draws(gathered, noise_key.seed, length // size)
        noise_threshold = noise.thresholds(drawn, self.least, self.most).reshape(-1)
        borders = np.arange(0, clean.size + 1, size, dtype=np.int32)
        fields = {
            **masked_fields(clean, rows, maskable, borders, noise_threshold, noise_key),
            **segment_fields(documents, length),
            "block_size": size,
        }
        if noise_key.on_device:
            return {**fields, "denominator": int(np.count_nonzero(maskable))}
        if self.pairs:
            fields = _paired(fields, noise_key.mask_token_id)
        if self.weight == "flat":
            fields["loss_weight"] = fields["masked"].astype(np.float32)
        counted = fields["masked" if self.weight == "flat" else "maskable"]
        return {**fields, **_inputs(fields, size), "denominator": int(np.count_nonzero(counted))}

    def _draws(self, gathered: Gathered, seed: int, blocks: int) -> U32:
        """T of each row's blocks, in strata: uint32 [B, blocks]."""
        drawn = noise.draw(seed, noise.PURPOSE_NOISE_LEVEL, gathered.rows, blocks)
        if self.levels == "antithetic":
            first, behind = gathered.batch_rows
            place = (gathered.rows - first)[:, None] * blocks + np.arange(blocks)
            return in_strata(drawn, place, (behind - first) * blocks)
        keys = mix64(gathered.rows.astype(np.uint64), key64("block strata", seed))
        return in_strata(drawn, keyed_permutations(keys, blocks), blocks)


def _places(gathered: Gathered, size: int, eos_id: int) -> tuple[BOOL, I32]:
    """What can be masked, bool [B, L], and the documents' borders in the flat batch; fills last blocks with EOS."""
    clean, pieces = gathered.clean, gathered.pieces
    assert pieces is not None
    length = clean.shape[1]
    ends = row_ends(gathered.valid, pieces, gathered.aligned)
    places = np.arange(length)
    maskable = token_places(ends, length, pieces, gathered.aligned)
    filled = ends
    if gathered.answers is not None:
        maskable &= gathered.answers
        answered = maskable[np.arange(ends.size), ends - 1]  # prompts that end a row are not filled up
        if eos_id >= 0:
            filled = np.where(answered, -(-ends // size) * size, ends)
        added = (places >= ends[:, None]) & (places < filled[:, None])
        clean[added] = eos_id
        maskable |= added
    stretched = pieces._replace(end=np.where(pieces.end == ends[pieces.row], filled[pieces.row], pieces.end))
    borders = row_borders(np.zeros_like(filled), filled, length)
    return maskable, with_pieces(borders, stretched, filled, length)


def _paired(fields: dict[str, Any], mask_token_id: int) -> dict[str, Any]:
    """The rows, and behind them the same rows with what was maskable and not masked masked, p′ = 1 - p."""
    masked = fields["maskable"] & ~fields["masked"]
    threshold = (np.uint64(1 << 32) - fields["noise_threshold"].astype(np.uint64)).astype(np.uint32)
    blocks = threshold.size // masked.shape[0]
    probability = np.repeat(noise.probabilities(threshold), masked.shape[1] // blocks).reshape(masked.shape)
    twin = {
        **fields,
        "noisy": np.where(masked, mask_token_id, fields["clean"]),
        "masked": masked,
        "mask_probability": probability,
        "loss_weight": np.where(masked, np.float32(1) / probability, np.float32(0)),
        "noise_threshold": threshold,
    }
    per_token = ("clean", "noisy", "labels", "masked", "maskable", "mask_probability", "loss_weight", "position_ids")
    both = {name: np.concatenate([fields[name], twin[name]]) for name in (*per_token, "noise_threshold")}
    borders = fields["cu_seqlens"]
    return {**fields, **both, "cu_seqlens": np.concatenate([borders[:-1], borders + borders[-1]])}


def _inputs(fields: dict[str, Any], size: int) -> dict[str, Any]:
    """What the model reads: noisy and clean rows side by side, or noisy ones alone where a block is a row."""
    noisy, positions = fields["noisy"], fields["position_ids"]
    if size == noisy.shape[1]:
        return {"input_ids": noisy, "input_position_ids": positions}
    both = np.concatenate([noisy, fields["clean"]], axis=1)
    return {"input_ids": both, "input_position_ids": np.concatenate([positions, positions], axis=1)}
