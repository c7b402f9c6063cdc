"""Rows that plans take of mixtures of several lengths: whole batches of each, never more than `max_epochs`."""

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.manifests.test_mixture import mixture_of
from tokenmill.manifests.limits import most_rows
from tokenmill.manifests.mixture import Component, Mixture
from tokenmill.manifests.plan import Plan, compile_plan, compile_stages
from tokenmill.manifests.planned import batches_of, planned_rows, rows_of_tokens
from tokenmill.manifests.stages import MixtureStage
from tokenmill.manifests.validation import validation_plan


def mixed(rows: dict[str, int], batch_size: int, max_epochs: float = 1.0, **weights: float) -> Mixture:
    """Of components "source/length" and their rows; all tokens count alike, but for sources that are given weights."""
    components = []
    for name, count in rows.items():
        source, length = name.split("/")
        tokens = count * int(length) * 3 // 4
        weight = tokens * weights.get(source, 1.0)
        components.append(Component(f"{source}/train/length={length}", weight, count, tokens, max_epochs))
    return mixture_of(components, batch_size=batch_size)


def taken(plan: Plan) -> dict[str, int]:
    """Rows of each component in all stages of a plan."""
    found = {}
    for stage in plan.stages:
        counts = stage.counts(stage.rows)
        found |= {one.name: count for one, count in zip(stage.mixture.components, counts, strict=True)}
    return found


