"""Rows of several lengths: batches of one length, every row its visits, on any ranks, from any row; held-out rows."""

from collections import Counter

import numpy as np
import pytest

from tests.loader.small_run import Stored
from tokenmill.manifests.lengths import length_of
from tokenmill.manifests.shards import DIALOGUE
from tokenmill.pipeline.loader import Block, LladaSft, NoiseLevels, Stage, open_mixture
from tokenmill.pipeline.loader.opening import open_order

EPOCHS = 3


def runs(length: int):
    """Prompt and answer of a row that not always is full."""
    return lambda i: [2, length - 2 - i % 3]


def stored(name: str, units: list, max_epochs: float = EPOCHS) -> Stored:
    """A component whose weight is its tokens: then every row has the same number of visits."""
    length = length_of(name)
    count = sum(sum(shard) for unit in units for shard in unit)
    tokens = sum(length - i % 3 for i in range(count))
    return Stored(name, tokens, units, max_epochs, valid=lambda i: length - i % 3, runs=runs(length))


@pytest.fixture
def run(make_run):
    return make_run(
        [
            stored("web/train/length=8", [[[8, 8, 5]], [[9]]]),
            stored("web/train/length=16", [[[8, 8, 3], [2]]]),
            stored("code/train/length=8", [[[4, 4]], [[7, 7]]]),
            stored("code/train/length=64", [[[6]], [[6, 3]]]),
            stored("web/validation/length=8", [[[4, 3]]], 1),
            stored("code/validation/length=64", [[[3], [2]]], 1),
            stored("web/validation/length=64", [[[2]]], 1),
        ],
        length=64,
        vocab_size=50,
        layout=DIALOGUE,
        batch_size=4,
        in_mixture=[f"{name}/train/length={length}" for name, length in TRAIN],
    )


TRAIN = [("web", 8), ("web", 16), ("code", 8), ("code", 64)]


def opened(run, **changed):
    return open_mixture(run.path, **{"batch_size": 4, "objective": "llada_sft", **changed})


def listed(batches) -> list[tuple]:
    """What each row is, and what the objective made of it."""
    return [
        (int(k), batch.component_names[c], int(row), int(epoch), noisy.tolist())
        for batch in batches
        for k, c, row, epoch, noisy in zip(
            batch.rows, batch.component, batch.stored_row, batch.epoch, batch.noisy, strict=True
        )
    ]


