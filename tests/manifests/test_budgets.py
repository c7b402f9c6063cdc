"""Budgets and weights → rows: met to a row, never beyond a cap, refused with the numbers."""

import re
from collections import defaultdict
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.manifests.test_mixture import mixture_of
from tokenmill.manifests.budgets import apportion, settle
from tokenmill.manifests.mixture import Component
from tokenmill.manifests.plan import compile_stages
from tokenmill.manifests.stages import MixtureStage, source_of
from tokenmill.manifests.wanted import Packed, Wanted, WantedStage

THERE = {
    "web/train/en/copies=1": Packed(1000, 500_000),
    "web/train/en/copies=10+": Packed(100, 50_000),
    "web/train/de/copies=1": Packed(900, 450_000),
    "code/train": Packed(2000, 800_000),
    "wiki/train": Packed(3, 1_000),
}


def wanted(tokens: int | None = None, weight: float | None = None, epochs: float = 1, **strata: float) -> Wanted:
    weights = {name.replace("_", "="): Fraction(repr(value)) for name, value in strata.items()}
    return Wanted(tokens, None if weight is None else Fraction(repr(weight)), Fraction(str(epochs)), weights)


def one_stage(tokens: int | None = None, batch_rows: int = 1, **sources: Wanted) -> dict[str, tuple[Fraction, int]]:
    """Tokens asked and rows taken of each component."""
    (taken,) = settle([WantedStage(sources, tokens, batch_rows)], THERE)
    return {one.component: (one.asked, one.rows) for one in taken}


def test_budgets_and_weights_of_what_they_leave():
    found = one_stage(500_000, web=wanted(100_000), code=wanted(weight=3, epochs=9), wiki=wanted(weight=0))
    assert found == {
        "web/train/de/copies=1": (45_000, 90),
        "web/train/en/copies=1": (50_000, 100),
        "web/train/en/copies=10+": (5_000, 10),
        "code/train": (400_000, 1000),
        "wiki/train": (0, 0),
    }


def test_weights_of_strata_multiply():
    found = one_stage(web=wanted(100_000, en=2, **{"copies_10+": 3}))
    parts = {"de": 450, "en/copies=1": 2 * 500, "en/copies=10+": 2 * 3 * 50}
    tokens = [Fraction(100_000 * part, sum(parts.values())) for part in parts.values()]
    assert [asked for asked, _ in found.values()] == tokens
    assert [rows for _, rows in found.values()] == [52, 114, 34]  # of quotas 51.43, 114.29, 34.29: by 200 in all
    assert one_stage(web=wanted(100_000, **{"en/copies_10+": 0}))["web/train/en/copies=10+"] == (0, 0)


def test_weights_alone_take_what_the_caps_allow():
    found = one_stage(code=wanted(weight=1, epochs=2), wiki=wanted(weight=1, epochs=2.5))
    assert found == {"code/train": (2500, 7), "wiki/train": (2500, 7)}  # of quotas 6.25 and 7.5, which the cap makes 7


def test_whole_global_batches():
    assert sum(rows for _, rows in one_stage(batch_rows=64, web=wanted(100_000)).values()) == 192
    with pytest.raises(ValueError, match="comes to 1,000 tokens, not one global batch of 8 rows"):
        one_stage(batch_rows=8, wiki=wanted(1000))


