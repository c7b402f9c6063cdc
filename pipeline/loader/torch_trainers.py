"""A batch in the fields that other trainers take."""

from typing import Any

from tokenmill.pipeline.loader.torch_adapter import TorchBatch, torch

IGNORED = -100


def automodel(batch: TorchBatch) -> dict[str, torch.Tensor]:
    """NeMo Automodel's fields; its own recipe makes the noise.

    Args:
        batch: of a masked objective, whoever draws the masks.

    Returns:
        `input_ids` int64, the clean tokens; `loss_mask` float32, 1 where a token can be masked; `attention_mask` int64,
        1 in segments that hold such a token, so 0 in padding, and in all of a row that has none: no softmax is over
        nothing; [B, L].

    Raises:
        ValueError: the batch has no tokens that can be masked: it is of another objective.
    """
    if "maskable" not in batch:
        raise ValueError("automodel() takes batches of a masked objective, such as 'llada': this one has no `maskable`")
    maskable, borders = batch["maskable"], batch["cu_seqlens"].long()
    before = torch.nn.functional.pad(maskable.reshape(-1).cumsum(0), (1, 0))[borders]
    by_segment = (before.diff() > 0).repeat_interleave(borders.diff(), output_size=maskable.numel())
    attended = by_segment.reshape(maskable.shape)
    attended = attended | ~attended.any(dim=1, keepdim=True)
    return {
        "input_ids": batch["clean"],
        "loss_mask": maskable.float(),
        "attention_mask": attended.long(),
    }


def torchtitan(batch: TorchBatch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Torchtitan's pair of inputs and labels.

    Args:
        batch: of `autoregressive`, `pre_shifted` or not.

    Returns:
        `input` and `positions` (from 0 in each document), int64 [B, L]; and the labels, int64 [B, L]: the token behind
        each place, -100 at each document's last and in padding.

    Raises:
        ValueError: the batch is of another objective.
    """
    if "input_ids" not in batch or "clean" in batch:
        raise ValueError("torchtitan() takes batches of the objective 'autoregressive': this one is of another")
    return {"input": batch["input_ids"], "positions": batch["position_ids"]}, _shifted(batch)


def _shifted(batch: dict[str, Any]) -> torch.Tensor:
    """Labels of the next token. Unshifted ones have one at a document's last place, which shifted ones never have."""
    labels: torch.Tensor = batch["labels"]
    flat = labels.reshape(-1)
    if (flat[batch["cu_seqlens"][1:].long() - 1] == IGNORED).all():
        return labels
    behind = flat.roll(-1)
    behind[-1] = IGNORED
    return behind.reshape(labels.shape)
