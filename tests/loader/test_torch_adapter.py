import json
import sys

import numpy as np
import pytest

from tokenmill.pipeline.loader import Illada, open_mixture
from tokenmill.pipeline.loader.sharding import shard_sequence

torch = pytest.importorskip("torch")

from tokenmill.pipeline.loader.torch_adapter import TorchBatch, TorchBatches, mask_mod, tensors  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores: it is a test


def test_tensors_are_the_batches_arrays(run):
    for batch, found in zip(
        open_mixture(run.path, batch_size=8), TorchBatches(open_mixture(run.path, batch_size=8)), strict=True
    ):
        for name, value in found.items():
            expected = getattr(batch, name)
            if isinstance(expected, np.ndarray):
                assert isinstance(value, torch.Tensor)
                np.testing.assert_array_equal(value.numpy(), expected)
            else:
                assert value == expected
        assert found["noisy"].dtype == found["labels"].dtype == torch.int64
        assert (found["masked"].dtype, found["loss_weight"].dtype) == (torch.bool, torch.float32)
        assert found["cu_seqlens"].dtype == torch.int32


def test_a_data_loader_hands_them_through(run):
    data = torch.utils.data.DataLoader(TorchBatches(open_mixture(run.path, batch_size=8)), batch_size=None)
    whole = [batch.rows.tolist() for batch in open_mixture(run.path, batch_size=8)]
    assert [batch["rows"].tolist() for batch in data] == whole


@pytest.mark.parametrize("objective", ["llada", "illada", "autoregressive", Illada(attention="document")])
def test_the_mask_mod_is_the_dense_mask(run, objective):
    from torch.nn.attention.flex_attention import create_mask

    for batch, _ in zip(open_mixture(run.path, batch_size=8, objective=objective), range(6), strict=False):
        borders = getattr(batch, "document_cu_seqlens", None)
        if borders is None or not isinstance(objective, Illada):
            borders = batch.cu_seqlens
        size, length = batch.position_ids.shape
        ids = np.repeat(np.arange(len(borders) - 1), np.diff(borders)).reshape(size, length)
        dense = ids[:, :, None] == ids[:, None, :]
        if objective == "autoregressive":
            dense &= np.tri(length, dtype=bool)
        found = create_mask(mask_mod(tensors(batch)), size, None, length, length, device="cpu")
        np.testing.assert_array_equal(found[:, 0].numpy(), dense)


def test_state_resumes(run):
    first, second = (TorchBatches(open_mixture(run.path, batch_size=8)) for _ in range(2))
    iterator = iter(first)
    for _ in range(4):
        batch = next(iterator)
    assert first.state_dict() == batch["state"]
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(next(iter(second))["noisy"].numpy(), next(iterator)["noisy"].numpy())


def told(batch) -> str:
    """All that a batch is."""
    arrays = {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    return str(arrays | {"component_names": list(arrays["component_names"])})


def whole(run, **fields) -> list[str]:
    return [told(batch) for batch in TorchBatches(open_mixture(run.path, batch_size=4, **fields))]


def data_loader(run, workers: int, state: dict | None = None, kind=torch.utils.data.DataLoader, **fields):
    """A loader of torch's over rank 1 of 2."""
    batches = TorchBatches(open_mixture(run.path, batch_size=4, dp_rank=1, dp_size=2))
    if state is not None:
        batches.load_state_dict(state)
    return kind(batches, batch_size=None, num_workers=workers, **fields)


@pytest.mark.parametrize("fields", [{"num_workers": 1}, {"num_workers": 3, "prefetch_factor": 1}])
def test_workers_give_the_batches_of_one_loader_in_order(run, fields):
    expected = whole(run, dp_rank=1, dp_size=2)
    assert len(expected) % 3
    workers = fields.pop("num_workers")
    assert [told(batch) for batch in data_loader(run, workers, **fields)] == expected


def test_workers_that_are_spawned(run):
    found = [told(batch) for batch in data_loader(run, 1, multiprocessing_context="spawn")]
    assert found == whole(run, dp_rank=1, dp_size=2)


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 0), (0, 2)])
def test_the_state_of_a_batch_resumes_with_any_number_of_workers(run, before, after):
    expected = whole(run, dp_rank=1, dp_size=2)
    seen = []
    for batch in data_loader(run, before):
        seen.append(told(batch))
        if len(seen) == 7:
            break
    assert seen == expected[:7]
    assert [told(batch) for batch in data_loader(run, after, batch["state"])] == expected[7:]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it
@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("consumed", [0, 1, 8])
def test_a_stateful_data_loader_resumes(run, workers, consumed):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    expected = whole(run, dp_rank=1, dp_size=2)
    first = data_loader(run, workers, kind=stateful)
    iterator = iter(first)
    assert [told(next(iterator)) for _ in range(consumed)] == expected[:consumed]
    state = json.loads(json.dumps(first.state_dict()))
    second = data_loader(run, workers, kind=stateful)
    second.load_state_dict(state)
    assert [told(batch) for batch in second] == expected[consumed:]


def test_a_workers_state_is_for_as_many_workers(run):
    batches = TorchBatches(open_mixture(run.path, batch_size=4))
    state = batches.state_dict()
    with pytest.raises(ValueError, match="the state is of one of 3 workers, here there are 0: resume with as many, or"):
        batches.load_state_dict({**state, "workers": 3})
    assert batches.state_dict() == state


def test_persistent_workers_do_not_lose_batches_silently(run):
    data = data_loader(run, 1, persistent_workers=True)
    next(iter(data))
    with pytest.raises(ValueError, match="persistent_workers is iterated a second time"):
        next(iter(data))


def test_a_batch_moves_as_a_whole(run):
    batch = next(iter(TorchBatches(open_mixture(run.path, batch_size=4))))
    moved = batch.to("meta", non_blocking=True)
    assert type(moved) is TorchBatch
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            assert (moved[name].device.type, moved[name].shape) == ("meta", value.shape)
        else:
            assert moved[name] is value
    assert all(value.device.type == "cpu" for value in batch.values() if isinstance(value, torch.Tensor))
    if torch.cuda.is_available():
        pinned = batch.pin_memory()
        assert pinned["noisy"].is_pinned()
        assert told(pinned) == told(batch)


def test_a_mask_of_a_part_of_a_sequence_is_refused(run):
    batch = next(iter(TorchBatches(open_mixture(run.path, batch_size=4))))
    with pytest.raises(ValueError, match="the batch has 32 places, its segments end at 64: make the mask"):
        mask_mod(shard_sequence(batch, 0, 2, "contiguous"))


def test_without_torch_the_error_helps(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "tokenmill.pipeline.loader.torch_adapter")
    with pytest.raises(ImportError, match=r"pip install 'tokenmill\[torch\]'"):
        import tokenmill.pipeline.loader.torch_adapter  # noqa: F401
