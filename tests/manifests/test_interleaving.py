"""Batches of several lengths among each other: every row of every stage once and in order, shares near their quota."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.manifests.interleaving import Interleaving
from tokenmill.manifests.keyed import key64, keyed_permutation

INTERLEAVINGS = st.builds(
    Interleaving,
    st.integers(0, 2**64 - 1),
    st.integers(1, 5),
    st.lists(st.integers(1, 1500), min_size=1, max_size=5).map(tuple),
)


def slow(plan: Interleaving) -> list[tuple[int, int]]:
    """Stage and place of every global row, with lists."""
    found: list[tuple[int, int]] = []
    given_out = [0] * len(plan.batches)
    for block, first in enumerate(range(0, sum(plan.batches), 1024)):
        end = min(first + 1024, sum(plan.batches))
        counts = zip(plan.split.counts(end), plan.split.counts(first), strict=True)
        listed = [stage for stage, (after, before) in enumerate(counts) for _ in range(after - before)]
        for at in keyed_permutation(end - first, key64("lengths", plan.seed, block)):
            stage = listed[at]
            found += [(stage, given_out[stage] * plan.size + inside) for inside in range(plan.size)]
            given_out[stage] += 1
    return found


@settings(max_examples=40, deadline=None)
@given(INTERLEAVINGS)
def test_every_row_of_every_stage_once_and_in_order(plan):
    places = plan.places(np.arange(plan.size * plan.total_batches))
    assert list(zip(places.stage.tolist(), places.row.tolist(), strict=True)) == slow(plan)
    assert (places.stage.reshape(-1, plan.size) == places.stage[:: plan.size, None]).all()
    for stage, batches in enumerate(plan.batches):
        assert places.row[places.stage == stage].tolist() == list(range(batches * plan.size))


@settings(max_examples=40, deadline=None)
@given(INTERLEAVINGS, st.data())
def test_any_rows_in_any_order_and_back(plan, data):
    total = plan.size * plan.total_batches
    k = np.array(data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=20)))
    places, every = plan.places(k), plan.places(np.arange(total))
    assert places.stage.tolist() == every.stage[k].tolist()
    assert places.row.tolist() == every.row[k].tolist()
    back = [plan.global_row(*place) for place in zip(places.stage.tolist(), places.row.tolist(), strict=True)]
    assert back == k.tolist()


def test_back_from_both_sides_of_a_block_s_end():
    plan = Interleaving(3, 2, (1500, 900, 1))
    for k in (*range(2 * 1024 - 20, 2 * 1024 + 20), *range(2 * 2048 - 20, 2 * 2048 + 20)):
        places = plan.places(np.array([k]))
        assert plan.global_row(int(places.stage[0]), int(places.row[0])) == k


@settings(max_examples=40, deadline=None)
@given(INTERLEAVINGS)
def test_every_block_has_its_share_of_each_stage(plan):
    stages = plan.places(np.arange(0, plan.size * plan.total_batches, plan.size)).stage
    for end in (*range(1024, plan.total_batches, 1024), plan.total_batches):
        counts = np.bincount(stages[:end], minlength=len(plan.batches)).tolist()
        quotas = [Fraction(end * batches, plan.total_batches) for batches in plan.batches]
        assert max(abs(count - quota) for count, quota in zip(counts, quotas, strict=True)) < Fraction(7, 4)


def test_the_order_stays_what_it_was():
    """A change of it would change every training under way."""
    plan = Interleaving(7, 2, (5, 3, 1))
    assert plan.places(np.arange(0, 18, 2)).stage.tolist() == GOLDEN
    assert plan.places(np.array([17])).row.tolist() == [2 * GOLDEN[:8].count(GOLDEN[8]) + 1]
    assert Interleaving(8, 2, (5, 3, 1)).places(np.arange(0, 18, 2)).stage.tolist() != GOLDEN


GOLDEN = [1, 0, 2, 0, 0, 1, 1, 0, 0]
