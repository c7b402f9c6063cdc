"""LLaDA's batches: segments, invariants, and the figures that concern them."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.gathered import MASK, PAD, key
from tokenmill.pipeline.loader import noise
from tokenmill.pipeline.loader.batch import Gathered
from tokenmill.pipeline.loader.llada import Llada
from tokenmill.pipeline.loader.stored_rows import Pieces


def made(params: Llada, valid, rows, length: int, seed: int = 3, clean=None, pieces=None) -> dict:
    valid, rows = np.array(valid, np.int32), np.array(rows, np.int64)
    if clean is None:
        clean = np.where(np.arange(length) < valid[:, None], 3 + np.arange(length), PAD).astype(np.int64)
    stored = Gathered(
        clean=clean,
        valid=valid,
        pieces=pieces,
        aligned=pieces is not None,
        rows=rows,
        answers=None,
        epoch=np.zeros_like(valid),
        identities=lambda: rows.astype(np.uint64),
        batch_rows=(int(rows.min()), int(rows.max()) + 1),
    )
    return params.arrays(stored, key(seed))


def slow_batch_of_aligned_rows(params: Llada, pieces: list[list[tuple[int, int]]], rows, length: int, seed: int):
    """Every place of the flat batch: (segment, can be masked), pieces of a row as (start, end)."""
    places = []
    for row, (number, spans) in enumerate(zip(rows, pieces, strict=True)):
        chosen, drawn = (int(x) for x in noise.draw(seed, noise.PURPOSE_LENGTH, np.array([number]), 2)[0])
        cut = 1 + (drawn * length >> 32) if chosen < round(params.random_length_probability * 2**32) else length
        end = spans[-1][1]
        dropped = cut if params.tail == "drop" and cut < end else length
        for at in range(length):
            holders = [span for span in spans if span[0] <= at < span[1]]
            gap = sum(span[1] <= at for span in spans)
            what = ("piece", holders[0]) if holders else ("gap", gap)
            half = at >= cut if cut < end and at < end else None
            if at >= dropped:
                what, half, holders = ("gap", "end"), None, []
            if at >= end:
                half = None
            places.append(((row, what, half), bool(holders)))
    return places


@settings(deadline=None)
@given(st.data(), st.sampled_from(["segment", "drop"]), st.integers(0, 2**64 - 1))
def test_pieces_and_gaps_of_aligned_rows_are_segments(data, tail, seed):
    align, blocks, size = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    length, rows, spans = align * blocks, data.draw(st.lists(st.integers(0, 2**40), min_size=size, max_size=size)), []
    for _ in range(size):
        at, row = 0, []
        while at < length and (not row or data.draw(st.booleans())):
            end = data.draw(st.integers(at + 1, length))
            row.append((at, end))
            at = -(-end // align) * align
        spans.append(row)
    flat = [(row, start, end) for row, some in enumerate(spans) for start, end in some]
    pieces = Pieces(*(np.array(column, np.int64) for column in zip(*flat, strict=True)))
    params = Llada(random_length_probability=0.5, tail=tail)
    clean = np.full((size, length), 7, np.int64)
    valid = [sum(end - start for start, end in row) for row in spans]
    batch = made(params, valid, rows, length, seed, clean=clean, pieces=pieces)
    slow = slow_batch_of_aligned_rows(params, spans, rows, length, seed)
    borders = [0] + [i for i in range(1, len(slow)) if slow[i][0] != slow[i - 1][0]] + [len(slow)]
    assert batch["cu_seqlens"].tolist() == borders
    assert batch["maskable"].ravel().tolist() == [maskable for _, maskable in slow]
    assert batch["position_ids"].ravel().tolist() == [i for a, b in pairwise(borders) for i in range(b - a)]
    assert len(batch["noise_threshold"]) == len(borders) - 1
    assert not (batch["masked"] & ~batch["maskable"]).any()
    assert batch["max_seqlen"] == max(b - a for a, b in pairwise(borders))


def slow_segments(params: Llada, valid: list[int], rows: list[int], length: int, seed: int):
    """For each row: its segments' lengths and how many tokens can be masked."""
    found = []
    for n, row in zip(valid, rows, strict=True):
        chosen, drawn = (int(x) for x in noise.draw(seed, noise.PURPOSE_LENGTH, np.array([row]), 2)[0])
        cut = 1 + (drawn * length >> 32) if chosen < round(params.random_length_probability * 2**32) else length
        if cut >= n:
            pieces, maskable = [n, length - n], n
        elif params.tail == "drop":
            pieces, maskable = [cut, length - cut], cut
        else:
            pieces, maskable = [cut, n - cut, length - n], n
        found.append(([piece for piece in pieces if piece], maskable))
    return found


