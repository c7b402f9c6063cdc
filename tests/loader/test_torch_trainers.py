"""Batches in other trainers' fields, against what the loader gives."""

import pytest

from tests.loader.small_run import Stored
from tests.loader.test_layouts import open_sft, turns
from tokenmill.manifests.shards import DIALOGUE
from tokenmill.pipeline.loader import Autoregressive, Block, open_mixture

torch = pytest.importorskip("torch")

from tokenmill.pipeline.loader.torch_adapter import TorchBatches  # noqa: E402
from tokenmill.pipeline.loader.torch_trainers import automodel, torchtitan  # noqa: E402


@pytest.mark.parametrize("objective", ["llada", "illada"])
def test_automodel(run, objective):
    padded = 0
    for batch in TorchBatches(open_mixture(run.path, batch_size=8, objective=objective)):
        found = automodel(batch)
        assert {name: tensor.dtype for name, tensor in found.items()} == {
            "input_ids": torch.int64,
            "loss_mask": torch.float32,
            "attention_mask": torch.int64,
        }
        for i, row in enumerate(batch["stored_row"].tolist()):
            name = batch["component_names"][batch["component"][i]]
            assert found["input_ids"][i].tolist() == run.rows[name][row].tolist()
            real = run.valid[name][row]
            assert found["attention_mask"][i].tolist() == [1] * real + [0] * (16 - real)
            padded += real < 16
        assert torch.equal(found["loss_mask"], found["attention_mask"].float())
    assert padded


def test_automodel_attends_to_prompts_and_not_to_padding(make_run):
    for batch in TorchBatches(open_sft(make_run, DIALOGUE, objective="dream")):
        found = automodel(batch)
        for i, row in enumerate(batch["stored_row"].tolist()):
            real = sum(turns(row))
            assert found["attention_mask"][i].tolist() == [1] * real + [0] * (16 - real)
        assert torch.equal(found["loss_mask"].bool(), batch["maskable"])
        assert (found["loss_mask"] < found["attention_mask"]).any()


def test_torchtitan(run):
    """Documents are whole rows of the run, some padded; one of a single token has no label at all."""
    for shifted in (False, True):
        for batch in TorchBatches(open_mixture(run.path, batch_size=8, objective=Autoregressive(shifted))):
            inputs, labels = torchtitan(batch)
            assert sorted(inputs) == ["input", "positions"]
            for i, row in enumerate(batch["stored_row"].tolist()):
                name = batch["component_names"][batch["component"][i]]
                tokens, real = run.rows[name][row].tolist(), int(run.valid[name][row])
                assert inputs["input"][i].tolist() == tokens
                assert inputs["positions"][i, :real].tolist() == list(range(real))
                assert labels[i].tolist() == tokens[1:real] + [-100] * (17 - real)


def test_a_batch_without_labels(make_run):
    run = make_run([Stored("a/train", 1.0, [[[4]]], valid=lambda _: 1)], length=3, vocab_size=50)
    for shifted in (False, True):
        batch = next(iter(TorchBatches(open_mixture(run.path, batch_size=4, objective=Autoregressive(shifted)))))
        assert torchtitan(batch)[1].tolist() == [[-100] * 3] * 4


def test_batches_of_other_objectives_are_refused(run):
    masked, blocks, next_token = (
        next(iter(TorchBatches(open_mixture(run.path, batch_size=8, objective=name))))
        for name in ("llada", Block(4), "autoregressive")
    )
    with pytest.raises(ValueError, match=r"automodel\(\) takes batches of a masked objective"):
        automodel(next_token)
    with pytest.raises(ValueError, match=r"torchtitan\(\) takes batches of the objective 'autoregressive'"):
        torchtitan(masked)
    with pytest.raises(ValueError, match="this one is of another"):
        torchtitan(blocks)
