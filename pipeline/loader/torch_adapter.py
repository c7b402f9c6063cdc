"""The loader as a torch dataset. The only module of the project that imports torch."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from tokenmill.pipeline.loader.batch import AutoregressiveBatch, Batch, BlockBatch
from tokenmill.pipeline.loader.loader import Loader

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as error:
    raise ImportError(
        "tokenmill.pipeline.loader.torch_adapter needs torch, which is not installed: pip install 'tokenmill[torch]'; "
        "the loader itself gives NumPy arrays without it"
    ) from error


class TorchBatches(IterableDataset[dict[str, Any]]):
    """A loader's batches as dicts of tensors; whole batches, so a `DataLoader` around it takes `batch_size=None`.

    Each dict has the fields of `Batch`: arrays as tensors on the CPU that share their memory (`noise_threshold` as
    int64: torch computes little on uint32), the rest as it is.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        if worker is not None:
            raise ValueError(
                f"DataLoader has {worker.num_workers} workers: each would give every batch, and the state here stay "
                "behind; use num_workers=0, the loader reads ahead in threads of its own"
            )
        return map(tensors, self._loader)

    def state_dict(self) -> dict[str, Any]:
        """State for the batch handed out last; see `Loader.state_dict`."""
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; see `Loader.load_state_dict`."""
        self._loader.load_state_dict(state)


def mask_mod(batch: Batch, device: torch.device | str = "cpu") -> Callable[..., torch.Tensor]:
    """Which places attend to which, for `torch.nn.attention.flex_attention.create_block_mask(mask_mod, B, None, L, L)`.

    Places of one document (segment, with `illada` unless asked otherwise) see each other; with `autoregressive`, those
    before them and themselves alone; with `block`, of 2·L places, those of the same half and block, and clean ones of
    earlier blocks (OBJECTIVES' keep). No L × L tensor is made.
    """
    if isinstance(batch, BlockBatch) and batch.block_size < batch.clean.shape[1]:
        return _block_mask(batch, device)
    ids = torch.from_numpy(batch.document_ids).to(device)
    causal = isinstance(batch, AutoregressiveBatch)

    def sees(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        same = ids[row, query] == ids[row, key]
        return same & (query >= key) if causal else same

    return sees


def _block_mask(batch: BlockBatch, device: torch.device | str) -> Callable[..., torch.Tensor]:
    """Of noisy and clean rows side by side, see `block`."""
    ids = torch.from_numpy(batch.document_ids).to(device)
    length, size = batch.clean.shape[1], batch.block_size

    def sees(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        query_noisy, key_noisy = query < length, key < length
        query_place, key_place = query % length, key % length
        query_block, key_block = query_place // size, key_place // size
        own = (query_noisy == key_noisy) & (query_block == key_block)
        before = ~key_noisy & (key_block < query_block)
        seen: torch.Tensor = (own | before) & (ids[row, query_place] == ids[row, key_place])
        return seen

    return sees


def tensors(batch: Batch) -> dict[str, Any]:
    """The batch's fields, arrays as tensors."""
    found = {field.name: getattr(batch, field.name) for field in fields(batch)}
    if "noise_threshold" in found:
        found["noise_threshold"] = found["noise_threshold"].astype(np.int64)
    return {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in found.items()}
