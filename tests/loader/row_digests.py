"""What each global row was in the batches of a loader, as one hash a row."""

from collections.abc import Iterable

import numpy as np
import xxhash

from tokenmill.pipeline.loader import Batch

_BY_ROW = (
    *("clean", "noisy", "masked", "maskable", "mask_probability", "loss_weight", "position_ids"),
    *("component", "epoch", "stored_row"),
)


def row_digests(batches: Iterable[Batch]) -> dict[int, str]:
    """Hash of each row's tokens, masks, P, weights and segments, by its global number; none may come twice."""
    found: dict[int, str] = {}
    for batch in batches:
        length = batch.position_ids.shape[1]
        for index, row in enumerate(batch.rows.tolist()):
            assert row not in found, f"row {row} came twice"
            hasher = xxhash.xxh3_128()
            for name in _BY_ROW:
                hasher.update(np.ascontiguousarray(getattr(batch, name)[index]).tobytes())
            inside = (batch.cu_seqlens >= index * length) & (batch.cu_seqlens < (index + 1) * length)
            hasher.update((batch.cu_seqlens[inside] - index * length).tobytes())
            hasher.update(batch.noise_threshold[inside[:-1]].tobytes())
            found[row] = hasher.hexdigest()
    return found
