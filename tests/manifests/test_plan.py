"""Stages: what each takes, what earlier ones gave, which plans continue which, and what is refused."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.manifests.test_mixture import mixture_of, weighed
from tokenmill.manifests.keyed import key64, keyed_permutation
from tokenmill.manifests.limits import most_rows
from tokenmill.manifests.mixture import Component, Mixture
from tokenmill.manifests.plan import Plan, compile_plan, compile_stages
from tokenmill.manifests.stages import MixtureStage, check_stages
from tokenmill.manifests.validation import validation_plan

NAMES = [f"c{i}/train" for i in range(4)]


def drawn(plan: Plan) -> list[list[str]]:
    """Names of the components of every row, by stage: blocks with lists."""
    found = []
    for stage in plan.stages:
        names = [component.name for component in stage.mixture.components]
        rows = []
        for first in range(0, stage.rows, 1024):
            size = min(1024, stage.rows - first)
            counts = zip(stage.mixture.counts(first + size), stage.mixture.counts(first), strict=True)
            listed = [name for name, (after, before) in zip(names, counts, strict=True) for _ in range(after - before)]
            rows += [listed[i] for i in keyed_permutation(size, key64("block", plan.seed, stage.index, first // 1024))]
        found.append(rows[: stage.end_row - stage.first_row])
    return found


@st.composite
def stage_lists(draw) -> list[MixtureStage]:
    """Stages of components out of four, whose rows are the same in all of them; later ones may cut earlier ones."""
    stages, total = [], 0
    for index in range(draw(st.integers(1, 4))):
        names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
        mixture = mixture_of(Component(name, draw(st.floats(0.01, 1)), 50, 70, 1e9) for name in names)
        rows = draw(st.integers(1, 2500))
        at = draw(st.none() | st.integers(1, total)) if index else None
        stages.append(MixtureStage(mixture, rows, at))
        total = (total if at is None else at) + rows
    return stages


@settings(max_examples=60, deadline=None)
@given(stage_lists())
def test_stages_carry_on_what_components_gave(stages):
    plan = compile_stages(stages)
    blocks = drawn(plan)
    assert sum(map(len, blocks)) == plan.total_rows
    done: list[str] = []
    for stage, rows in zip(plan.stages, blocks, strict=True):
        assert stage.first_row == len(done)
        assert list(stage.before) == [done.count(component.name) for component in stage.mixture.components]
        assert [plan.packings[i].name for i in stage.components] == [c.name for c in stage.mixture.components]
        done += rows
        assert plan.stage_of(np.arange(stage.first_row, stage.end_row)).tolist() == [plan.stages.index(stage)] * len(
            rows
        )
    assert plan.component_names == tuple(dict.fromkeys(plan.component_names))


@settings(max_examples=60, deadline=None)
@given(stage_lists())
def test_a_plan_continues_the_beginnings_of_its_list(stages):
    """The rows in common are those of which the shorter plan says the same."""
    plan = compile_stages(stages)
    rows = [(name, i) for i, part in zip([s.index for s in plan.stages], drawn(plan), strict=True) for name in part]
    for end in range(1, len(stages) + 1):
        shorter = compile_stages(stages[:end])
        same = [(n, i) for i, p in zip([s.index for s in shorter.stages], drawn(shorter), strict=True) for n in p]
        shared = plan.rows_shared_with(shorter.hash)
        assert rows[:shared] == same[:shared]
        assert shared == min([len(same)] + [s.first_row for s in plan.stages if s.index >= end])
    assert plan.rows_shared_with(plan.hash) == plan.total_rows
    assert plan.rows_shared_with("0" * 32) is None


def test_what_a_plan_does_not_begin_with_it_does_not_continue():
    one, two = (MixtureStage(weighed(weights), 3000) for weights in ([1.0, 2.0], [2.0, 1.0]))
    plan = compile_stages([one, two])
    assert plan.rows_shared_with(compile_stages([one]).hash) == 3000
    others = [
        [two],
        [MixtureStage(one.mixture, 3001)],
        [one, MixtureStage(two.mixture, 2999)],
        [one, MixtureStage(two.mixture, 3000, at=3000)],
        [one, two, two],
    ]
    assert [plan.rows_shared_with(compile_stages(stages).hash) for stages in others] == [None] * 5
    assert plan.rows_shared_with(compile_stages([one], 1 << 30).hash) is None


def test_rows_left_open_are_as_many_as_are_left():
    mixture = mixture_of([Component("a/train", 0.5, 100, 100, 2), Component("b/train", 0.5, 1000, 1000)])
    plan = compile_stages([MixtureStage(mixture, 100), MixtureStage(mixture)])
    assert plan.stages[1].before == (50, 50)
    assert plan.stages[1].rows == most_rows(mixture, (50, 50)) == 300
    assert most_rows(mixture) == 400


def test_max_epochs_hold_over_all_stages():
    mixture = mixture_of([Component("a/train", 0.5, 100, 100, 2), Component("b/train", 0.5, 1000, 1000)])
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the whole text is held to below
        compile_stages([MixtureStage(mixture, 300), MixtureStage(mixture, 160)])
    assert str(refusal.value) == (
        "stage 1 of 160 rows takes 230 of component 'a/train' (of these 150 in earlier stages), 2.300 epochs; it has "
        "100 rows and max_epochs 2, which allows 200, and limits the mixture most, of 1 component(s) repeated too "
        "often. Either plan at most 100 rows, or raise max_epochs to at least {'a/train': 2.3}"
    )
    assert compile_stages([MixtureStage(mixture, 300), MixtureStage(mixture, 100)]).total_rows == 400
    raised = mixture_of([Component("a/train", 0.5, 100, 100, 2.3), Component("b/train", 0.5, 1000, 1000)])
    assert compile_stages([MixtureStage(mixture, 300), MixtureStage(raised, 160)]).total_rows == 460


def test_a_component_that_is_spent_may_stay_out_of_a_stage():
    spent = mixture_of([Component("a/train", 1.0, 100, 100)])
    both = mixture_of([Component("a/train", 1e-9, 100, 100), Component("b/train", 1.0, 100, 100)])
    assert compile_stages([MixtureStage(spent, 100), MixtureStage(both, 100)]).stages[1].before == (0, 100)
    with pytest.raises(ValueError, match="stage 1 of 0 rows has nothing to train on"):
        compile_stages([MixtureStage(spent, 100), MixtureStage(spent)])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "a plan needs at least one stage"),
        ([(10, 3)], "stage 0 is to begin at row 3: the first begins at 0"),
        ([(10, None), (5, 11)], "stage 1 is to begin at row 11: those before it have rows 0 … 9, give 1 … 10"),
        ([(10, None), (5, 0)], "stage 1 is to begin at row 0"),
    ],
)
def test_stages_that_do_not_follow_are_refused(stages, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        compile_stages([MixtureStage(weighed([1.0]), rows, at) for rows, at in stages])


def packed(names, table: str, packings=None, where="", **changes) -> MixtureStage:
    mixture = mixture_of((Component(name, 1.0, 100, 100) for name in names), shard_table_hash=table, **changes)
    hashes = {name: f"{table} {name}" for name in names} if packings is None else packings
    return MixtureStage(mixture, 10, None, hashes, where or f"run {table}")


def test_components_of_other_shards_count_on_their_own():
    same = {"a/train": "x", "b/train": "y"}
    grown = {"a/train": "x", "b/train": "z"}
    plan = compile_stages([packed(["a/train", "b/train"], "1", same), packed(["a/train", "b/train"], "2", grown)])
    assert plan.component_names == ("a/train", "b/train", "b/train")
    assert plan.stages[1].components == (0, 2)
    assert plan.stages[1].before == (5, 0)
    longer = compile_stages([packed(["a/train"], "1", same), packed(["a/train"], "1", same, sequence_length=8192)])
    assert longer.stages[1].before == (0,)


A, B = "web/train/en", "web/train/de"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (packed([A], "1"), packed([B], "1")),  # one table: strata hold each document once
        (packed([A], "1", {A: "x", B: "y"}), packed([A], "2", {A: "x", B: "z"})),  # the same rows
        (packed([A], "1", {A: "x", B: "y"}), packed([B], "2", {A: "z", B: "y"})),  # B lies beside A in table 1
        (packed([A], "1"), packed(["code/train"], "2")),
    ],
)
def test_documents_that_come_once_are_allowed(one, other):
    check_stages([one, other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (packed([A], "1"), packed([A], "2")),
        (packed([A], "1"), packed([B], "2")),
        (packed([A], "1", {A: "x"}), packed([A], "2", {A: "x"}, sequence_length=8192)),
    ],
)
def test_a_source_packed_twice_is_refused_unless_declared(one, other):
    with pytest.raises(ValueError, match=r"source 'web' is packed once in run 1 and once more in run 2.*\['web'\]"):
        check_stages([one, other])
    check_stages([one, other], ["web"])
    with pytest.raises(ValueError, match=r"repeats names \['books'\]: the plan's sources are \['web'\]"):
        check_stages([one, other], ["books"])


@pytest.mark.parametrize(
    ("field", "value"),
    [("tokenizer_hash", "c" * 32), ("vocab_size", 9), ("special_ids", {"bos": 1, "eos": 1, "pad": 1, "mask": 1})],
)
def test_stages_of_two_tokenizers_are_refused(field, value):
    with pytest.raises(ValueError, match=re.escape(f"and {value!r} in run 2")) as refusal:
        check_stages([packed([A], "1"), packed(["code/train"], "2", **{field: value})])
    assert "in run 1" in str(refusal.value)


def test_a_validation_plan_has_what_was_held_out():
    mixture: Mixture = mixture_of([Component("web/train", 1.0, 100, 100)])
    packed_rows = {"web/train": (100, 100), "web/validation": (7, 20), "code/validation/py": (5, 30)}
    plan = validation_plan(mixture, packed_rows)
    assert plan.total_rows == 12
    assert plan.stored
    assert sorted(plan.component_names) == ["code/validation/py", "web/validation"]
    assert plan.hash != compile_plan(plan.stages[0].mixture).hash
    with pytest.raises(ValueError, match=r"holds out no documents for validation: give `strata: \{validation_fraction"):
        validation_plan(mixture, {"web/train": (100, 100)})
