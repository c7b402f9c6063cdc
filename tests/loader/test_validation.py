"""The validation split: every held-out row once, in stored order, the same noise every time, the tail padded."""

import numpy as np
import pytest

from tests.loader.gathered import gathered
from tests.loader.small_run import Stored
from tokenmill.pipeline.loader import open_mixture
from tokenmill.pipeline.loader.batch import NoiseKey
from tokenmill.pipeline.loader.padding import padded

TRAIN = Stored("web/train", 1.0, [[[8, 8]]], max_epochs=9)
HELD_OUT = [
    Stored("web/validation/en", 1.0, [[[4, 3], [2]], [[4]]], valid=lambda i: 16 - i % 3),
    Stored("code/validation", 1.0, [[[5]]]),
]


@pytest.fixture
def run(make_run):
    return make_run([TRAIN, *HELD_OUT], length=16, vocab_size=50, in_mixture=["web/train"])


def numbered(run) -> list[tuple[str, int]]:
    """Component and stored row of every validation row."""
    return [(name, row) for name in ("code/validation", "web/validation/en") for row in range(len(run.rows[name]))]


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("objective", ["llada", "illada", "dream", "autoregressive"])
def test_every_row_once_in_stored_order_on_any_number_of_ranks(run, ranks, objective):
    whole = list(open_mixture(run.path, batch_size=8, split="validation", objective=objective))
    fields = ["labels", "position_ids", *(["noisy", "mask_probability"] if objective != "autoregressive" else [])]
    assert np.concatenate([batch.rows for batch in whole]).tolist() == [*range(18), *[-1] * 6]
    found = []
    loaders = [
        open_mixture(run.path, batch_size=8, split="validation", objective=objective, dp_rank=rank, dp_size=ranks)
        for rank in range(ranks)
    ]
    assert {loader.num_batches for loader in loaders} == {3}
    shares = [list(loader) for loader in loaders]
    for step, batch in enumerate(whole):
        mine = [share[step] for share in shares]
        assert [share.rows.tolist() for share in mine] == [batch.rows[rank::ranks].tolist() for rank in range(ranks)]
        assert sum(share.denominator for share in mine) == batch.denominator
        for field in fields:
            parts = [getattr(batch, field)[rank::ranks].tolist() for rank in range(ranks)]
            assert [getattr(share, field).tolist() for share in mine] == parts
        for i in np.flatnonzero(batch.rows >= 0):
            found.append((batch.component_names[batch.component[i]], int(batch.stored_row[i])))
            tokens = batch.input_ids if objective == "autoregressive" else batch.clean
            assert tokens[i].tolist() == run.rows[found[-1][0]][found[-1][1]].tolist()
    assert found == numbered(run)


@pytest.mark.parametrize("objective", ["llada", "illada", "autoregressive"])
def test_rows_of_padding_count_for_nothing(run, objective):
    """The denominators are those of batches that hold all rows and no more."""
    padded, even = (
        list(open_mixture(run.path, batch_size=size, split="validation", objective=objective)) for size in (8, 9)
    )
    assert sum(batch.denominator for batch in padded) == sum(batch.denominator for batch in even)
    last = padded[-1]
    fills = last.rows < 0
    assert fills.tolist() == [False] * 2 + [True] * 6
    assert (last.component[fills] == -1).all()
    assert (last.stored_row[fills] == -1).all()
    if objective == "autoregressive":
        assert (last.input_ids[fills] == 0).all()
        assert (last.labels[fills] == -100).all()
    else:
        assert (last.clean[fills] == 0).all()
        assert not last.maskable[fills].any()
        assert not last.loss_weight[fills].any()
    assert last.cu_seqlens[-1] == last.position_ids.size


def test_what_fills_a_batch_has_no_pieces_and_no_answers():
    """Aligned rows end where their last piece does, whatever their number of tokens."""
    stored = gathered([[(0, 5), (8, 16)], [(0, 16)], [(0, 3)]], 16, [4, -1, 5])
    stored = stored._replace(answers=np.ones((3, 16), np.bool_))
    found = padded(stored, 0)
    assert found.pieces is not None
    assert list(zip(*(column.tolist() for column in found.pieces), strict=True)) == [(0, 0, 5), (0, 8, 16), (2, 0, 3)]
    assert found.valid.tolist() == [13, 0, 3]
    assert not found.clean[1].any()
    assert found.answers.any(axis=1).tolist() == [True, False, True]


def test_a_rank_may_have_padding_alone(run):
    last = list(open_mixture(run.path, batch_size=16, split="validation", dp_rank=3, dp_size=4))[-1]
    assert last.rows.tolist() == [-1] * 4
    assert last.denominator == 0


def test_its_state_resumes_and_is_no_training_state(run):
    loader = open_mixture(run.path, batch_size=8, split="validation")
    batches = list(loader)
    assert [batch.state["next_row"] for batch in batches] == [8, 16, 18]
    again = open_mixture(run.path, batch_size=4, split="validation")
    again.load_state_dict(batches[0].state)
    assert [batch.rows.tolist() for batch in again] == [[8, 9, 10, 11], [12, 13, 14, 15], [16, 17, -1, -1]]
    assert list(loader) == []
    with pytest.raises(ValueError, match="state's plan"):
        open_mixture(run.path, batch_size=8).load_state_dict(batches[0].state)


def test_no_validation_documents(make_run):
    run = make_run([TRAIN], length=16, vocab_size=50)
    with pytest.raises(ValueError, match=r"holds out no documents for validation: give `strata: .validation_fraction"):
        open_mixture(run.path, batch_size=4, split="validation")
    with pytest.raises(ValueError, match="split is 'test': give 'train' or 'validation'"):
        open_mixture(run.path, batch_size=4, split="test")


@pytest.mark.parametrize("fields", [{"total_rows": 5}, {"window_bytes": 1 << 20}])
def test_it_is_taken_whole(run, fields):
    with pytest.raises(ValueError, match="taken whole and in stored order: leave out total_rows, window_bytes"):
        open_mixture(run.path, batch_size=4, split="validation", **fields)


@pytest.mark.parametrize(("padding", "mask", "filler"), [(7, 2, 7), (-1, 2, 0), (-1, 0, 1), (2, 2, 0), (-1, -1, 0)])
def test_rows_of_padding_never_hold_the_mask(padding, mask, filler):
    assert NoiseKey(1, mask, padding, eos_id=-1, vocab_size=50).filler == filler
