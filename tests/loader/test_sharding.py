"""Cutting a batch along its sequence: what every peer gets, and that together it is the batch."""

from dataclasses import fields, replace

import numpy as np
import pytest

from tokenmill.pipeline.loader import open_mixture
from tokenmill.pipeline.loader.sharding import shard_sequence

#: Tokens that rank r of n takes of a row of L = 8.
TAKEN = {
    ("contiguous", 2): [[0, 1, 2, 3], [4, 5, 6, 7]],
    ("zigzag", 2): [[0, 1, 6, 7], [2, 3, 4, 5]],
    ("contiguous", 4): [[0, 1], [2, 3], [4, 5], [6, 7]],
    ("zigzag", 4): [[0, 7], [1, 6], [2, 5], [3, 4]],
    ("zigzag", 1): [[0, 1, 2, 3, 4, 5, 6, 7]],
}
OBJECTIVES = ("llada", "illada", "autoregressive")


def in_eighths(places: list[int], length: int) -> np.ndarray:
    return np.concatenate([np.arange(place * length // 8, (place + 1) * length // 8) for place in places])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("how", "size"), TAKEN)
def test_each_rank_takes_its_tokens_of_every_array(run, objective, how, size):
    batch = next(iter(open_mixture(run.path, batch_size=4, objective=objective)))
    for rank, places in enumerate(TAKEN[how, size]):
        found = shard_sequence(batch, rank, size, how)
        index = in_eighths(places, 16)
        assert type(found) is type(batch)
        cut = 0
        for field in fields(batch):
            before, after = getattr(batch, field.name), getattr(found, field.name)
            if isinstance(before, np.ndarray) and before.ndim == 2:
                assert after.dtype == before.dtype
                assert after.tolist() == before[:, index].tolist()
                cut += 1
            else:
                assert after is before
        assert cut >= 3
        assert found.document_ids.tolist() == batch.document_ids[:, index].tolist()


@pytest.mark.parametrize("how", ["contiguous", "zigzag"])
def test_tensors_are_cut_alike(run, how):
    torch = pytest.importorskip("torch")
    from tokenmill.pipeline.loader.torch_adapter import TorchBatch, tensors

    batch = next(iter(open_mixture(run.path, batch_size=4)))
    found, expected = shard_sequence(tensors(batch), 1, 2, how), tensors(shard_sequence(batch, 1, 2, how))
    assert type(found) is TorchBatch
    for name, value in expected.items():
        assert torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value


def test_peers_open_the_same_rows_and_share_the_loss(run):
    """Two data-parallel ranks of two context-parallel peers each, every one with a loader of its own."""
    whole = next(iter(open_mixture(run.path, batch_size=8)))
    weights = np.zeros_like(whole.loss_weight)
    for dp_rank in range(2):
        for cp_rank, places in enumerate(TAKEN["zigzag", 2]):
            mine = next(iter(open_mixture(run.path, batch_size=8, dp_rank=dp_rank, dp_size=2)))
            cut = shard_sequence(mine, cp_rank, 2)
            assert cut.rows.tolist() == whole.rows[dp_rank::2].tolist()
            index = in_eighths(places, 16)
            weights[dp_rank::2, index] += cut.loss_weight
    np.testing.assert_array_equal(weights, whole.loss_weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, "zigzag"), "rows of 16 tokens do not divide into 6 chunks: pack rows of 12 or 18 tokens"),
        ((0, 32, "contiguous"), "rows of 16 tokens do not divide into 32 chunks: pack rows of 32 or 64 tokens"),
        ((2, 2, "zigzag"), "cp_rank 2 of cp_size 2"),
        ((0, 2, "ring"), "how is 'ring': give 'contiguous' or 'zigzag'"),
    ],
)
def test_bad_arguments_are_refused(run, arguments, message):
    batch = next(iter(open_mixture(run.path, batch_size=4)))
    with pytest.raises(ValueError, match=message):
        shard_sequence(batch, *arguments)


def test_an_array_of_other_places_is_refused(run):
    batch = next(iter(open_mixture(run.path, batch_size=4)))
    doubled = replace(batch, noisy=np.concatenate([batch.noisy, batch.clean], axis=1))
    with pytest.raises(ValueError, match=r"noisy is \(4, 32\), the batch 4 rows of 16 tokens"):
        shard_sequence(doubled, 0, 2)