@settings(deadline=None)
@given(st.data(), st.sampled_from(["segment", "drop"]), st.integers(0, 2**64 - 1))
def test_segments_and_invariants(data, tail, seed):
    length, size = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 5))
    valid = data.draw(st.lists(st.integers(0, length), min_size=size, max_size=size))
    rows = data.draw(st.lists(st.integers(0, 2**40), min_size=size, max_size=size))
    params = Llada(random_length_probability=0.5, tail=tail)
    batch = made(params, valid, rows, length, seed)
    slow = slow_segments(params, valid, rows, length, seed)
    lengths = [piece for pieces, _ in slow for piece in pieces]
    assert np.diff(batch["cu_seqlens"]).tolist() == lengths
    assert (batch["cu_seqlens"][0], batch["cu_seqlens"].dtype) == (0, np.int32)
    assert batch["max_seqlen"] == max(lengths)
    assert batch["position_ids"].ravel().tolist() == [i for piece in lengths for i in range(piece)]
    assert batch["maskable"].sum(axis=1).tolist() == [maskable for _, maskable in slow]
    row_of = np.repeat(np.arange(size), [len(pieces) for pieces, _ in slow])
    drawn = noise.draw(seed, noise.PURPOSE_NOISE_LEVEL, np.array(rows), 1)[:, 0]
    assert batch["noise_threshold"].tolist() == noise.thresholds(drawn, 1e-3)[row_of].tolist()
    np.testing.assert_array_equal(batch["mask_probability"][:, 0], (noise.thresholds(drawn, 1e-3) / 2**32).astype("f4"))
    masked, clean = batch["masked"], batch["clean"]
    assert not (masked & ~batch["maskable"]).any()
    assert not (clean == MASK).any()
    np.testing.assert_array_equal(batch["noisy"], np.where(masked, MASK, clean))
    np.testing.assert_array_equal(batch["labels"], clean)
    np.testing.assert_array_equal(
        batch["loss_weight"], np.where(masked, np.float32(1) / batch["mask_probability"], np.float32(0))
    )
    assert batch["denominator"] == size * length
    if tail == "drop":
        assert (clean[~batch["maskable"]] == PAD).all()
    fields = ["clean", "noisy", "labels", "masked", "maskable", "mask_probability", "loss_weight", "position_ids"]
    assert {batch[name].shape for name in fields} == {(size, length)}
    kinds = ["i8", "i8", "i8", "?", "?", "f4", "f4", "i8"]
    assert [batch[name].dtype for name in fields] == [np.dtype(kind) for kind in kinds]


def test_random_lengths_come_once_in_a_hundred_rows():
    rows, length = 100_000, 16
    batch = made(Llada(), [length] * rows, range(rows), length)
    cuts = batch["cu_seqlens"][batch["cu_seqlens"] % length > 0] % length
    expected = 0.01 * 15 / 16  # a length of 16 cuts nothing
    assert cuts.size / rows == pytest.approx(expected, abs=4 * math.sqrt(expected / rows))
    assert np.bincount(cuts, minlength=16)[1:].min() > 30
    assert cuts.mean() == pytest.approx(8.0, abs=4 * 4.3 / math.sqrt(cuts.size))


def test_noise_of_a_row_depends_on_its_number_alone():
    whole = made(Llada(), [8] * 10, range(10), 8)
    alone = made(Llada(), [8], [6], 8)
    for name in ("noisy", "masked", "loss_weight", "mask_probability"):
        np.testing.assert_array_equal(alone[name][0], whole[name][6])
    other = made(Llada(), [8] * 10, range(10), 8, seed=4)
    assert not np.array_equal(other["masked"], whole["masked"])


def test_a_row_that_holds_the_mask_id_is_refused():
    clean = np.full((3, 4), 5)
    clean[1, 2] = MASK
    message = "mask_token_id 2 occurs in the data, at place 2 of global row 71"
    with pytest.raises(ValueError, match=re.escape(message)):
        made(Llada(), [4] * 3, [70, 71, 72], 4, clean=clean)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"random_length_probability": 1.5}, "random_length_probability is 1.5"),
        ({"tail": "keep"}, "tail is 'keep': give 'segment' or 'drop'"),
    ],
)
def test_bad_parameters_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Llada(**fields)


def test_objective_hash_names_its_parameters():
    hashes = [Llada().hash(2), Llada().hash(3), Llada(epsilon=1e-4).hash(2), Llada(tail="drop").hash(2)]
    assert len({*hashes, Llada(random_length_probability=0.0).hash(2)}) == 5
    assert Llada().hash(2) == hashes[0]