def test_each_length_gives_what_fills_batches():
    mixture = mixed({"a/512": 100, "b/512": 31, "a/1024": 40, "a/4096": 7}, 8, max_epochs=3)
    assert mixture.lengths == (512, 1024, 4096)
    assert batches_of(mixture) == {512: 393 // 8, 1024: 120 // 8, 4096: 21 // 8}
    rows = planned_rows(mixture)
    assert list(rows) == [component.name for component in mixture.components]
    assert sum(rows.values()) == (49 + 15 + 2) * 8
    plan = compile_plan(mixture)
    assert plan.total_rows == (49 + 15 + 2) * 8
    assert taken(plan) == rows
    assert [(stage.mixture.sequence_length, stage.rows, stage.index) for stage in plan.stages] == [
        (512, 392, 0),
        (1024, 120, 0),
        (4096, 16, 0),
    ]


MIXED = st.builds(
    mixed,
    st.dictionaries(
        st.builds("{}/{}".format, st.sampled_from("abc"), st.sampled_from([64, 128, 512, 4096])),
        st.integers(1, 400),
        min_size=1,
    ),
    st.integers(1, 40),
    st.floats(0.5, 12),
    a=st.floats(0.1, 10),
    b=st.floats(0.1, 10),
)


@settings(deadline=None)
@given(MIXED)
def test_nothing_comes_oftener_than_it_may_and_little_is_left_over(mixture):
    size, batches = mixture.batch_size, batches_of(mixture)
    rows, share = planned_rows(mixture), mixture.counts(most_rows(mixture))
    assert all(rows[one.name] <= one.row_limit for one in mixture.components)
    for length, count in batches.items():
        mine = [n for one, n in zip(mixture.components, share, strict=True) if mixture.length_of(one) == length]
        assert sum(mine) - len(mine) - 1 - size < count * size <= sum(mine)
        assert sum(n for name, n in rows.items() if name.endswith(f"length={length}")) == count * size
    assume(any(batches.values()))
    plan = compile_plan(mixture)
    assert plan.total_rows == sum(batches.values()) * size
    assert rows == {**dict.fromkeys(rows, 0), **taken(plan)}


def test_a_length_whose_share_is_rounded_up_gives_no_more_than_it_may():
    rows = {"a/64": 1, "a/128": 10, "a/512": 2, "b/64": 11, "b/128": 12, "c/64": 7, "c/512": 5, "d/64": 12}
    mixture = mixed({**rows, "d/128": 2, "d/512": 6}, 1, b=1.5)
    of_64 = [mixture.length_of(one) == 64 for one in mixture.components]
    share = sum(n for n, mine in zip(mixture.counts(most_rows(mixture)), of_64, strict=True) if mine)
    assert (share, most_rows(mixture.of_length(64)), batches_of(mixture)[64]) == (25, 24, 24)


def shares(mixture: Mixture) -> dict[int, Fraction]:
    """Of each length, of all rows."""
    found = dict.fromkeys(mixture.lengths, Fraction(0))
    for one, weight in zip(mixture.components, mixture.row_weights, strict=True):
        found[mixture.length_of(one)] += Fraction(weight, sum(mixture.row_weights))
    return found


def most_batches(mixture: Mixture) -> int:
    """Batches of the longest plan of which each length has its share, one after another."""
    size, batches = mixture.batch_size, 0
    rows = {length: most_rows(mixture.of_length(length)) for length in mixture.lengths}
    while batches < sum(count // size for count in rows.values()) and all(
        (batches + 1) * size * share <= rows[length] for length, share in shares(mixture).items()
    ):
        batches += 1
    return batches


@settings(deadline=None)
@given(MIXED, st.integers(1, 60))
def test_rows_that_are_asked_for_are_given_or_refused_with_what_is(mixture, batches):
    size = mixture.batch_size
    most = most_batches(mixture)
    if batches <= most:
        plan = compile_plan(mixture, batches * size)
        assert plan.total_rows == batches * size
        rows = planned_rows(mixture, batches * size)
        assert rows == {**dict.fromkeys(rows, 0), **taken(plan)}
        assert all(rows[one.name] <= one.row_limit for one in mixture.components)
        for length, share in shares(mixture).items():
            assert abs(batches_of(mixture, batches * size)[length] - batches * share) < len(mixture.lengths) + 1
    else:
        told = rf"a plan of {batches * size} rows takes .*, in batches of {size}. Plan at most {most * size} rows"
        with pytest.raises(ValueError, match=told):
            compile_plan(mixture, batches * size)


def test_a_plan_has_whole_batches():
    mixture = mixed({"a/512": 100, "a/4096": 20}, 8)
    for rows in (0, 7, 20):
        with pytest.raises(ValueError, match=rf"a plan of {rows} rows is asked for, and rows of one length come 8 at"):
            compile_plan(mixture, rows)


def test_a_length_that_fills_no_batch_is_left_out_and_none_is_an_error():
    assert [stage.mixture.sequence_length for stage in compile_plan(mixed({"a/64": 9, "a/512": 7}, 8)).stages] == [64]
    with pytest.raises(ValueError, match="rows of 64 and 512 tokens none fill a batch of 10: publish with a smaller"):
        compile_plan(mixed({"a/64": 9, "a/512": 7}, 10))


def test_of_lengths_with_as_many_batches_the_shorter_comes_first():
    plan = compile_plan(mixed({"a/4096": 16, "a/64": 16, "a/512": 24}, 8))
    assert [stage.mixture.sequence_length for stage in plan.stages] == [512, 64, 4096]


def test_tokens_that_are_asked_for_have_room():
    mixture = mixed({"a/512": 90, "a/1024": 30}, 8)
    assert rows_of_tokens(mixture, 1) == 8
    assert rows_of_tokens(mixture, 8 * 640) == 8
    assert rows_of_tokens(mixture, 8 * 640 + 1) == 16
    assert rows_of_tokens(mixture.of_length(512), 513) == 2


def test_the_hash_of_a_plan_says_the_batch_size():
    hashes = {compile_plan(mixed({"a/64": 64, "a/512": 64}, size), 64).hash for size in (8, 16, 32)}
    one = mixed({"a/512": 64}, 8)
    assert len(hashes | {compile_plan(one, 64).hash, compile_plan(one.of_length(512), 64).hash}) == 5


def test_several_lengths_share_the_window():
    mixture = mixed({"a/64": 64, "a/512": 64, "b/512": 64}, 8)
    assert [stage.window_bytes for stage in compile_plan(mixture, window_bytes=64 << 20).stages] == [32 << 20] * 2
    least = {64: 2 << 20, 512: 4 << 20}  # two record batches of 2^19 tokens of each component
    plan = compile_plan(mixture, window_bytes=1)
    assert {stage.mixture.sequence_length: stage.window_bytes for stage in plan.stages} == least


def test_several_lengths_make_a_plan_alone():
    mixture = mixed({"a/64": 64, "a/512": 64}, 8)
    with pytest.raises(ValueError, match="stage 1 has rows of several lengths, which make a plan alone"):
        compile_stages([MixtureStage(mixture.of_length(64)), MixtureStage(mixture)])


def test_held_out_rows_come_by_length():
    mixture = mixed({"a/64": 64, "a/512": 64}, 8)
    held_out = {
        "a/train/length=64": (64, 70),
        "b/validation/length=512": (3, 80),
        "a/validation/length=512": (2, 70),
        "a/validation/length=64": (5, 20),
    }
    plan = validation_plan(mixture, held_out)
    assert plan.total_rows == 10
    assert [(stage.first_row, stage.end_row, stage.mixture.sequence_length) for stage in plan.stages] == [
        (0, 5, 64),
        (5, 10, 512),
    ]
    assert plan.stage_of(range(10)).tolist() == [0] * 5 + [1] * 5
    assert [stage.window_bytes for stage in plan.stages] == [128 << 20] * 2


def test_a_manifest_says_the_batch_size_and_names_say_lengths():
    mixture = mixed({"a/64": 64, "a/512": 64}, 8)
    assert Mixture.from_json(mixture.to_json()) == mixture
    assert '"batch_size": 8' in mixture.to_json()
    assert '"batch_size"' not in mixture.of_length(64).to_json()
    assert mixture.of_length(64).lengths == (64,)
    with pytest.raises(ValueError, match="batch_size is 0: give at least 1"):
        mixed({"a/64": 64}, 0)
    for name in ("a/train", "a/train/length=", "a/train/length=8192", "a/train/length=0"):
        with pytest.raises(ValueError, match=rf"'{name}' does not say its rows' length.*'a/train/length=4096'"):
            mixture_of([Component(name, 1.0, 9, 9)], batch_size=8)
