"""Byte-pair merges against the rule as it is told: again and again the pair of lowest rank, of equals the leftmost."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.kernels import kernel
from tokenmill.pipeline.tokens.added_pieces import Unknown
from tokenmill.pipeline.tokens.byte_pairs import (
    HEAP_FROM,
    ROOM_PER_BYTE,
    first_ranks,
    merge_piece,
    pair_table,
)

Merges = list[tuple[int, int, int]]
FIRST = np.arange(256, dtype=np.uint32)[::-1].copy()  # the byte's id is not the byte


@kernel
def _merge(data, at, end, first_ids, ranks, rows, made, room, out, to):  # type: ignore[no-untyped-def]
    return merge_piece(data, at, end, first_ids, ranks, rows, made, room, out, to)


def ours(piece: bytes, merges: Merges) -> list[int]:
    """With bytes around the piece and just the room that is asked for."""
    pairs, data = pair_table(merges), np.frombuffer(b"ab" + piece + b"ba", np.uint8)
    room, out = np.full(ROOM_PER_BYTE * len(piece), 2**63, np.uint64), np.full(len(piece) + 6, 77, np.uint32)
    end = _merge(data, 2, 2 + len(piece), FIRST, first_ranks(FIRST, pairs), *pairs, room, out, 3)
    assert out[:3].tolist() + out[3 + len(piece) :].tolist() == [77] * 6
    return out[3:end].tolist()


def slow(piece: bytes, merges: Merges) -> list[int]:
    ranks = {(left, right): (rank, made) for rank, (left, right, made) in enumerate(merges)}  # the last of equal pairs
    ids = FIRST[list(piece)].tolist()
    while True:
        found = [(*ranks[pair], place) for place, pair in enumerate(pairwise(ids)) if pair in ranks]
        if not found:
            return ids
        _, made, place = min(found, key=lambda one: (one[0], one[2]))
        ids[place : place + 2] = [made]


def drawn_merges(rng: random.Random, letters: bytes, count: int) -> Merges:
    """Merges of what there is, in an order in which a later one may make what an earlier one takes."""
    ids, merges = FIRST[list(letters)].tolist(), []
    for made in range(256, 256 + count):
        merges.append((rng.choice(ids), rng.choice(ids), made))
        ids.append(made)
    rng.shuffle(merges)
    return merges


@given(seed=st.integers(0, 10**6), size=st.integers(1, 40), letters=st.sampled_from([b"a", b"ab", b"abcdef"]))
def test_any_piece(seed: int, size: int, letters: bytes) -> None:
    rng = random.Random(seed)
    merges = drawn_merges(rng, letters, rng.randrange(60))
    piece = bytes(rng.choice(letters) for _ in range(size))
    assert ours(piece, merges) == slow(piece, merges)


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(HEAP_FROM - 2, 3 * HEAP_FROM),
    letters=st.sampled_from([b"a", b"ab", b"abcd"]),
)
def test_any_long_piece(seed: int, size: int, letters: bytes) -> None:
    """Those that a heap merges."""
    rng = random.Random(seed)
    merges = drawn_merges(rng, letters, rng.randrange(200))
    piece = bytes(rng.choice(letters) for _ in range(size))
    assert ours(piece, merges) == slow(piece, merges)


DOUBLES = [(158, 158, 256), *((256 + k, 256 + k, 257 + k) for k in range(7))]  # FIRST[ord("a")] is 158


@pytest.mark.parametrize("size", [1, 2, 3, 7, HEAP_FROM - 1, HEAP_FROM, HEAP_FROM + 1, 1000, 1023])
@pytest.mark.parametrize("merges", [DOUBLES, DOUBLES[::-1], [(158, 158, 256), (256, 158, 257), (257, 256, 258)]])
def test_one_repeated_letter(size: int, merges: Merges) -> None:
    assert ours(b"a" * size, merges) == slow(b"a" * size, merges)


def test_a_million_repeated_letters() -> None:
    found = ours(b"a" * 1_000_003, DOUBLES)
    assert sum(1 if token == 158 else 2 << (token - 256) for token in found) == 1_000_003
    assert found[: 1_000_003 // 256] == [263] * (1_000_003 // 256)


def test_of_equal_ranks_the_leftmost() -> None:
    assert ours(b"aaa", [(158, 158, 256)]) == [256, 158]


def test_of_equal_pairs_the_last_counts() -> None:
    merges = [(158, 158, 256), (157, 157, 257), (158, 158, 258)]
    assert ours(b"aabb", merges) == slow(b"aabb", merges) == [258, 257]


def test_no_merges() -> None:
    assert ours(b"ab", []) == [158, 157]


def test_every_pair_is_found_and_no_other() -> None:
    rng = random.Random(4)
    merges = [(rng.randrange(2**21 - 1), rng.randrange(2**21 - 1), rng.randrange(2**31)) for _ in range(5000)]
    pairs = pair_table(merges)
    assert len(pairs.rows) >= 2 * len(merges)
    rows = pairs.rows[pairs.rows != 2**64 - 1].tolist()
    assert sorted(rows) == sorted(left << 42 | right << 21 | rank for rank, (left, right, _) in enumerate(merges))
    assert pairs.made.tolist() == [made for _, _, made in merges]


@pytest.mark.parametrize("pair", [(2**21 - 1, 5, 6), (5, 2**21 - 1, 6)])
def test_ids_that_a_row_cannot_hold_are_not_known(pair: tuple[int, int, int]) -> None:
    with pytest.raises(Unknown, match="pass 2,097,151"):
        pair_table([(1, 2, 3), pair])
