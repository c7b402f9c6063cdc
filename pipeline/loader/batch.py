"""What the loader hands out: the same provenance for every objective, and the objective's own arrays."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import xxhash

from tokenmill.pipeline.loader.stored_rows import Pieces

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's share of a global batch: B rows of L tokens in S segments, which attention does not leave.

    Attributes:
        cu_seqlens: int32 [S + 1], segment borders in the flat batch, 0 … B·L; padding has segments of its own.
        max_seqlen: longest segment.
        position_ids: int64 [B, L], from 0 in each segment.
        rows: int64 [B], global row numbers: what this batch is, for ever, in this plan; -1: a row of padding, which
            fills the last batch of a validation split.
        component: int32 [B], index into `component_names`; -1 in a row of padding.
        component_names: of the components of all stages.
        epoch: int32 [B], of the row's component.
        stored_row: int64 [B], row of the component in stored order; -1 in a row of padding.
        denominator: this rank's share of the loss's denominator; sum it over the ranks, and take 1 where that is 0.
        state: the loader's state once this batch is consumed.
    """

    cu_seqlens: I32
    max_seqlen: int
    position_ids: I64
    rows: I64
    component: I32
    component_names: tuple[str, ...]
    epoch: I32
    stored_row: I64
    denominator: int
    state: dict[str, Any]

    @cached_property
    def document_ids(self) -> I32:
        """int32 [B, L], counted up where positions begin anew: attention stays among equal ones."""
        ids: I32 = np.cumsum(self.position_ids.reshape(-1) == 0, dtype=np.int32) - 1
        return ids.reshape(self.position_ids.shape)

    @cached_property
    def segment_rows(self) -> I32:
        """int32 [S], the row of the batch that each segment lies in: `component[segment_rows]` is its source."""
        rows: I32 = (self.cu_seqlens[:-1] // self.position_ids.shape[1] % self.rows.size).astype(np.int32)
        return rows


@dataclass(frozen=True, kw_only=True)
class MaskedBatch(Batch):
    """A batch of which some tokens are masked; loss = Σ loss_weight · CE / denominator, summed over the ranks.

    Attributes:
        clean: int64 [B, L], the stored tokens.
        noisy: int64 [B, L], `clean` with the mask id at masked places.
        labels: int64 [B, L], `clean` itself.
        masked: bool [B, L], within `maskable`.
        maskable: bool [B, L]; padding is not, unless the objective says so.
        mask_probability: float32 [B, L], p of each token, padding too (never 0).
        loss_weight: float32 [B, L], 1/p where masked, or as the objective says; else 0.
        noise_threshold: uint32 [S], P of each segment, or of each block with `block`; p = P / 2^32.
    """

    clean: I64
    noisy: I64
    labels: I64
    masked: npt.NDArray[np.bool_]
    maskable: npt.NDArray[np.bool_]
    mask_probability: npt.NDArray[np.float32]
    loss_weight: npt.NDArray[np.float32]
    noise_threshold: npt.NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class KeyedBatch(Batch):
    """A batch whose masks the device draws (`masks="device"`): all that they hang on. See `torch_masks`.

    Attributes:
        clean: int64 [B, L], the stored tokens.
        labels: int64 [B, L], `clean` itself.
        maskable: bool [B, L].
        noise_threshold: uint32 [N], P of each segment (of each block with `block`).
        noise_borders: int32 [N + 1], where P changes in the flat batch, 0 … B·L.
        noise_seed: 64-bit.
        mask_token_id: what stands at masked places.
        document_cu_seqlens: of `illada`, as IlladaBatch has it.
        answer_lengths: of `llada_sft`, as LladaSftBatch has it; divide the weights 1/p by it.
    """

    clean: I64
    labels: I64
    maskable: npt.NDArray[np.bool_]
    noise_threshold: npt.NDArray[np.uint32]
    noise_borders: I32
    noise_seed: int
    mask_token_id: int
    document_cu_seqlens: I32 | None = None
    document_max_seqlen: int | None = None
    prompt_lengths: I64 | None = None
    answer_lengths: I64 | None = None
    block_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class IlladaBatch(MaskedBatch):
    """A batch of `illada`.

    Attributes:
        document_cu_seqlens: int32, borders of segments and of the documents in them, 0 … B·L.
        document_max_seqlen: longest stretch between two of them.
    """

    document_cu_seqlens: I32
    document_max_seqlen: int


@dataclass(frozen=True, kw_only=True)
class LladaSftBatch(MaskedBatch):
    """A batch of `llada_sft`: `clean` ends with EOS from the answer's end on, which can be masked, too.

    Attributes:
        prompt_lengths: int64 [B], tokens before the answer.
        answer_lengths: int64 [B], L - prompt length; `loss_weight` is divided by it.
    """

    prompt_lengths: I64
    answer_lengths: I64


@dataclass(frozen=True, kw_only=True)
class BlockBatch(MaskedBatch):
    """A batch of `block`; with complementary pairs B is twice the rows: all first members, then all second ones.

    Attributes:
        input_ids: int64 [B, 2·L], `noisy` and then `clean`; [B, L], `noisy`, where a block is a row.
        input_position_ids: int64, of `input_ids`: both halves alike.
        block_size: tokens a block (b).
    """

    input_ids: I64
    input_position_ids: I64
    block_size: int


@dataclass(frozen=True, kw_only=True)
class CanvasBatch(Batch):
    """A batch of `canvas`: S = L + one block, R′ the longest canvas of the batch; what is over is padding.

    Attributes:
        clean: int64 [B, S], prompt, answer and the EOS that fill its canvas; padding behind.
        canvas_start: int64 [B], where the canvas begins in `clean`.
        canvas_lengths: int64 [B], tokens of the canvas, whole blocks.
        canvas_block: int64 [B], the block that is scored.
        noisy: int64 [B, R′], the canvas with other tokens at corrupted places.
        labels: int64 [B, R′], the clean canvas.
        corrupted: bool [B, R′].
        loss_weight: float32 [B, R′], 1 for the tokens of the scored block, else 0.
        mask_probability: float32 [B], t.
        noise_threshold: uint32 [B], P of each row.
    """

    clean: I64
    canvas_start: I64
    canvas_lengths: I64
    canvas_block: I64
    noisy: I64
    labels: I64
    corrupted: npt.NDArray[np.bool_]
    loss_weight: npt.NDArray[np.float32]
    mask_probability: npt.NDArray[np.float32]
    noise_threshold: npt.NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class AutoregressiveBatch(Batch):
    """A batch of `autoregressive`.

    Attributes:
        input_ids: int64 [B, L], the stored tokens.
        labels: int64 [B, L], what each place is held against, or -100.
    """

    input_ids: I64
    labels: I64


@dataclass(frozen=True, kw_only=True)
class PreferenceBatch(Batch):
    """A batch of `preference`: a pair a row, the chosen conversation and behind it the rejected one, a segment each.

    Attributes:
        clean: int64 [B, L], the stored tokens.
        answers: bool [B, L], tokens that the model is to give, of both.
        chosen_lengths: int64 [B], tokens of the chosen conversation; 0 in a row of padding.
        rejected_lengths: int64 [B], of the rejected one, which begins behind it.
    """

    clean: I64
    answers: npt.NDArray[np.bool_]
    chosen_lengths: I64
    rejected_lengths: I64

    @cached_property
    def chosen_answers(self) -> npt.NDArray[np.bool_]:
        """Bool [B, L], answers of the chosen conversation alone."""
        inside: npt.NDArray[np.bool_] = np.arange(self.clean.shape[1]) < self.chosen_lengths[:, None]
        return inside & self.answers

    @cached_property
    def rejected_answers(self) -> npt.NDArray[np.bool_]:
        """Bool [B, L], those of the rejected one."""
        return self.answers & ~self.chosen_answers


@dataclass(frozen=True, kw_only=True)
class PromptBatch(Batch):
    """A batch of `prompts`: a prompt a row, up to where the model is to answer, and padding.

    Attributes:
        clean: int64 [B, L], the stored tokens.
        prompt_lengths: int64 [B], tokens of the prompt; 0 in a row of padding.
        answers: of each row, what its answer is checked against; "" in a row of padding.
        checkers: of each row, how, as the data says: "exact", "number", …; None where it does not.
    """

    clean: I64
    prompt_lengths: I64
    answers: tuple[str, ...]
    checkers: tuple[str | None, ...]


class Gathered(NamedTuple):
    """Rows as they are stored, in the order of a batch.

    Attributes:
        clean: int64 [B, L].
        valid: int32 [B], tokens of each row that are not padding: its first, where pieces are not aligned.
        pieces: where documents stand; None where neither the objective nor aligned rows ask for them.
        aligned: whether there may be padding between pieces.
        rows: int64 [B], global row numbers; -1 for rows that only fill a batch, which no denominator counts.
        answers: bool [B, L], tokens that the trained model is to give; None in shards of pretraining.
        epoch: int32 [B], how often each row was visited before.
        identities: gives uint64 [B], hash of each row's unit and its place there, the same in every visit; most
            objectives do not ask.
        batch_rows: first row of the global batch, and of the next one.
        origin: row that global batches are counted from; a later one for each further length of a validation split.
        checks: of prompts: what each one's answer is checked against, and how; None in other shards.
    """

    clean: I64
    valid: I32
    pieces: Pieces | None
    aligned: bool
    rows: I64
    answers: npt.NDArray[np.bool_] | None
    epoch: I32
    identities: Callable[[], npt.NDArray[np.uint64]]
    batch_rows: tuple[int, int]
    origin: int = 0
    checks: list[tuple[str, str | None]] | None = None


class NoiseKey(NamedTuple):
    """What noise hangs on beside a row's number.

    Attributes:
        seed: 64-bit.
        mask_token_id: must not occur in the data; -1 for objectives that mask nothing.
        padding_id: what stands where a row is cut short; -1 where the tokenizer has neither pad nor eos.
        eos_id: what fills the rest of an answer's row; -1 where the tokenizer has none.
        vocab_size: ids run from 0 to vocab_size - 1.
        on_device: whether a device draws the masks.
    """

    seed: int
    mask_token_id: int
    padding_id: int
    eos_id: int
    vocab_size: int
    on_device: bool = False

    @property
    def filler(self) -> int:
        """What rows that are all padding hold: the padding id, or a token that is not the mask."""
        return next(token for token in (self.padding_id, 0, 1) if token not in (-1, self.mask_token_id))


def parameters_hash(name: str, params: Any, **more: int) -> str:
    """xxh3-128 (hex) of an objective's name and version, its parameters, and what else decides the noise."""
    value = {"objective": name, **more, **asdict(params)}
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())


class Objective(Protocol):
    """Parameters of a training objective, a frozen dataclass, and what makes a batch's arrays by them.

    Attributes:
        batch_type: of its batches.
        needs_mask: whether a mask id must be there.
        needs_pieces: whether it asks where documents stand.
        needs_eos: whether it fills answers up, and so an end-of-text id must be there.
        layouts: of the shards it can be trained on.
    """

    batch_type: ClassVar[type[Batch]]
    needs_mask: ClassVar[bool]
    needs_pieces: ClassVar[bool]
    needs_eos: ClassVar[bool]
    layouts: ClassVar[tuple[str, ...]]

    @property
    def masks_on_device(self) -> bool:
        """Whether a device can draw its masks."""
        ...

    def hash(self, mask_token_id: int) -> str:
        """xxh3-128 (hex) of all that decides the noise of a row, but for the seed."""
        ...

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        """The fields of `batch_type` that hang on the objective; each row's on its number, and no other row."""
        ...
