"""A rank's share of a global batch, handed out in micro-batches."""

import itertools
import json
import re

import pytest
import torch

from tests.loader.row_digests import row_digests
from tests.loader.small_run import Stored
from tokenmill.pipeline.loader import Block, Llada, NoiseLevels, merge_states, open_mixture
from tokenmill.pipeline.loader.torch_adapter import TorchBatches

SIZES = {"batch_size": 12, "dp_size": 2, "micro_batch_size": 2}  # three a rank and step


def opened(run, rank: int = 0, **fields):
    return open_mixture(run.path, **{**SIZES, "dp_rank": rank, **fields})


STRATA = Llada(noise_levels=NoiseLevels("batch", 4))


@pytest.mark.parametrize("objective", ["llada", "illada", STRATA])
def test_they_are_the_share_of_each_global_batch_cut_up(run, objective):
    whole = list(open_mixture(run.path, batch_size=12, objective=objective))
    ranks = [list(opened(run, rank, objective=objective)) for rank in range(2)]
    assert [len(batches) for batches in ranks] == [3 * len(whole)] * 2
    for step, batch in enumerate(whole):
        parts = [batches[3 * step : 3 * step + 3] for batches in ranks]
        for rank, mine in enumerate(parts):
            assert [part.rows.tolist() for part in mine] == batch.rows[rank::2].reshape(3, 2).tolist()
            assert mine[-1].state == batch.state
        assert sum(part.denominator for mine in parts for part in mine) == batch.denominator
    assert row_digests(itertools.chain(*ranks)) == row_digests(whole)


def test_pairs_and_levels_over_the_global_batch_stay_what_they_were(run):
    objective = Block(block_size=4, levels="antithetic", least=0.3, most=0.8, pairs=True)
    whole = open_mixture(run.path, batch_size=12, objective=objective)
    expected = {}
    for batch in whole:
        expected |= by_row(batch)
    found = {}
    for rank in range(2):
        for batch in opened(run, rank, objective=objective):
            found |= by_row(batch)
    assert found == expected


def by_row(batch) -> dict[tuple[int, int], list]:
    """Masks of each row's entries (a pair has two), in order."""
    seen: dict[int, int] = {}
    found = {}
    for i, row in enumerate(batch.rows.tolist()):
        seen[row] = seen.get(row, -1) + 1
        found[row, seen[row]] = batch.masked[i].tolist()
    return found


@pytest.mark.parametrize("taken", range(1, 8))
def test_a_state_between_two_of_them_resumes_exactly(run, taken):
    first = opened(run, 1)
    whole = row_digests(opened(run, 1))
    before = list(itertools.islice(first, taken))
    state = json.loads(json.dumps(first.state_dict()))
    assert state == before[-1].state
    assert ("within" in state) == bool(taken % 3)
    assert state["next_row"] == taken // 3 * 12
    second = opened(run, 1, prefetch_batches=5)
    second.load_state_dict(merge_states([state, state]))
    assert second.num_batches == first.num_batches == len(whole) // 2 - taken
    assert row_digests([*before, *second]) == whole


def test_a_state_between_two_of_them_is_for_the_same_sizes_alone(run):
    first = opened(run)
    next(iter(first))
    state = first.state_dict()
    for other in ({"micro_batch_size": 3}, {"dp_size": 1}, {"batch_size": 24}, {"micro_batch_size": None}):
        with pytest.raises(ValueError, match="resume with the same sizes, or from a state of a global batch's end"):
            opened(run, **other).load_state_dict(state)
    for given in (0, 3, "2", None):
        with pytest.raises(ValueError, match="of a global batch: they are 3 here"):
            opened(run).load_state_dict({**state, "within": {**state["within"], "given": given}})
    list(itertools.islice(first, 2))
    opened(run, dp_size=1, micro_batch_size=4).load_state_dict(first.state_dict())


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_take_turns_at_them(run, workers):
    data = torch.utils.data.DataLoader(TorchBatches(opened(run)), batch_size=None, num_workers=workers)
    found = [(batch["rows"].tolist(), batch["state"]) for batch in data]
    assert found == [(batch.rows.tolist(), batch.state) for batch in opened(run)]


def test_the_rows_held_out_are_filled_up_to_a_global_batch(make_run):
    run = make_run(
        [Stored("web/train", 1, [[[8]]]), Stored("web/validation", 1, [[[8, 5]]])],
        length=16,
        vocab_size=50,
        in_mixture=["web/train"],
    )
    rows = [[batch.rows.tolist() for batch in opened(run, rank, split="validation")] for rank in range(2)]
    assert rows[0] == [[0, 2], [4, 6], [8, 10], [12, -1], [-1, -1], [-1, -1]]
    assert rows[1] == [[1, 3], [5, 7], [9, 11], [-1, -1], [-1, -1], [-1, -1]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 10}, "does not divide among 2 ranks × micro_batch_size 2: give 8 or 12"),
        ({"batch_size": 1}, "does not divide among 2 ranks × micro_batch_size 2: give 4 or 8"),
        ({"micro_batch_size": 0}, "micro_batch_size is 0: give at least 1"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(run, fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        opened(run, **fields)
