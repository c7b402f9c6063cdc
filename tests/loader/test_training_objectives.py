"""Every objective trains a small transformer, and shows it nothing of what it must guess."""

import math

import numpy as np
import pytest

from tests.loader.gathered import EOS, batch_of, gathered
from tests.loader.small_run import Stored
from tokenmill.manifests.shards import CONCAT, DIALOGUE, PRETRAINING
from tokenmill.pipeline.loader import Autoregressive, Batch, Block, Canvas, Dream, Illada, LladaSft, open_mixture

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402
from torch.nn.attention.flex_attention import create_mask  # noqa: E402

from tests.loader.test_training import BATCH, VOCABULARY, phrases  # noqa: E402
from tests.loader.tiny_transformer import TinyTransformer  # noqa: E402
from tokenmill.pipeline.loader.torch_adapter import mask_mod  # noqa: E402

LENGTH = 32
#: Name: objective, and the shards' layout.
OBJECTIVES = {
    "illada": (Illada(), PRETRAINING),
    "illada, SFT": (Illada(), CONCAT),
    "dream": (Dream(), PRETRAINING),
    "dream, SFT": (Dream(), DIALOGUE),
    "block": (Block(block_size=8), PRETRAINING),
    "block, pairs": (Block(block_size=4, pairs=True, weight="flat"), DIALOGUE),
    "block, a row": (Block(block_size=LENGTH), PRETRAINING),
    "llada_sft": (LladaSft(), DIALOGUE),
    "canvas": (Canvas(block_size=8), DIALOGUE),
    "autoregressive": (Autoregressive(), PRETRAINING),
    "autoregressive, shifted": (Autoregressive(pre_shifted=True), CONCAT),
}


def dense(batch: Batch):
    length = batch.input_ids.shape[1] if hasattr(batch, "input_ids") else batch.position_ids.shape[1]
    size = batch.position_ids.shape[0]
    return create_mask(mask_mod(batch), size, None, length, length, device="cpu")[:, 0]


