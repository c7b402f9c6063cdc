"""Pieces that are tokens as they stand: a table against a dict."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.kernels import kernel
from tokenmill.pipeline.tokens.piece_cache import hash_bytes
from tokenmill.pipeline.tokens.whole_pieces import WholePieces, find_whole, whole_pieces


@kernel
def _find(text, at, number, mixed, rows, bounds, data, ids):  # type: ignore[no-untyped-def]
    return find_whole(text, at, number, hash_bytes(text, at, number) if mixed == 0 else mixed, rows, bounds, data, ids)


def find(piece: bytes, table: WholePieces, mixed: int = 0) -> int:
    text = np.frombuffer(b"!" + piece + b"!", np.uint8)
    return int(_find(text, 1, len(piece), np.uint64(mixed), *table))


@given(
    ids=st.dictionaries(st.binary(min_size=1, max_size=12), st.integers(0, 2**31), max_size=40),
    others=st.lists(st.binary(min_size=1, max_size=12)),
)
def test_as_a_dict(ids: dict[bytes, int], others: list[bytes]) -> None:
    table = whole_pieces(ids)
    assert {piece: find(piece, table) for piece in ids} == ids
    assert [find(piece, table) for piece in others] == [ids.get(piece, -1) for piece in others]


def test_none_is_one_row() -> None:
    assert whole_pieces({}).rows.shape == (1, 2)
    assert find(b"a", whole_pieces({})) == -1


@pytest.mark.parametrize("piece", [b"abc", b"abd", b"ab", b"abcd"])
def test_of_two_pieces_with_one_hash_each_is_only_itself(piece: bytes) -> None:
    table = whole_pieces({b"abc": 5})
    mixed = int(table.rows[table.rows[:, 1] > 0][0, 0])
    assert find(piece, table, mixed) == (5 if piece == b"abc" else -1)
