"""The order is a pure function of the plan: against a slow version, and what must hold of any order."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.small_run import Stored, spelled
from tokenmill.manifests.keyed import key64, keyed_permutation, mix64
from tokenmill.manifests.mixture import Component, Mixture
from tokenmill.manifests.plan import compile_plan
from tokenmill.manifests.shards import shard_table
from tokenmill.pipeline.loader.order import Order

LENGTH = 16
ROW_BYTES = 2 * LENGTH


def table_of(stored) -> pa.Table:
    """The shard table of shards that need not exist."""
    rows = []
    for component in stored:
        for u, unit in enumerate(component.units):
            for s, batches in enumerate(unit):
                name = f"unit-{u:03}"
                entry = {"component": component.name, "unit": name, "path": f"{component.name}/{name}.{s:03}.arrow"}
                blanks = {"hash": "", "bytes": 0, "documents": 0, "schema_bytes": 0}
                inside = {"batch_offsets": [0] * len(batches), "batch_lengths": [0] * len(batches)}
                inside |= {"batch_rows": batches, "batch_hashes": [bytes(16)] * len(batches)}
                rows.append(entry | blanks | inside | {"rows": sum(batches), "tokens": sum(batches) * LENGTH})
    return shard_table(rows)


def mixture_of(components, seed=7) -> Mixture:
    return Mixture.of(
        seed=seed,
        sequence_length=LENGTH,
        vocab_size=50,
        tokenizer_path="",
        tokenizer_hash="",
        special_ids={"bos": -1, "eos": -1, "pad": -1, "mask": -1},
        shard_table_path="",
        shard_table_hash="",
        components=components,
    )


def order_of(stored, total_rows=None, window_bytes=None, seed=7) -> Order:
    """An order over shards that need not exist: the order reads the shard table alone."""
    components = []
    for component in stored:
        count = sum(sum(shard) for unit in component.units for shard in unit)
        components.append(Component(component.name, component.weight, count, count * LENGTH, component.max_epochs))
    return Order(compile_plan(mixture_of(components, seed), total_rows, window_bytes), [table_of(stored)])


BATCHES = st.lists(st.integers(1, 9), min_size=1, max_size=5)
UNITS = st.lists(st.lists(BATCHES, min_size=1, max_size=3), min_size=1, max_size=3)


@st.composite
def orders(draw) -> tuple[list[Stored], Order]:
    count = draw(st.integers(1, 4))
    stored = [Stored(f"c{i}/train", draw(st.floats(0.01, 1)), draw(UNITS), max_epochs=1e6) for i in range(count)]
    rows = draw(st.integers(1, 3000))
    spare = draw(st.integers(0, 40)) * 9 * ROW_BYTES
    return stored, order_of(stored, rows, 2 * 9 * ROW_BYTES * count + spare, seed=draw(st.integers(0, 2**64 - 1)))


def slow_order(stored: list[Stored], order: Order) -> list[tuple[int, int, int]]:
    """DESIGN's "The order" with lists, all rows of the plan from the first to the last."""
    plan, mixture = order.plan, order.plan.mixture
    by_name = {component.name: component for component in stored}
    taken = [0] * len(mixture.components)
    found, epochs = [], {}
    for first in range(0, plan.total_rows, 1024):
        size = min(1024, plan.total_rows - first)
        counts = zip(mixture.counts(first + size), mixture.counts(first), strict=True)
        listed = [i for i, (after, before) in enumerate(counts) for _ in range(after - before)]
        for slot in keyed_permutation(size, key64("block", mixture.seed, 0, first // 1024)):
            index = listed[slot]
            epoch, place = divmod(taken[index], mixture.components[index].rows)
            taken[index] += 1
            if (index, epoch) not in epochs:
                component = by_name[mixture.components[index].name]
                epochs[index, epoch] = slow_epoch(component, mixture.seed, epoch, order.windows()[index])
            found.append((index, epoch, epochs[index, epoch][place]))
    return found


def slow_batches(component: Stored, seed: int, epoch: int) -> list[range]:
    """The rows of each of a component's record batches, in the order of one epoch."""
    key, first, batches = key64("epoch", seed, component.name, epoch), 0, []
    for u, unit in enumerate(component.units):
        unit_key = key64("unit", component.name, f"unit-{u:03}")
        for number, size in enumerate(size for shard in unit for size in shard):
            identity = int(mix64(np.array([number], np.uint64), 0)[0]) ^ unit_key
            batches.append((int(mix64(np.array([identity], np.uint64), key)[0]), range(first, first + size)))
            first += size
    return [rows for _, rows in sorted(batches, key=lambda item: item[0])]


def slow_epoch(component: Stored, seed: int, epoch: int, window: int) -> list[int]:
    """Rows of a component in the order of one epoch."""
    batches, found = slow_batches(component, seed, epoch), []
    for number in range(0, len(batches), window):
        rows = [row for part in batches[number : number + window] for row in part]
        permutation = keyed_permutation(len(rows), key64("window", seed, component.name, epoch, number // window))
        found += [rows[i] for i in permutation]
    return found


def triples(order: Order, k) -> list[tuple[int, int, int]]:
    found = order.order(k)
    assert [column.dtype for column in found] == [np.int32, np.int32, np.int64]
    return list(zip(*(column.tolist() for column in found), strict=True))


@settings(max_examples=15, deadline=None)
@given(orders())
def test_equals_slow_order(made):
    stored, order = made
    rows = min(order.plan.total_rows, 1200)
    assert triples(order, np.arange(rows)) == slow_order(stored, order)[:rows]


@settings(max_examples=50, deadline=None)
@given(orders())
def test_every_epoch_visits_each_row_once_and_counts_are_the_mixtures(made):
    _, order = made
    component, epoch, row = order.order(np.arange(order.plan.total_rows))
    mixture = order.plan.mixture
    assert np.bincount(component, minlength=len(mixture.components)).tolist() == mixture.counts(order.plan.total_rows)
    for index, listed in enumerate(mixture.components):
        epochs = epoch[component == index]
        assert (np.diff(epochs) >= 0).all()
        for number in range(epochs.max(initial=-1) + 1):
            visited = row[(component == index) & (epoch == number)].tolist()
            assert len(set(visited)) == len(visited)
            assert set(visited) <= set(range(listed.rows))
            if number < epochs.max():
                assert len(visited) == listed.rows


@settings(max_examples=50, deadline=None)
@given(orders(), st.data())
def test_any_rows_in_any_order_are_what_they_are_in_bulk(made, data):
    """No state but k: jumps, repeats and single rows give what the whole gives."""
    _, order = made
    whole = triples(order, np.arange(order.plan.total_rows))
    for _ in range(3):
        k = data.draw(st.lists(st.integers(0, order.plan.total_rows - 1), max_size=40))
        assert triples(order, np.array(k, np.int64)) == [whole[i] for i in k]
    last = order.plan.total_rows - 1
    assert triples(order, last) == [whole[last]]


@settings(max_examples=30, deadline=None)
@given(orders())
def test_places_name_the_batch_that_holds_the_row(made):
    stored, order = made
    found = order.order(np.arange(order.plan.total_rows))
    batch, inside = order.places(found)
    mixture, sizes, owners = order.plan.mixture, [], []
    for component in sorted(stored, key=lambda component: component.name):
        flat = [size for unit in component.units for shard in unit for size in shard]
        owners += [(component.name, sum(flat[:i])) for i in range(len(flat))]
        sizes += flat
    for index, row, b, i in zip(found.component, found.row, batch, inside, strict=True):
        assert owners[b] == (mixture.components[index].name, row - i)
        assert 0 <= i < sizes[b]


def test_golden_order():
    """Row numbers of published plans must not change their meaning."""
    order = order_of([Stored("a/train", 0.7, [[[4, 4, 3]], [[4, 2]]], 9), Stored("b/train", 0.3, [[[2]]], 99)], 40)
    assert triples(order, np.arange(12)) == GOLDEN


GOLDEN = [
    (0, 0, 4),
    (0, 0, 15),
    (0, 0, 7),
    (1, 0, 1),
    (0, 0, 10),
    (1, 0, 0),
    (0, 0, 6),
    (0, 0, 13),
    (0, 0, 16),
    (0, 0, 3),
    (0, 0, 8),
    (1, 1, 0),
]


def test_windows_follow_row_shares_within_the_budget():
    batch = 8 * ROW_BYTES
    stored = [Stored("a/train", 0.75, [[[8] * 500]], 99), Stored("b/train", 0.25, [[[8] * 500]], 99)]
    assert order_of(stored, 10, 4 * batch).windows() == [2, 2]
    assert order_of(stored, 10, 104 * batch).windows() == [77, 27]
    assert order_of(stored, 10, 104 * batch + batch - 1).windows() == [77, 27]
    with pytest.raises(ValueError, match=f"window_bytes is {4 * batch - 1}, but two .* {4 * batch} bytes"):
        order_of(stored, 10, 4 * batch - 1)


def test_rows_of_a_window_come_from_its_batches_only():
    stored = [Stored("a/train", 1.0, [[[8] * 40]])]
    order = order_of(stored, 320, 5 * 8 * ROW_BYTES)
    assert order.windows() == [5]
    batches = order.places(order.order(np.arange(320))).batch.reshape(8, 40)
    assert [len(set(window)) for window in batches.tolist()] == [5] * 8
    assert sorted(b for window in batches.tolist() for b in set(window)) == list(range(40))


def test_neighbours_share_a_batch_as_rarely_as_the_window_lets_them():
    """(r-1)/(rW-1) for r rows a batch and windows of W, within 4 standard errors."""
    rows, window = 8, 16
    order = order_of([Stored("a/train", 1.0, [[[rows] * 4096]])], None, window * rows * ROW_BYTES)
    batch = order.places(order.order(np.arange(order.plan.total_rows))).batch.reshape(-1, rows * window)
    same = (batch[:, 1:] == batch[:, :-1]).ravel()
    expected = (rows - 1) / (rows * window - 1)
    assert same.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / same.size))


def test_epochs_and_seeds_differ():
    stored = [Stored("a/train", 1.0, [[[8] * 40]], max_epochs=2)]
    first, second = order_of(stored).order(np.arange(640)).row.reshape(2, 320)
    other = order_of(stored, seed=8).order(np.arange(320)).row
    assert (first == second).mean() < 0.05
    assert (first == other).mean() < 0.05


def test_a_unit_taken_down_leaves_the_other_batches_in_their_order():
    units = [[[8] * 7], [[8] * 9], [[8] * 5]]
    kept, gone = order_of([Stored("a/train", 1.0, units)]), order_of([Stored("a/train", 1.0, units[:2])])
    before, after = kept._epoch(0, 0, 0).batches(0, 21).tolist(), gone._epoch(0, 0, 0).batches(0, 16).tolist()
    assert [b for b in before if b < 16] == after


def test_a_longer_plan_begins_as_the_shorter_one():
    """But for the shorter one's last block, which it fills."""
    stored = [Stored("a/train", 0.6, [[[9] * 9]], 999), Stored("b/train", 0.4, [[[7] * 5]], 999)]
    assert triples(order_of(stored, 3000), np.arange(2048)) == triples(order_of(stored, 9000), np.arange(2048))


def test_rows_outside_the_plan_are_refused():
    order = order_of([Stored("a/train", 1.0, [[[4]]])])
    for k in (-1, 4):
        with pytest.raises(ValueError, match=f"asked for rows {k} … {k}, the plan has 4 rows"):
            order.order([k])


def test_a_shard_table_that_is_not_the_mixtures_is_refused(run):
    plan = compile_plan(run.mixture)
    with pytest.raises(
        ValueError, match="component 'web/train' has 63 rows and 1008 tokens, its shard table 38 and 608"
    ):
        Order(plan, [run.shards.filter([unit != "unit-001" for unit in run.shards["unit"].to_pylist()])])
    with pytest.raises(ValueError, match="not sorted"):
        Order(plan, [run.shards.take(list(range(run.shards.num_rows))[::-1])])


def test_rows_of_small_runs_can_be_told_apart():
    rows = spelled(1, 2000, LENGTH, 50)
    assert len({row.tobytes() for row in rows}) == 2000
