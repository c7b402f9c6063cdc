"""How well rows are mixed, against what exact splits and random permutations give; and sources at the edges."""

from itertools import groupby
from math import comb, sqrt

import numpy as np
import pytest

from tests.loader.small_run import Stored
from tests.loader.test_order import ROW_BYTES, order_of
from tokenmill.pipeline.loader import open_mixture


def runs(values) -> list[tuple[int, int]]:
    """(value, length) of each run of equal values."""
    return [(value, len(list(members))) for value, members in groupby(values)]


def expected_runs(rows: int, mine: int, length: int) -> float:
    """Mean number of runs of exactly this length, of `mine` rows placed at random among `rows`: the others leave
    rows - mine + 1 gaps, and every way to fill the gaps is as likely as any other."""
    others = rows - mine
    return (others + 1) * comb(rows - length - 1, others - 1) / comb(rows, others) if length <= mine else 0.0


@pytest.mark.parametrize("weights", [(0.5, 0.3, 0.2), (0.9, 0.1)])
def test_runs_of_a_source_are_as_long_as_an_exact_split_gives(weights):
    stored = [Stored(f"c{i}/train", weight, [[[8] * 8]], 1e6) for i, weight in enumerate(weights)]
    order, blocks = order_of(stored, 400 * 1024), 400
    mixture = order.plan.mixture
    component = order.order(np.arange(order.plan.total_rows)).component.reshape(blocks, 1024)
    for index in range(len(weights)):
        for length in range(1, 6):
            found, means = [], []
            for block, row in enumerate(component.tolist()):
                mine = mixture.counts((block + 1) * 1024)[index] - mixture.counts(block * 1024)[index]
                found.append(runs(row).count((index, length)))
                means.append(expected_runs(1024, mine, length))
            assert np.mean(found) == pytest.approx(np.mean(means), abs=4 * np.std(found) / sqrt(blocks))


def test_neighbours_of_a_source_share_a_batch_as_rarely_in_a_mixture():
    """(r-1)/(rW-1) among the rows of each source, whose windows differ; within 4 standard errors."""
    rows = 8
    stored = [Stored("a/train", 0.8, [[[rows] * 2048]], 1), Stored("b/train", 0.2, [[[rows] * 512]], 1)]
    order = order_of(stored, None, 40 * rows * ROW_BYTES)
    found = order.order(np.arange(order.plan.total_rows))
    batches = order.places(found).batch
    assert order.windows() == [30, 9]
    for index, window in enumerate(order.windows()):
        mine = batches[found.component == index]
        size = rows * window
        whole = mine[: mine.size // size * size].reshape(-1, size)
        same = (whole[:, 1:] == whole[:, :-1]).ravel()
        expected = (rows - 1) / (size - 1)
        assert same.size > 3000
        assert same.mean() == pytest.approx(expected, abs=4 * sqrt(expected / same.size))


def test_rows_of_each_source_are_exact_at_every_block():
    weights = [0.61, 0.2, 0.1, 0.07, 0.02]
    stored = [Stored(f"c{i}/train", weight, [[[5] * 9], [[3]]], 1e6) for i, weight in enumerate(weights)]
    order = order_of(stored, 50 * 1024 + 300)
    component = order.order(np.arange(order.plan.total_rows)).component
    for rows in [*range(0, 50 * 1024 + 1, 1024), 50 * 1024 + 300]:
        counts = np.bincount(component[:rows], minlength=len(weights)).tolist()
        assert counts == order.plan.mixture.counts(rows)
        shares = [rows * weight / sum(order.plan.mixture.row_weights) for weight in order.plan.mixture.row_weights]
        assert max(abs(count - share) for count, share in zip(counts, shares, strict=True)) < 1.75


def test_a_weight_too_small_to_be_in_most_blocks():
    """One row in 5,000: at most one a block, in every fifth or so, each a new one until all 20 were visited."""
    stored = [Stored("big/train", 0.9998, [[[8] * 8]], 1e6), Stored("small/train", 0.0002, [[[6, 6, 6, 2]]], 1e6)]
    order = order_of(stored, 1024 * 200)
    found = order.order(np.arange(order.plan.total_rows))
    small = np.flatnonzero(found.component == 1)
    assert small.size == order.plan.mixture.counts(1024 * 200)[1] == 41
    per_block = np.bincount(small // 1024, minlength=200)
    assert per_block.max() == 1
    assert set(np.diff(np.flatnonzero(per_block)).tolist()) <= {4, 5}
    assert found.epoch[small].tolist() == [0] * 20 + [1] * 20 + [2]
    for epoch in (0, 1):
        assert sorted(found.row[small][found.epoch[small] == epoch].tolist()) == list(range(20))


def test_a_source_with_one_row():
    order = order_of([Stored("a/train", 0.9, [[[8] * 8]], 1e6), Stored("one/train", 0.1, [[[1]]], 1e6)], 3000)
    found = order.order(np.arange(3000))
    mine = found.component == 1
    assert mine.sum() == 300
    assert not found.row[mine].any()
    assert found.epoch[mine].tolist() == list(range(300))


def test_an_epoch_ends_within_a_batch(run):
    """Of web's 63 rows, the 8 of a batch where its first epoch ends are of both, and no row is left out or repeated."""
    visits: dict[tuple[str, int], list[int]] = {}
    wrapped = 0
    for batch in open_mixture(run.path, batch_size=64):
        for index in set(batch.component.tolist()):
            mine = batch.component == index
            wrapped += len(set(batch.epoch[mine].tolist())) > 1
            assert (np.diff(batch.epoch[mine]) >= 0).all()
            for epoch, row in zip(batch.epoch[mine].tolist(), batch.stored_row[mine].tolist(), strict=True):
                visits.setdefault((batch.component_names[index], epoch), []).append(row)
    assert wrapped >= 3
    for (name, epoch), rows in visits.items():
        assert len(set(rows)) == len(rows)
        if (name, epoch + 1) in visits:
            assert sorted(rows) == list(range(len(run.rows[name])))
