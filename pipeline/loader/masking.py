"""The fields that masked objectives share: the masks themselves, or all that a device needs to draw them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmill.pipeline.loader import noise
from tokenmill.pipeline.loader.batch import NoiseKey
from tokenmill.pipeline.loader.segments import positions, refuse_mask_id


def masked_fields(
    clean: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    maskable: npt.NDArray[np.bool_],
    borders: npt.NDArray[np.int32],
    noise_threshold: npt.NDArray[np.uint32],
    noise_key: NoiseKey,
) -> dict[str, Any]:
    """Those of a MaskedBatch that its tokens have, or those of a KeyedBatch where the device draws the masks.

    Args:
        clean: int64 [B, L].
        rows: int64 [B], global row numbers.
        maskable: bool [B, L].
        borders: int32 [N + 1], where the noise level may change in the flat batch; no stretch crosses rows.
        noise_threshold: uint32 [N], P between them.
        noise_key: seed and mask id.

    Raises:
        ValueError: the mask id occurs in a row; names the row and the place.
    """
    refuse_mask_id(clean, rows, noise_key.mask_token_id)
    fields = {"clean": clean, "labels": clean, "maskable": maskable, "noise_threshold": noise_threshold}
    if noise_key.on_device:
        key = {"noise_seed": noise_key.seed, "mask_token_id": noise_key.mask_token_id}
        return {**fields, **key, "noise_borders": borders}
    noisy, masked, probability, weight = noise.corrupt(
        noise_key.seed, rows, clean, maskable, borders, noise_threshold, noise_key.mask_token_id
    )
    return {**fields, "noisy": noisy, "masked": masked, "mask_probability": probability, "loss_weight": weight}


def segment_fields(borders: npt.NDArray[np.int32], length: int) -> dict[str, Any]:
    """`cu_seqlens`, `max_seqlen` and `position_ids` of segments with these borders in the flat batch."""
    return {
        "cu_seqlens": borders,
        "max_seqlen": int(np.diff(borders).max()),
        "position_ids": positions(borders, length),
    }
