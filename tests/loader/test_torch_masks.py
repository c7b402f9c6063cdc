"""Masks drawn by torch against those that the loader draws: equal in every bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.small_run import Stored
from tokenmill.manifests.shards import DIALOGUE
from tokenmill.pipeline.loader import Block, KeyedBatch, noise, open_mixture

torch = pytest.importorskip("torch")

from tokenmill.pipeline.loader import torch_masks  # noqa: E402
from tokenmill.pipeline.loader.torch_adapter import TorchBatches, tensors  # noqa: E402

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SEEDS = st.integers(0, 2**64 - 1)
FIELDS = ("noisy", "masked", "mask_probability", "loss_weight")


def bits(array: np.ndarray) -> list:
    """Floats as the integers that their bits spell."""
    return (array.view(np.uint32) if array.dtype == np.float32 else array).tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_the_golden_draw(device):
    rows = torch.zeros(1, dtype=torch.int64, device=device)
    found = torch_masks.draw(0, 0, rows, 4)
    assert [f"{word:08x}" for word in found[0].tolist()] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


@pytest.mark.parametrize("device", DEVICES)
@settings(deadline=None, max_examples=50)
@given(
    seed=SEEDS, purpose=st.integers(0, 9), rows=st.lists(st.integers(0, 2**63 - 1), max_size=4), count=st.integers(0, 9)
)
def test_draws_are_those_of_the_reference(device, seed, purpose, rows, count):
    numbers = np.array(rows, np.int64)
    found = torch_masks.draw(seed, purpose, torch.from_numpy(numbers).to(device), count)
    assert found.cpu().tolist() == noise.draw(seed, purpose, numbers, count).tolist()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["llada", "illada", "block", "block, a row", "llada_sft"])
def test_batches_are_those_of_the_loader(make_run, device, name):
    """Every field of every batch, but for those that say how masks are to be drawn."""
    objective = {"block": Block(block_size=4), "block, a row": Block(block_size=16)}.get(name, name)
    sft = {"layout": DIALOGUE} if name == "llada_sft" else {}
    runs = (lambda i: [3, 5, 2, 6]) if sft else None
    run = make_run([Stored("made/train", 1.0, [[[8, 8]]], runs=runs)], length=16, vocab_size=50, **sft)
    keyed = open_mixture(run.path, batch_size=4, objective=objective, masks="device")
    for batch, other in zip(keyed, open_mixture(run.path, batch_size=4, objective=objective), strict=True):
        found, expected = torch_masks.with_masks(tensors(batch).to(device)), tensors(other)
        assert isinstance(batch, KeyedBatch)
        for field, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(found[field].cpu(), value), field
            else:
                assert found[field] == value, field
    with pytest.raises(ValueError, match="the batch has its masks already"):
        torch_masks.with_masks(expected)


def test_what_a_device_can_not_draw_is_refused(run):
    for objective in ("dream", "autoregressive", Block(weight="flat")):
        with pytest.raises(ValueError, match="masks='device' is not offered with"):
            open_mixture(run.path, batch_size=4, objective=objective, masks="device")


def drawn_batch(data) -> tuple[np.ndarray, ...]:
    """Rows cut into segments with a threshold each: rows, clean, maskable, cu_seqlens, thresholds."""
    size, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    inside = data.draw(st.sets(st.integers(1, size * length - 1))) if size * length > 1 else set()
    borders = np.array(sorted({*inside, *range(0, size * length + 1, length)}), np.int32)
    limits = st.one_of(st.sampled_from([1, 2**32 - 1, 4294967]), st.integers(1, 2**32 - 1))
    thresholds = data.draw(st.lists(limits, min_size=len(borders) - 1, max_size=len(borders) - 1))
    return (
        rng.integers(0, 2**63 - 1, size),
        rng.integers(3, 50, (size, length)),
        rng.random((size, length)) < 0.8,
        borders,
        np.array(thresholds, np.uint32),
    )


@pytest.mark.parametrize("device", DEVICES)
@settings(deadline=None, max_examples=50)
@given(data=st.data(), seed=SEEDS)
def test_noise_is_that_of_the_reference_in_every_bit(device, data, seed):
    rows, clean, maskable, borders, thresholds = drawn_batch(data)
    expected = noise.corrupt(seed, rows, clean, maskable, borders, thresholds, 2)
    tensors = [torch.from_numpy(array).to(device) for array in (rows, clean, maskable)]
    per_segment, cu_seqlens = (torch.from_numpy(array).to(device) for array in (thresholds.astype(np.int64), borders))
    by_token = torch.from_numpy(np.repeat(thresholds, np.diff(borders)).astype(np.int64).reshape(clean.shape)).to(
        device
    )
    for found in (
        torch_masks.corrupt(seed, *tensors, per_segment, 2, cu_seqlens),
        torch_masks.corrupt(seed, *tensors, by_token, 2),
    ):
        for name, value in zip(FIELDS, expected, strict=True):
            tensor = getattr(found, name).cpu().numpy()
            assert tensor.dtype == value.dtype
            assert bits(tensor) == bits(value)


@pytest.mark.parametrize("objective", ["llada", "illada"])
def test_a_loaders_batch_is_drawn_again_from_its_key(run, objective):
    for batch in TorchBatches(open_mixture(run.path, batch_size=16, objective=objective, seed=2**63 + 5)):
        names = ("rows", "clean", "maskable", "noise_threshold")
        found = torch_masks.corrupt(2**63 + 5, *(batch[name] for name in names), 2, batch["cu_seqlens"])
        for name in FIELDS:
            assert torch.equal(getattr(found, name), batch[name])


def test_weights_of_many_thresholds():
    """The reciprocal rounds once, wherever p lies."""
    rng = np.random.default_rng(1)
    thresholds = (2.0 ** rng.uniform(0, 32, (64, 4096))).astype(np.uint32) | 1
    p = (thresholds / 2.0**32).astype(np.float32)
    rows, some = torch.arange(64), torch.ones(64, 4096, dtype=torch.bool)
    found = torch_masks.corrupt(3, rows, some.long(), some, torch.from_numpy(thresholds.astype(np.int64)), 2)
    assert np.array_equal(found.mask_probability.numpy(), p)
    expected = np.where(found.masked.numpy(), np.float32(1) / p, np.float32(0))
    assert np.array_equal(found.loss_weight.numpy(), expected)
    assert 0.02 < found.masked.float().mean() < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compiling for a CPU takes half a minute; it agreed in 2.13")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own modules, which it imports then
def test_compiled_it_draws_the_same():
    rng = np.random.default_rng(4)
    rows, clean = rng.integers(0, 2**50, 4), rng.integers(3, 50, (4, 37))
    maskable, thresholds = rng.random((4, 37)) < 0.9, rng.integers(1, 2**32, (4, 37))
    tensors = [torch.from_numpy(array).to("cuda") for array in (rows, clean, maskable, thresholds)]
    compiled = torch.compile(torch_masks.corrupt)(2**64 - 3, *tensors, 2)
    eager = torch_masks.corrupt(2**64 - 3, *tensors, 2)
    for name in ("noisy", "masked", "mask_probability"):
        assert torch.equal(getattr(compiled, name), getattr(eager, name))
    ulps = compiled.loss_weight.cpu().numpy().view(np.int32) - eager.loss_weight.cpu().numpy().view(np.int32)
    assert np.abs(ulps).max() <= 2
