"""The loader as a torch dataset. Torch is imported by this module and its like (`torch_*.py`) alone."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from tokenmill.pipeline.loader.batch import Batch
from tokenmill.pipeline.loader.loader import Loader

try:
    import torch as torch  # other modules take it from here, and with it the message below
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as error:
    raise ImportError(
        "tokenmill.pipeline.loader.torch_adapter needs torch, which is not installed: pip install 'tokenmill[torch]'; "
        "the loader itself gives NumPy arrays without it"
    ) from error

#: In a worker's state: how many workers there were.
_WORKERS = "workers"


class TorchBatch(dict[str, Any]):
    """The fields of a `Batch` by name: arrays as tensors that share their memory, the rest as it is.

    `noise_threshold` is int64: torch computes little on uint32.
    """

    def pin_memory(self) -> "TorchBatch":
        """The same in page-locked memory, from which copies to a GPU can overlap its work."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> "TorchBatch":
        """The same with its tensors on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "TorchBatch":
        changed = {name: change(value) if isinstance(value, torch.Tensor) else value for name, value in self.items()}
        return TorchBatch(changed)


class TorchBatches(IterableDataset[TorchBatch]):
    """A loader's batches for torch; whole batches, so a `DataLoader` around it takes `batch_size=None`.

    The loader reads ahead in threads of its own, so `num_workers=0` will do. With workers each opens the mixture for
    itself and makes every so many-th batch, in turns, so that the `DataLoader` gives those of one loader, in order. As
    they work ahead in other processes, the dataset itself stays where it stood: keep `batch["state"]` of the batch
    consumed last and load that, into any number of workers, ranks or none. torchdata's `StatefulDataLoader` keeps a
    state for each worker instead; the number of workers must then stay. What a worker skips of
    corrupt data is in the states of its own batches alone: with `on_corrupt="skip_and_report"` take no workers.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._workers: int | None = None
        self._resume: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[TorchBatch]:
        worker = get_worker_info()
        if worker is not None:
            if self._workers is not None:
                return _refuse()
            self._take_turns(worker.id, worker.num_workers)
        return map(tensors, self._loader)

    def _take_turns(self, worker: int, workers: int) -> None:
        """Open the loader anew, for this process, and take this worker's batches."""
        self._loader, self._workers = self._loader.reopened(), workers
        if self._resume is None:
            self._loader.take_turns(worker, workers)
        else:  # a state of this worker, which is of its own next batch
            self._loader.load_state_dict(self._resume)
            self._loader.take_turns(0, workers)

    def state_dict(self) -> dict[str, Any]:
        """State for the batch handed out last; see `Loader.state_dict`. A worker's is of use to that worker alone."""
        state = self._loader.state_dict()
        return state if self._workers is None else {**state, _WORKERS: self._workers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`, of a batch or of `state_dict`; see `Loader.load_state_dict`.

        Raises:
            ValueError: it is of another plan, objective or noise seed, or of one of another number of workers.
        """
        if _WORKERS not in state:
            self._loader.load_state_dict(state)
            return
        worker, asked = get_worker_info(), state[_WORKERS]
        workers = 0 if worker is None else worker.num_workers
        if workers != asked:
            raise ValueError(
                f"the state is of one of {asked} workers, here there are {workers}: resume with as many, or from the "
                "`state` of the batch consumed last, which any number can"
            )
        self._resume = {name: value for name, value in state.items() if name != _WORKERS}


def _refuse() -> Iterator[TorchBatch]:
    """Refuse with the first batch: what `iter` itself raises in a persistent worker only ends the process."""
    raise ValueError(
        "a DataLoader with persistent_workers is iterated a second time: what its workers had made ahead would be left "
        "out; take persistent_workers=False, and load the state of the last batch"
    )
    yield


def mask_mod(batch: Batch | TorchBatch, device: torch.device | str | None = None) -> Callable[..., torch.Tensor]:
    """Which places attend to which, for `torch.nn.attention.flex_attention.create_block_mask(mask_mod, B, None, L, L)`.

    Places of one document (segment, with `illada` unless asked otherwise) see each other; with `autoregressive`, those
    before them and themselves alone; with `block`, of 2·L places, those of the same half and block, and clean ones of
    earlier blocks. No L × L tensor is made.

    Args:
        batch: whole, not cut by `shard_sequence`.
        device: of the mask; by default where the batch lies.
    """
    found = batch if isinstance(batch, TorchBatch) else tensors(batch)
    positions = found["position_ids"]
    if positions.numel() != int(found["cu_seqlens"][-1]):
        raise ValueError(
            f"the batch has {positions.numel()} places, its segments end at {int(found['cu_seqlens'][-1])}: make the "
            "mask of the whole batch, before `shard_sequence`"
        )
    ids = ((positions.reshape(-1) == 0).cumsum(0).to(torch.int32) - 1).reshape(positions.shape)
    ids = ids if device is None else ids.to(device)
    block_size = found.get("block_size")
    if block_size is not None and block_size < positions.shape[1]:
        return _block_mask(ids, block_size)
    causal = block_size is None and "input_ids" in found

    def sees(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        same: torch.Tensor = ids[row, query] == ids[row, key]
        return same & (query >= key) if causal else same

    return sees


def _block_mask(ids: torch.Tensor, size: int) -> Callable[..., torch.Tensor]:
    """Of noisy and clean rows side by side, with blocks of `size` tokens; `ids`, [B, L], of their documents."""
    length = ids.shape[1]

    def sees(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        query_noisy, key_noisy = query < length, key < length
        query_place, key_place = query % length, key % length
        query_block, key_block = query_place // size, key_place // size
        own = (query_noisy == key_noisy) & (query_block == key_block)
        before = ~key_noisy & (key_block < query_block)
        seen: torch.Tensor = (own | before) & (ids[row, query_place] == ids[row, key_place])
        return seen

    return sees


def tensors(batch: Batch) -> TorchBatch:
    """The batch's fields, arrays as tensors."""
    found = {field.name: getattr(batch, field.name) for field in fields(batch)}
    if "noise_threshold" in found:
        found["noise_threshold"] = found["noise_threshold"].astype(np.int64)
    return TorchBatch(
        {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in found.items()}
    )
