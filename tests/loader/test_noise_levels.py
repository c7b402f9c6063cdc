"""Where noise levels come from: each stratum once a group or a row's visits, the same at any number of ranks."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loader.gathered import gathered
from tokenmill.pipeline.loader import Illada, Llada, NoiseLevels, noise, open_mixture
from tokenmill.pipeline.loader.noise_levels import in_strata

SEEDS = st.integers(0, 2**64 - 1)


def rows_of(numbers, batch_rows=None, epoch=None, identities=None):
    stored = gathered([[(0, 4)]] * len(numbers), 4, numbers)
    changes = {"batch_rows": batch_rows, "epoch": epoch, "identities": identities}
    return stored._replace(**{name: value for name, value in changes.items() if value is not None})


@given(SEEDS, st.integers(1, 12), st.integers(0, 50))
def test_a_group_has_each_stratum_once(seed, strata, first_group):
    numbers = np.arange(first_group * strata, (first_group + 3) * strata)
    levels = NoiseLevels("batch", strata)
    drawn = levels.draws(rows_of(numbers), seed, 2)
    own = noise.draw(seed, noise.PURPOSE_NOISE_LEVEL, numbers, 2)
    found = drawn.astype(object) * strata >> 32  # the stratum, in Python integers
    for segment in range(2):
        assert all(sorted(group) == list(range(strata)) for group in found[:, segment].reshape(3, strata).tolist())
    expected = ((found << 32) + own.astype(object)) // strata
    assert drawn.tolist() == expected.tolist()
    part = levels.draws(rows_of(numbers[1::2], (int(numbers[0]), int(numbers[-1]) + 1)), seed, 2)
    np.testing.assert_array_equal(part, drawn[1::2])


@given(SEEDS, st.integers(1, 16), st.integers(0, 2**64 - 1))
def test_the_visits_of_a_row_have_each_stratum_once(seed, strata, identity):
    epochs = np.arange(2 * strata, dtype=np.int32)
    numbers = np.arange(1000, 1000 + epochs.size) * 77
    drawn = NoiseLevels("visit", strata).draws(
        rows_of(numbers, epoch=epochs, identities=lambda: np.full(epochs.size, identity, np.uint64)), seed, 1
    )[:, 0]
    found = [int(level) * strata >> 32 for level in drawn]
    assert sorted(found[:strata]) == list(range(strata))
    assert found[strata:] == found[:strata]


def test_groups_and_segments_are_permuted_apart():
    drawn = NoiseLevels("batch", 8).draws(rows_of(np.arange(64)), 5, 2).astype(object) * 8 >> 32
    orders = {tuple(group) for segment in range(2) for group in drawn[:, segment].reshape(8, 8).tolist()}
    assert len(orders) == 16


def test_one_stratum_is_a_plain_draw():
    stored = rows_of(np.arange(10))
    plain = NoiseLevels().draws(stored, 3, 2)
    np.testing.assert_array_equal(NoiseLevels("batch", 1).draws(stored, 3, 2), plain)
    np.testing.assert_array_equal(NoiseLevels("visit", 1).draws(stored, 3, 2), plain)


def test_strata_reach_from_end_to_end():
    draws, strata = np.array([0, 2**32 - 1, 0, 2**32 - 1], np.uint32), np.array([0, 0, 2, 2])
    assert in_strata(draws, strata, 3).tolist() == [0, (2**32 - 1) // 3, 2**33 // 3, 2**32 - 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("often",), "noise levels are 'often': give 'independent', 'batch' or 'visit'"),
        (("batch", 0), "'batch' noise levels have 0 strata"),
        (("independent", 3), "'independent' noise levels have 3 strata"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoiseLevels(*arguments)


def test_a_batch_of_broken_groups_is_refused():
    with pytest.raises(
        ValueError, match="global rows 6 … 13 are a batch of 8, which does not consist of whole groups of 3"
    ):
        NoiseLevels("batch", 3).draws(rows_of(np.arange(6, 14)), 0, 1)


@pytest.mark.parametrize("levels", [NoiseLevels("batch", 4), NoiseLevels("visit", 3)])
def test_through_the_loader_at_any_number_of_ranks(run, levels):
    params = dataclasses.replace(Illada(), noise_levels=levels)
    whole = list(open_mixture(run.path, batch_size=8, objective=params))
    split = [list(open_mixture(run.path, batch_size=8, objective=params, dp_rank=rank, dp_size=4)) for rank in range(4)]
    for index, batch in enumerate(whole):
        for rank in range(4):
            np.testing.assert_array_equal(split[rank][index].masked, batch.masked[rank::4])
    other = next(iter(open_mixture(run.path, batch_size=8, objective="illada")))
    assert (other.noise_threshold != whole[0].noise_threshold).any()


def test_every_visit_of_a_stored_row_has_a_stratum_of_its_own(run):
    """The loader's epoch and identity, not made-up ones."""
    seen: dict[tuple[int, int], list[int]] = {}
    params = Llada(random_length_probability=0, noise_levels=NoiseLevels("visit", 2))
    for batch in open_mixture(run.path, batch_size=4, objective=params):
        for place in range(4):
            level = int(batch.mask_probability[place, 0] > 0.5005)
            seen.setdefault((int(batch.component[place]), int(batch.stored_row[place])), []).append(level)
    twice = [visits for visits in seen.values() if len(visits) >= 2]
    assert len(twice) > 10
    assert all(visits[0] != visits[1] for visits in twice)


def test_parameters_are_part_of_the_hash():
    hashes = {Llada(noise_levels=levels).hash(2) for levels in (NoiseLevels(), NoiseLevels("batch", 2))}
    assert len(hashes) == 2
