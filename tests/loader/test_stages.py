"""Stages: the order over several mixtures, states that go on into a longer list, and what is refused."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.small_run import Stored, write_run
from tests.loader.test_order import LENGTH, ROW_BYTES, UNITS, mixture_of, slow_batches, table_of, triples
from tokenmill.manifests.keyed import key64, keyed_permutation
from tokenmill.manifests.mixture import Component
from tokenmill.manifests.plan import compile_stages
from tokenmill.manifests.stages import MixtureStage
from tokenmill.pipeline.loader import Stage, open_mixture
from tokenmill.pipeline.loader.order import Order

LEAST_BYTES = 2 * 9 * ROW_BYTES


@st.composite
def staged_orders(draw):
    """An order over one to four stages of up to three components, with windows of other lengths in each."""
    count = draw(st.integers(1, 3))
    stored = [Stored(f"c{i}/train", 1.0, draw(UNITS)) for i in range(count)]
    table = table_of(stored)
    rows = {c.name: sum(size for unit in c.units for shard in unit for size in shard) for c in stored}
    stages, total = [], 0
    for index in range(draw(st.integers(1, 4))):
        names = draw(st.lists(st.sampled_from(sorted(rows)), min_size=1, unique=True))
        components = [Component(name, draw(st.floats(0.01, 1)), rows[name], rows[name] * LENGTH, 1e9) for name in names]
        mixture = mixture_of(components, seed=draw(st.integers(0, 3)))
        asked = draw(st.integers(1, 300))
        at = draw(st.none() | st.integers(1, total)) if index else None
        stages.append(MixtureStage(mixture, asked, at))
        total = (total if at is None else at) + asked
    plan = compile_stages(stages, LEAST_BYTES * count + draw(st.integers(0, 40)) * 9 * ROW_BYTES)
    return stored, Order(plan, [table] * len(plan.stages))


class Walk:
    """A component as one would walk through it: the next window is cut when the last one is spent."""

    def __init__(self, stored: Stored, seed: int) -> None:
        self.stored, self.seed, self.epoch = stored, seed, -1
        self.batches, self.window, self.number = [], [], 0

    def next(self, window_length: int) -> tuple[int, int]:
        if not self.window:
            if not self.batches:
                self.epoch, self.number = self.epoch + 1, 0
                self.batches = slow_batches(self.stored, self.seed, self.epoch)
            taken, self.batches = self.batches[:window_length], self.batches[window_length:]
            rows = [row for part in taken for row in part]
            key = key64("window", self.seed, self.stored.name, self.epoch, self.number)
            self.window, self.number = [rows[i] for i in keyed_permutation(len(rows), key)], self.number + 1
        return self.epoch, self.window.pop(0)


def slow_order(stored, order) -> list[tuple[str, int, int]]:
    """All rows of all stages, one after another."""
    plan = order.plan
    walks = {component.name: Walk(component, plan.seed) for component in stored}
    found = []
    for index, stage in enumerate(plan.stages):
        names, rows = [component.name for component in stage.mixture.components], []
        for first in range(0, stage.rows, 1024):
            size = min(1024, stage.rows - first)
            counts = zip(stage.mixture.counts(first + size), stage.mixture.counts(first), strict=True)
            listed = [i for i, (after, before) in enumerate(counts) for _ in range(after - before)]
            rows += [listed[i] for i in keyed_permutation(size, key64("block", plan.seed, stage.index, first // 1024))]
        for i in rows[: stage.end_row - stage.first_row]:
            found.append((names[i], *walks[names[i]].next(order.windows(index)[i])))
    return found


@settings(max_examples=150, deadline=None)
@given(staged_orders(), st.data())
def test_equals_walking_through_the_components(made, data):
    stored, order = made
    slow, names = slow_order(stored, order), order.plan.component_names
    whole = [(names[i], epoch, row) for i, epoch, row in triples(order, np.arange(order.plan.total_rows))]
    assert whole == slow
    k = data.draw(st.lists(st.integers(0, order.plan.total_rows - 1), max_size=40))
    assert [(names[i], epoch, row) for i, epoch, row in triples(order, np.array(k, np.int64))] == [whole[i] for i in k]


@settings(max_examples=50, deadline=None)
@given(staged_orders())
def test_no_row_comes_twice_in_an_epoch_whatever_the_stages(made):
    _, order = made
    visits = Counter(triples(order, np.arange(order.plan.total_rows)))
    assert max(visits.values()) == 1
    rows = {
        order.plan.component_names[i]: c.rows
        for s in order.plan.stages
        for i, c in zip(s.components, s.mixture.components, strict=True)
    }
    for index, name in enumerate(order.plan.component_names):
        epochs = Counter(epoch for component, epoch, _ in visits if component == index)
        assert all(epochs[epoch] == rows[name] for epoch in range(max(epochs, default=0)))


def two_components(tmp_path, name="one", weights=(0.7, 0.3), length=16, extra=0, **fields):
    """A run of two sources, which may have grown since."""
    return write_run(
        tmp_path / name,
        [
            Stored("web/train", weights[0], [[[8, 8, 5], [8, 3]], [[8, 8, 8, 1]]], max_epochs=4),
            Stored("code/train", weights[1], [[[4, 4, 4, 4], [2]], *[[[4]]] * extra], max_epochs=9),
        ],
        length=length,
        vocab_size=50,
        **fields,
    )


def rows_of(loader) -> list[tuple]:
    """(k, name, epoch, stored row, tokens) of every row of every batch."""
    found = []
    for batch in loader:
        names = [batch.component_names[i] for i in batch.component.tolist()]
        found += zip(
            batch.rows.tolist(),
            names,
            batch.epoch.tolist(),
            batch.stored_row.tolist(),
            batch.noisy.tolist(),
            strict=True,
        )
    return found


@pytest.mark.parametrize("ranks", [1, 2])
def test_batches_of_two_stages_are_rows_of_both_mixtures(tmp_path, ranks):
    one, two = two_components(tmp_path), two_components(tmp_path, "two", (0.2, 0.8))
    stages = [Stage(one.path, 40), Stage(two.path, 61)]
    found = []
    for rank in range(ranks):
        loader = open_mixture(stages, batch_size=8, dp_rank=rank, dp_size=ranks)
        for batch in loader:
            run = two if batch.rows[0] >= 40 else one
            for i, k in enumerate(batch.rows.tolist()):
                name = batch.component_names[batch.component[i]]
                assert batch.clean[i].tolist() == run.rows[name][batch.stored_row[i]].tolist()
                found.append((k, (name, int(batch.epoch[i]), int(batch.stored_row[i]))))
    assert sorted(k for k, *_ in found) == list(range(96))
    # The runs hold the same packed rows, so that a component goes on: no row comes twice in an epoch.
    assert (
        max(Counter(rest for _, *rest in map(lambda f: (f[0], *f[1:]), found) for rest in [tuple(rest)]).values()) == 1
    )
    stage_of = loader.plan.stage_of([0, 39, 40, 100]).tolist()
    assert stage_of == [0, 0, 1, 1]


def test_a_state_goes_on_into_a_longer_list(tmp_path):
    run, other = two_components(tmp_path), two_components(tmp_path, "two", (0.2, 0.8))
    shorter = [Stage(run.path, 43)]
    longer = [*shorter, Stage(other.path, 24, at=24), Stage(run.path, 16)]
    first = open_mixture(shorter, batch_size=8)
    whole = rows_of(open_mixture(longer, batch_size=8))
    assert [k for k, *_ in whole] == list(range(64))
    batches = list(first)
    for consumed in range(4):
        state = (
            json.loads(json.dumps(batches[consumed - 1].state))
            if consumed
            else open_mixture(shorter, batch_size=8).state_dict()
        )
        loader = open_mixture(longer, batch_size=8)
        if consumed == 3:
            assert state["next_row"] == 24
        loader.load_state_dict(json.loads(json.dumps(state)))
        assert rows_of(batches[:consumed]) + rows_of(loader) == whole
        assert loader.state_dict()["plan"] == loader.plan.hash
    late = open_mixture(longer, batch_size=8)
    with pytest.raises(ValueError, match=re.escape("next_row is 32, but this plan leaves the state's plan at row 24")):
        late.load_state_dict(batches[3].state)
    backwards = open_mixture(shorter, batch_size=8)
    with pytest.raises(ValueError, match=f"state's plan is '{late.plan.hash}', this loader's '{backwards.plan.hash}'"):
        backwards.load_state_dict(late.state_dict())


def test_stages_of_another_length(tmp_path):
    short, long = two_components(tmp_path), two_components(tmp_path, "long", length=32)
    stages = [Stage(short.path, 24), Stage(long.path, 24)]
    with pytest.raises(ValueError, match=r"source 'code', 'web' is packed once in .*one.* and once more in .*long"):
        open_mixture(stages, batch_size=8)
    loader = open_mixture(stages, batch_size=8, repeats=["code", "web"])
    batches = list(loader)
    assert [batch.clean.shape for batch in batches] == [(8, 16)] * 3 + [(8, 32)] * 3
    assert {batch.component_names for batch in batches} == {("web/train", "code/train") * 2}
    assert {int(e) for batch in batches[3:] for e in batch.epoch[batch.stored_row >= 0]} <= {0, 1}
    assert min(batches[3].epoch) == 0


def test_a_run_that_grew_counts_its_old_rows_alone(tmp_path):
    """web is the same packed rows in both versions and goes on; code is not, and must be declared."""
    one, two = two_components(tmp_path), two_components(tmp_path, "two", extra=2)
    stages = [Stage(one.path, 40), Stage(two.path, 40)]
    with pytest.raises(ValueError, match="source 'code' is packed once"):
        open_mixture(stages, batch_size=8)
    plan = open_mixture(stages, batch_size=8, repeats=["code"]).plan
    assert plan.component_names == ("web/train", "code/train", "code/train")
    assert plan.stages[1].before == (28, 0)


def test_stages_begin_on_global_batches(run):
    stages = [Stage(run.path, 60), Stage(run.path, 60)]
    with pytest.raises(
        ValueError, match=re.escape("stage 0 has 60 rows, so that stage 1 begins at row 60, within a")
    ) as e:
        open_mixture(stages, batch_size=16)
    assert "give it 48 or 64 rows, or say at=48 of stage 1" in str(e.value)
    loader = open_mixture([Stage(run.path, 60), Stage(run.path, 60, at=48)], batch_size=16)
    assert (loader.plan.total_rows, loader.num_batches) == (108, 6)
    state = open_mixture(stages, batch_size=4).state_dict() | {"next_row": 8}
    with pytest.raises(
        ValueError, match=re.escape("do not end where stage 1 begins, at row 60: take a batch_size that divides 52")
    ):
        open_mixture(stages, batch_size=12).load_state_dict(state)
    good = open_mixture(stages, batch_size=2)
    good.load_state_dict(state)
    assert good.num_batches == 56


def test_one_stage_is_a_plain_plan(run):
    assert (
        open_mixture([Stage(run.path, 40)], batch_size=4).plan
        == open_mixture(run.path, batch_size=4, total_rows=40).plan
    )


@pytest.mark.parametrize("fields", [{"total_rows": 5}, {"split": "validation"}])
def test_what_is_for_one_mixture_is_refused_with_stages(run, fields):
    with pytest.raises(ValueError, match="are for one mixture"):
        open_mixture([Stage(run.path, 8)] * 2, batch_size=4, **fields)


def test_no_stages_are_refused():
    with pytest.raises(ValueError, match="no stage is given"):
        open_mixture([], batch_size=4)


def test_the_trainers_tokenizer(run, tmp_path):
    own = f"{run.root}/{run.mixture.tokenizer_path}"
    for known in (run.mixture.tokenizer_hash, own):
        open_mixture(run.path, batch_size=4, tokenizer_hash=known)
    other = tmp_path / "other.json"
    other.write_bytes(b"{ }")
    with pytest.raises(
        ValueError, match=f"tokenizer hashes to [0-9a-f]{{32}}, that of .* to {run.mixture.tokenizer_hash} "
    ):
        open_mixture(run.path, batch_size=4, tokenizer_hash=str(other))
    with pytest.raises(ValueError, match=f"tokenizer hashes to {'0' * 32}, that"):
        open_mixture(run.path, batch_size=4, tokenizer_hash="0" * 32)
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_mixture(run.path, batch_size=4, tokenizer_hash=str(tmp_path / "none.json"))