@pytest.mark.parametrize(
    ("sources", "tokens", "message"),
    [
        (
            {"web": wanted(weight=0), "code": wanted(weight=0)},
            100,
            "the weights of the mixture sum to nothing: give one",
        ),
        ({"web": wanted(0)}, None, "the budgets of the mixture sum to nothing"),
        ({"web": wanted(100, en=0, de=0)}, None, "the weights of all strata of source 'web' are 0"),
        ({"web": wanted(100, fr=2)}, None, "no stratum 'fr': did you mean 'en'? It has copies=1, copies=10+, de, en"),
        ({"code": wanted(100, en=2)}, None, "source 'code' has no stratum 'en': it is not split into any"),
        ({"web": wanted(100)}, 200, "is to have 200 tokens, and the budgets of its sources sum to 100"),
        ({"web": wanted(200), "code": wanted(weight=1)}, 200, "nothing is left for code"),
        ({"web": wanted(200), "code": wanted(weight=1)}, None, "say of how many tokens"),
    ],
)
def test_what_does_not_add_up_is_refused(sources, tokens, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        one_stage(tokens, **sources)


def test_budgets_over_what_there_is_are_refused_all_at_once_with_what_would_do():
    asked = {"web": wanted(3_000_000, epochs=2), "code": wanted(900_000, epochs=1.1), "wiki": wanted(1500)}
    with pytest.raises(ValueError, match="more is asked") as refusal:
        one_stage(**asked)
    assert str(refusal.value).splitlines() == [
        "more is asked for than there is, times max_epochs:",
        "  source 'web': asked 3,000,000 tokens, there are 1,000,000, × max_epochs 2 = 2,000,000, short by 1,000,000: "
        "max_epochs 3 would do, or a budget of 2,000,000 tokens of the source",
        "  source 'code': asked 900,000 tokens, there are 800,000, × max_epochs 1.1 = 880,000, short by 20,000: "
        "max_epochs 1.125 would do, or a budget of 880,000 tokens of the source",
        "  source 'wiki': asked 1,500 tokens, there are 1,000, × max_epochs 1 = 1,000, short by 500: "
        "max_epochs 1.5 would do, or a budget of 1,000 tokens of the source",
        "  in these proportions the mixture can have 2,601,000 tokens",
    ]
    epochs = {"web": 3, "code": 1.125, "wiki": 1.5}
    one_stage(**{name: wanted(asked[name].tokens, epochs=epochs[name]) for name in asked})
    one_stage(web=wanted(2_000_000, epochs=2), code=wanted(880_000, epochs=1.1), wiki=wanted(1000))
    one_stage(2_601_000, **{name: wanted(weight=one.tokens, epochs=one.max_epochs) for name, one in asked.items()})


@pytest.mark.parametrize("tokens", [800_001, 2_000_003, 6_500_000_000_001])
def test_what_would_do_does(tokens: int):
    with pytest.raises(ValueError, match="more is asked") as refusal:
        one_stage(code=wanted(tokens))
    epochs = re.search(r"max_epochs ([0-9.]+) would do", str(refusal.value))
    found = one_stage(code=Wanted(tokens, None, Fraction(epochs[1])))
    assert found["code/train"][1] == round(Fraction(tokens, 400))


def test_a_stratum_over_its_cap_is_named():
    with pytest.raises(ValueError, match="more is asked") as refusal:
        one_stage(web=wanted(400_000, de=0, **{"copies_10+": 10}))
    assert "stratum 'train/en/copies=10+' of source 'web': asked 200,000 tokens, there are 50,000" in str(refusal.value)
    assert "max_epochs 4 would do, or a budget of 100,000 tokens of the source" in str(refusal.value)
    one_stage(web=wanted(100_000, de=0, **{"copies_10+": 10}))


def test_caps_hold_over_all_stages():
    stages = [WantedStage({"code": wanted(500_000)}), WantedStage({"code": wanted(400_000), "wiki": wanted(500)})]
    with pytest.raises(ValueError, match="more is asked") as refusal:
        settle(stages, THERE)
    assert str(refusal.value).splitlines()[1:] == [
        "  stage 1: source 'code': asked 900,000 tokens (of these 500,000 in earlier stages), there are 800,000, × "
        "max_epochs 1 = 800,000, short by 100,000: max_epochs 1.125 would do, or a budget of 300,000 tokens of the "
        "source"
    ]
    assert [one.before for one in settle([stages[0], WantedStage({"code": wanted(300_000)})], THERE)[1]] == [1250]


def test_rounding_up_in_one_stage_is_not_taken_twice():
    """3.5 and 6.5 of 10 rows are 4 and 7 rows each alone, which would be 11."""
    there = {"x/train": Packed(10, 640)}
    found = settle([WantedStage({"x": wanted(224)}), WantedStage({"x": wanted(416)})], there)
    assert [(one.before, one.rows) for (one,) in found] == [(0, 4), (4, 6)]
    there |= {"y/train": Packed(100, 6400)}
    lower = WantedStage({"x": wanted(16, epochs=0.39), "y": wanted(640)})  # 3.75 of 3.9 rows, of which 4 are taken
    found = settle([WantedStage({"x": wanted(224, epochs=1)}), lower], there)
    assert [(one.component, one.before, one.rows) for one in found[1]] == [("x/train", 4, 0), ("y/train", 0, 10)]


@given(
    st.lists(st.tuples(st.fractions(0, 50), st.integers(0, 60)), min_size=1, max_size=9),
    st.data(),
)
def test_apportion_by_largest_remainders(listed, data):
    quotas = [quota for quota, _ in listed]
    limits = [max(limit, int(quota) + 1) if quota else 0 for quota, limit in listed]
    total = data.draw(st.integers(0, int(sum(quotas))))
    counts = apportion(quotas, total, limits)
    whole = sum(quotas)
    assert sum(counts) == (total if whole else 0)
    for count, quota, limit in zip(counts, quotas, limits, strict=True):
        assert count <= limit
        assert not whole or abs(count - quota * total / whole) < 1


@st.composite
def stages(draw):
    """Sources of up to three strata, and stages that ask for no more than there is."""
    there = {}
    for index in range(draw(st.integers(1, 4))):
        for stratum in ["train", "train/en", "train/de/copies=10+"][: draw(st.integers(1, 3))]:
            rows = draw(st.integers(1, 3000))
            there[f"s{index}/{stratum}"] = Packed(rows, draw(st.integers(rows, 64 * rows)))
    sources = sorted({source_of(name) for name in there})
    count = draw(st.integers(1, 3))
    caps = {name: draw(st.sampled_from([1, 1.5, 4])) for name in sources}
    asked = []
    for _ in range(count):
        named = draw(st.lists(st.sampled_from(sources), min_size=1, unique=True))
        budgets = {}
        for name in named:
            tokens = sum(packed.tokens for component, packed in there.items() if source_of(component) == name)
            budgets[name] = wanted(int(tokens * caps[name] * draw(st.floats(0.05, 1)) / count), epochs=caps[name])
        asked.append(budgets)
    return there, asked


@given(stages())
def test_budgets_are_met_to_a_row_and_the_plan_takes_just_these_rows(made):
    there, asked = made
    if any(not sum(one.tokens for one in budgets.values()) for budgets in asked):
        return
    try:
        settled = settle([WantedStage(budgets) for budgets in asked], there)
    except ValueError as error:
        assert "not one row" in str(error)  # noqa: PT017 - the only thing that may be wrong with these
        return
    mixtures = []
    for budgets, taken in zip(asked, settled, strict=True):
        quotas, rows = defaultdict(Fraction), defaultdict(int)
        for one in taken:
            quotas[source_of(one.component)] += one.asked * one.packed.rows / one.packed.tokens
            rows[source_of(one.component)] += one.rows
            assert abs(one.rows - one.asked * one.packed.rows / one.packed.tokens) < 3
            assert one.before + one.rows <= one.max_epochs * one.packed.rows
        for name, wish in budgets.items():
            assert sum(one.asked for one in taken if source_of(one.component) == name) == wish.tokens
            # A row of rounding, and one a component where floors of caps leave less.
            assert abs(rows[name] - quotas[name]) < 1 + sum(source_of(c) == name for c in there)
        components = [
            Component(one.component, float(one.tokens), one.packed.rows, one.packed.tokens, float(one.max_epochs))
            for one in taken
            if one.rows
        ]
        mixtures.append((mixture_of(components), {one.component: one.rows for one in taken if one.rows}))
    plan = compile_stages([MixtureStage(mixture, sum(rows.values())) for mixture, rows in mixtures])
    for stage, (mixture, rows) in zip(plan.stages, mixtures, strict=True):
        counts = mixture.counts(stage.rows)
        assert {one.name: count for one, count in zip(mixture.components, counts, strict=True)} == rows


def test_counts_are_exact_at_twelve_trillion_tokens():
    """A thousand components, 2.9 billion rows: the floats of weights and 53 bits of row weights lose no row."""
    there = {f"s/train/{i:04}": Packed(2_900_000 + 7919 * i % 1009, 4096 * 2_900_000 + i) for i in range(1000)}
    (taken,) = settle([WantedStage({"s": wanted(11_600_000_000_007)})], there)
    components = [Component(one.component, float(one.tokens), one.packed.rows, one.packed.tokens) for one in taken]
    mixture = mixture_of(components)
    rows = {one.component: one.rows for one in taken}
    counts = mixture.counts(sum(rows.values()))
    assert {one.name: count for one, count in zip(mixture.components, counts, strict=True)} == rows