def test_each_batch_has_one_length_and_each_row_its_visits(run):
    loader = opened(run)
    seen, lengths = Counter(), Counter()
    assert loader.num_batches == loader.plan.total_rows // 4
    rows = []
    for batch in loader:
        length = batch.clean.shape[1]
        lengths[length] += 1
        rows += batch.rows.tolist()
        for i, (component, row) in enumerate(zip(batch.component, batch.stored_row, strict=True)):
            name = batch.component_names[component]
            assert length_of(name) == length
            begin = batch.prompt_lengths[i]
            valid = run.valid[name][row]
            assert batch.clean[i, :valid].tolist() == run.rows[name][row][:valid].tolist()
            assert (begin, batch.answer_lengths[i]) == (2, length - 2)
            seen[name, int(row), int(batch.epoch[i])] += 1
    assert rows == list(range(loader.plan.total_rows))
    assert lengths == {8: 52 * EPOCHS // 4, 16: 21 * EPOCHS // 4, 64: 15 * EPOCHS // 4}
    assert set(seen.values()) == {1}
    for name, count in Counter(name for name, _, _ in seen).items():
        assert len(run.rows[name]) * EPOCHS - 4 < count <= len(run.rows[name]) * EPOCHS
    first = [batch.clean.shape[1] for batch in opened(run)][:12]
    assert len(set(first)) > 1, "lengths come among each other"


def test_the_longest_rows_may_be_the_commonest(make_run):
    names = ["web/train/length=64", "web/train/length=8"]
    units = [[[[8, 8]]], [[[4, 4]]]]
    form = {"length": 64, "vocab_size": 50, "layout": DIALOGUE, "batch_size": 4}
    run = make_run([stored(name, shards) for name, shards in zip(names, units, strict=True)], **form)
    loader = opened(run)
    assert [stage.mixture.sequence_length for stage in loader.plan.stages] == [64, 8]
    for batch in loader:
        for ids, component, row in zip(batch.clean, batch.component, batch.stored_row, strict=True):
            name = batch.component_names[component]
            valid = run.valid[name][row]
            assert ids[:valid].tolist() == run.rows[name][row][:valid].tolist()


@pytest.mark.parametrize(("ranks", "micro"), [(1, 1), (2, None), (4, 1), (2, 1)])
def test_ranks_and_micro_batches_share_the_same_rows(run, ranks, micro):
    whole = sorted(listed(opened(run)))
    shares = [listed(opened(run, dp_rank=rank, dp_size=ranks, micro_batch_size=micro)) for rank in range(ranks)]
    assert sorted(row for share in shares for row in share) == whole


@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize("done", [1, 7, 20])
def test_resuming_with_any_batch_size_that_divides(run, done, batch_size):
    loader = opened(run)
    whole = listed(loader)
    iterator = iter(loader)
    states = [batch.state for _, batch in zip(range(done), iter(opened(run)), strict=False)]
    other = opened(run, batch_size=batch_size)
    other.load_state_dict(states[-1])
    assert listed(other) == whole[4 * done :]
    assert next(iterator, None) is None


def test_a_state_within_a_length_wants_a_batch_size_that_fits(run):
    loader = opened(run, batch_size=1)
    state = [batch.state for _, batch in zip(range(3), loader, strict=False)][-1]
    with pytest.raises(ValueError, match="next_row 3, global batches of 2 rows do not end where each 4 rows of one"):
        opened(run, batch_size=2).load_state_dict(state)
    again = opened(run, batch_size=1)
    again.load_state_dict(state)
    assert listed(again) == listed(opened(run))[3:]


@pytest.mark.parametrize("batch_size", [3, 8])
def test_batches_of_several_lengths_are_refused(run, batch_size):
    with pytest.raises(ValueError, match=rf"batch_size is {batch_size}, and rows of one length come 4 at a time"):
        opened(run, batch_size=batch_size)


def test_a_plan_of_so_many_rows(run):
    assert sum(1 for _ in opened(run, total_rows=40)) == 10
    with pytest.raises(ValueError, match="a plan of 42 rows is asked for"):
        opened(run, total_rows=42)
    with pytest.raises(ValueError, match=r"Plan at most \d+ rows"):
        opened(run, total_rows=4000)


def test_it_makes_a_plan_alone(run):
    stages = [Stage(run.path, 8), Stage(run.path, 8)]
    with pytest.raises(ValueError, match="stage 0 has rows of several lengths, which make a plan alone"):
        open_mixture(stages, batch_size=4, objective="llada_sft")
    with pytest.raises(ValueError, match="stage 0 has rows of several lengths"):
        open_mixture([Stage(run.path, 8, at=4)], batch_size=4, objective="llada_sft")


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
def test_through_the_data_loader_of_torch(run, workers):
    torch = pytest.importorskip("torch")
    from tokenmill.pipeline.loader.torch_adapter import TorchBatches

    data = torch.utils.data.DataLoader(TorchBatches(opened(run)), batch_size=None, num_workers=workers)
    expected = list(opened(run))
    for batch, other in zip(data, expected, strict=True):
        np.testing.assert_array_equal(batch["noisy"].numpy(), other.noisy)


def test_where_a_stored_row_comes_first(run):
    order = open_order(run.path).order
    found = order.order(np.arange(order.plan.total_rows))
    for k, (component, epoch, row) in enumerate(zip(*found, strict=True)):
        if epoch == 0:
            assert order.first_visit(order.plan.component_names[component], int(row)) == k
    assert order.first_visit("web/validation/length=8", 0) is None


@pytest.mark.parametrize("batch_size", [1, 4, 5, 64])
@pytest.mark.parametrize("done", [0, 1, 2])
def test_held_out_rows_once_by_length_whatever_the_batch_size(run, batch_size, done):
    names = ["web/validation/length=8", "code/validation/length=64", "web/validation/length=64"]
    expected = [(name, row) for name in names for row in range(len(run.rows[name]))]
    loader = opened(run, batch_size=batch_size, split="validation")
    assert loader.num_batches == -(-7 // batch_size) + -(-7 // batch_size)
    batches = list(loader)
    for batch in batches:
        assert {length_of(batch.component_names[c]) for c in batch.component if c >= 0} == {batch.clean.shape[1]}
        assert batch.rows.size == batch_size
        assert (batch.rows >= 0).any()
    everything = [row for row in listed(batches) if row[0] >= 0]
    assert [row[0] for row in everything] == list(range(14))
    assert [row[1:3] for row in everything] == expected
    one_by_one = listed(opened(run, batch_size=1, split="validation"))
    assert everything == one_by_one, "noise and rows are the same in batches of any size"
    if 0 < done < len(batches):
        again = opened(run, batch_size=batch_size, split="validation")
        again.load_state_dict(batches[done - 1].state)
        assert again.num_batches == len(batches) - done
        assert listed(again) == listed(batches[done:])


@pytest.mark.parametrize("batch_size", [4, 8])
def test_noise_levels_of_held_out_rows_are_of_groups_in_each_length(run, batch_size):
    """Rows of the second length begin at 7, which no group of 4 does."""
    levels = NoiseLevels("batch", 4)
    batches = list(opened(run, batch_size=batch_size, split="validation", objective=LladaSft(noise_levels=levels)))
    found = {
        int(k): int(4 * level.max())
        for batch in batches
        for k, level in zip(batch.rows, batch.mask_probability, strict=True)
        if k >= 0
    }
    assert sorted(found) == list(range(14))
    for group in (range(4), range(7, 11)):
        assert sorted(found[k] for k in group) == [0, 1, 2, 3]


def test_the_schedule_of_block_sizes_begins_with_each_length_of_held_out_rows(run):
    params = Block(block_size=((0, 2), (4, 8)))
    batches = list(opened(run, split="validation", objective=params))
    assert [(batch.block_size, batch.clean.shape[1]) for batch in batches] == [(2, 8), (8, 8), (2, 64), (8, 64)]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_block_size_that_one_length_is_no_multiple_of_is_refused_at_once(run, split):
    with pytest.raises(ValueError, match="block_size 16 does not divide rows of 8 tokens: give 8"):
        opened(run, split=split, objective=Block(block_size=16))


@pytest.mark.parametrize("ranks", [2, 4])
def test_held_out_rows_on_ranks(run, ranks):
    whole = sorted(listed(opened(run, split="validation")))
    shares = [listed(opened(run, split="validation", dp_rank=rank, dp_size=ranks)) for rank in range(ranks)]
    assert sorted(row for share in shares for row in share) == whole
    assert len({len(share) for share in shares}) == 1