def tensor(array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def on_canvas(batch: Batch) -> np.ndarray:
    """`clean` with its canvas as noisy as it is shown, and the places of the canvas."""
    places = batch.canvas_start[:, None] + np.arange(batch.noisy.shape[1])
    shown = np.pad(batch.clean, ((0, 0), (0, batch.noisy.shape[1])))
    np.put_along_axis(shown, places, batch.noisy, axis=1)
    return shown[:, : batch.clean.shape[1]], np.minimum(places, batch.clean.shape[1] - 1)


def per_token(model: TinyTransformer, batch: Batch, name: str):
    """Cross-entropy of each label, its weight, and which of them are to be guessed; all [B, places]."""
    if "canvas" in name:
        shown, places = on_canvas(batch)
        logits = model(tensor(shown), tensor(batch.position_ids), dense(batch))
        logits = logits.gather(1, tensor(places)[..., None].expand(-1, -1, logits.shape[2]))
        labels, weight = batch.labels, batch.loss_weight
        guessed = batch.corrupted & (weight > 0)
    elif "autoregressive" in name:
        logits = model(tensor(batch.input_ids), tensor(batch.position_ids), dense(batch))
        labels = (
            batch.labels if "shifted" in name else np.pad(batch.labels[:, 1:], ((0, 0), (0, 1)), constant_values=-100)
        )
        guessed = labels != -100
        labels, weight = np.where(guessed, labels, 0), guessed.astype(np.float32)
    else:
        ids, positions = (
            (batch.input_ids, batch.input_position_ids) if "block" in name else (batch.noisy, batch.position_ids)
        )
        logits = model(tensor(ids), tensor(positions), dense(batch))[:, : batch.clean.shape[1]]
        if "dream" in name:
            logits = torch.cat([logits[:, :1], logits[:, :-1]], dim=1)
        labels, weight, guessed = batch.labels, batch.loss_weight, batch.masked
    found = functional.cross_entropy(logits.flatten(0, 1), tensor(labels).flatten(), reduction="none")
    guessed = guessed & (labels != EOS)  # what fills an answer's row can be foretold
    return found, tensor(weight).flatten(), tensor(guessed).flatten()


def trained(make_run, tokens: np.ndarray, name: str) -> list[float]:
    """Mean cross-entropy of what was to be guessed, before each step."""
    objective, layout = OBJECTIVES[name]
    runs = None if layout == PRETRAINING else lambda i: [4, 12, 4, 12]
    run = make_run(
        [Stored("made/train", 1.0, [[[BATCH] * (len(tokens) // BATCH)]], tokens=tokens, runs=runs)],
        length=LENGTH,
        vocab_size=VOCABULARY,
        layout=layout,
    )
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = TinyTransformer(VOCABULARY, LENGTH + 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    history = []
    for batch in open_mixture(run.path, batch_size=BATCH, objective=objective):
        found, weight, guessed = per_token(model, batch, name)
        loss = (found * weight).sum() / batch.denominator
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append(found.detach()[guessed].mean().item())
    return history


@pytest.mark.parametrize("name", OBJECTIVES)
def test_phrases_are_learned(make_run, name):
    history = trained(make_run, phrases(50 * BATCH)[:, :LENGTH], name)
    assert history[0] == pytest.approx(math.log(VOCABULARY), rel=1e-5)
    assert np.mean(history[:3]) - np.mean(history[-5:]) >= 1.0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_random_tokens_teach_nothing(make_run, name):
    """Of uniform tokens nothing better than ln V can be said; guesses that see their label would fall below."""
    tokens = np.random.default_rng(2).integers(3, VOCABULARY, (40 * BATCH, LENGTH))
    history = trained(make_run, tokens, name)
    assert np.mean(history[-16:]) >= math.log(VOCABULARY - 3) - 0.05


@pytest.fixture
def model():
    torch.manual_seed(1)
    model = TinyTransformer(VOCABULARY, 16)
    torch.nn.init.normal_(model.head.weight)
    return model


def logits_of(model, batch: Batch, ids: np.ndarray):
    positions = batch.input_position_ids if hasattr(batch, "input_position_ids") else batch.position_ids
    with torch.no_grad():
        return model(tensor(ids), tensor(positions), dense(batch))


@pytest.mark.parametrize(
    "objective", [Illada(attention="document"), Autoregressive(), Dream(), Block(block_size=4), Block(block_size=16)]
)
def test_a_document_does_not_see_another(model, objective):
    """Other tokens in the middle document of three change no logit of the others."""
    stored = gathered([[(0, 5), (5, 9), (9, 16)]] * 2, 16, [4, 5])
    batch = batch_of(objective, stored)
    ids = (batch.noisy if hasattr(batch, "noisy") else batch.input_ids) % VOCABULARY
    other = ids.copy()
    other[:, 5:9] = (other[:, 5:9] + 7) % VOCABULARY
    if isinstance(objective, Block) and objective.block_size < 16:
        ids, other = np.concatenate([ids, ids], axis=1), np.concatenate([other, other], axis=1)
    before, after = logits_of(model, batch, ids), logits_of(model, batch, other)
    outside = [place for place in range(ids.shape[1]) if not 5 <= place % 16 < 9]
    assert torch.equal(before[:, outside], after[:, outside])
    assert not torch.equal(before[:, 5:9], after[:, 5:9])


def test_the_future_is_not_seen(model):
    batch = batch_of(Autoregressive(), gathered([[(0, 16)]], 16, [4]))
    other = batch.input_ids.copy()
    other[:, 9] += 1
    before, after = logits_of(model, batch, batch.input_ids), logits_of(model, batch, other)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


@pytest.mark.parametrize("changed", range(4))
def test_noisy_blocks_see_clean_ones_before_them_alone(model, changed):
    """Another clean block leaves the noisy ones of its own and of smaller index as they were."""
    batch = batch_of(Block(block_size=4), gathered([[(0, 16)]], 16, [4]))
    other = batch.input_ids.copy()
    other[:, 16 + 4 * changed : 20 + 4 * changed] += 1
    before, after = logits_of(model, batch, batch.input_ids), logits_of(model, batch, other)
    same = 4 * (changed + 1)
    assert torch.equal(before[:, :same], after[:, :same])
    assert changed == 3 or not torch.equal(before[:, same:16], after[:, same:16])


@pytest.mark.parametrize("changed", range(4))
def test_noisy_blocks_do_not_see_each_other(model, changed):
    batch = batch_of(Block(block_size=4), gathered([[(0, 16)]], 16, [4]))
    other = batch.input_ids.copy()
    other[:, 4 * changed : 4 * changed + 4] += 1
    before, after = logits_of(model, batch, batch.input_ids), logits_of(model, batch, other)
    outside = [place for place in range(32) if not 4 * changed <= place < 4 * changed + 4]
    assert torch.equal(before[:, outside], after[:, outside])
