import sys

import numpy as np
import pytest

from tokenmill.pipeline.loader import Illada, open_mixture

torch = pytest.importorskip("torch")

from tokenmill.pipeline.loader.torch_adapter import TorchBatches, mask_mod  # noqa: E402


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
        found = create_mask(mask_mod(batch), size, None, length, length, device="cpu")
        np.testing.assert_array_equal(found[:, 0].numpy(), dense)


def test_state_resumes(run):
    first, second = (TorchBatches(open_mixture(run.path, batch_size=8)) for _ in range(2))
    iterator = iter(first)
    for _ in range(4):
        batch = next(iterator)
    assert first.state_dict() == batch["state"]
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(next(iter(second))["noisy"].numpy(), next(iterator)["noisy"].numpy())


def test_workers_are_refused(run, monkeypatch):
    worker = type("Worker", (), {"num_workers": 1})
    monkeypatch.setattr("tokenmill.pipeline.loader.torch_adapter.get_worker_info", lambda: worker)
    with pytest.raises(ValueError, match="DataLoader has 1 workers"):
        iter(TorchBatches(open_mixture(run.path, batch_size=8)))


def test_without_torch_the_error_helps(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "tokenmill.pipeline.loader.torch_adapter")
    with pytest.raises(ImportError, match=r"pip install 'tokenmill\[torch\]'"):
        import tokenmill.pipeline.loader.torch_adapter  # noqa: F401
