"""Objectives with attention of their own train a small transformer, and show it nothing of what it must guess."""

import math

import numpy as np
import pytest

from tests.loader.gathered import batch_of, gathered
from tests.loader.small_run import Stored
from tokenmill.pipeline.loader import Autoregressive, Batch, Illada, open_mixture

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402
from torch.nn.attention.flex_attention import create_mask  # noqa: E402

from tests.loader.test_training import BATCH, LENGTH, VOCABULARY, phrases  # noqa: E402
from tests.loader.tiny_transformer import TinyTransformer  # noqa: E402
from tokenmill.pipeline.loader.torch_adapter import mask_mod, tensors  # noqa: E402

OBJECTIVES = {"illada": Illada(), "by document": Illada(attention="document"), "autoregressive": Autoregressive()}


def dense(batch: Batch):
    size, length = batch.position_ids.shape
    return create_mask(mask_mod(batch), size, None, length, length, device="cpu")[:, 0]


def losses(model: TinyTransformer, batch: Batch):
    """The objective's loss, and the mean cross-entropy of what is to be guessed."""
    found = tensors(batch)
    if "input_ids" in found:
        logits = model(found["input_ids"], found["position_ids"], dense(batch))[:, :-1]
        labels = found["labels"][:, 1:]
        total = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum", ignore_index=-100)
        return total / found["denominator"], total.item() / found["denominator"]
    logits = model(found["noisy"], found["position_ids"], dense(batch))
    per_token = functional.cross_entropy(logits.flatten(0, 1), found["labels"].flatten(), reduction="none")
    masked = found["masked"].flatten()
    mean = per_token.detach()[masked].mean().item()
    return (per_token * found["loss_weight"].flatten()).sum() / found["denominator"], mean


def trained(make_run, tokens: np.ndarray, objective) -> list[float]:
    run = make_run(
        [Stored("made/train", 1.0, [[[BATCH] * (len(tokens) // BATCH)]], tokens=tokens)],
        length=LENGTH,
        vocab_size=VOCABULARY,
    )
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = TinyTransformer(VOCABULARY, LENGTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    history = []
    for batch in open_mixture(run.path, batch_size=BATCH, objective=objective):
        loss, mean = losses(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append(mean)
    return history


@pytest.mark.parametrize("name", ["illada", "autoregressive"])
def test_phrases_are_learned(make_run, name):
    history = trained(make_run, phrases(40 * BATCH), OBJECTIVES[name])
    assert history[0] == pytest.approx(math.log(VOCABULARY), rel=1e-5)
    assert np.mean(history[:3]) - np.mean(history[-5:]) >= 1.0


@pytest.mark.parametrize("name", ["illada", "autoregressive"])
def test_random_tokens_teach_nothing(make_run, name):
    tokens = np.random.default_rng(2).integers(3, VOCABULARY, (48 * BATCH, LENGTH))
    history = trained(make_run, tokens, OBJECTIVES[name])
    assert np.mean(history[-16:]) >= math.log(VOCABULARY - 3) - 0.05


@pytest.mark.parametrize("name", ["by document", "autoregressive"])
def test_a_document_does_not_see_another(name):
    """Other tokens in the middle document of three change no logit of the others."""
    stored = gathered([[(0, 5), (5, 9), (9, 16)]] * 2, 16, [4, 5])
    stored = stored._replace(clean=stored.clean % 40 + 3)
    batch = batch_of(OBJECTIVES[name], stored)
    torch.manual_seed(1)
    model = TinyTransformer(VOCABULARY, 16)
    torch.nn.init.normal_(model.head.weight)
    ids = torch.from_numpy(np.where(stored.clean == 2, 3, stored.clean))
    other = ids.clone()
    other[:, 5:9] = (other[:, 5:9] + 7) % 40 + 3
    positions, sees = torch.from_numpy(batch.position_ids), dense(batch)
    with torch.no_grad():
        before, after = (model(tokens, positions, sees) for tokens in (ids, other))
    outside = [*range(5), *range(9, 16)]
    assert torch.equal(before[:, outside], after[:, outside])
    assert not torch.equal(before[:, 5:9], after[:, 5:9])


def test_the_future_is_not_seen():
    stored = gathered([[(0, 16)]], 16, [4])
    batch = batch_of(OBJECTIVES["autoregressive"], stored)
    torch.manual_seed(1)
    model = TinyTransformer(VOCABULARY, 16)
    torch.nn.init.normal_(model.head.weight)
    ids = torch.from_numpy(stored.clean)
    other = ids.clone()
    other[:, 9] += 1
    positions, sees = torch.from_numpy(batch.position_ids), dense(batch)
    with torch.no_grad():
        before, after = (model(tokens, positions, sees) for tokens in (ids, other))
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])
