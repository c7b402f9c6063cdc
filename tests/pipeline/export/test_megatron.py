"""Pieces made whole documents, against sorting them in Python; and what megatron's index says of wider ids."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.export.small_export import read_megatron
from tokenmill.pipeline.export.megatron import Documents, join_pieces, write_index

#: Tokens of each piece of each document.
SIZES = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=12)


@st.composite
def stored_pieces(draw: st.DrawFn) -> list[tuple[int, int, int, list[int]]]:
    """(part, row, start, tokens) of the pieces of some documents, shuffled; every token is another."""
    pieces, token = [], 0
    for number, sizes in enumerate(draw(SIZES)):
        start = 0
        for size in sizes:
            pieces.append((number % 3, number // 3, start, list(range(token, token + size))))
            token, start = token + size, start + size
    return draw(st.permutations(pieces))


def joined(pieces: list[tuple[int, int, int, list[int]]], dtype: type = np.uint16) -> Documents:
    parts, rows, starts = (np.array([piece[i] for piece in pieces], np.int32) for i in range(3))
    lengths = np.array([len(piece[3]) for piece in pieces], np.int32)
    tokens = np.array([token for piece in pieces for token in piece[3]], dtype)
    return join_pieces(tokens, lengths, parts, rows, starts, unit="unit")


@given(stored_pieces(), st.sampled_from([np.uint16, np.uint32]))
def test_pieces_are_joined(pieces: list[tuple[int, int, int, list[int]]], dtype: type):
    found = joined(pieces, dtype)
    expected = []
    for part, row, start, _ in pieces:
        if start == 0:
            own = sorted(piece for piece in pieces if piece[:2] == (part, row))
            expected.append([token for piece in own for token in piece[3]])
    assert found.lengths.tolist() == list(map(len, expected))
    assert found.tokens.tolist() == [token for document in expected for token in document]


@given(stored_pieces(), st.data())
def test_a_missing_or_doubled_piece_is_told_of(pieces: list[tuple[int, int, int, list[int]]], data: st.DataObject):
    """All but a last piece: that a document should go on is written nowhere; the counts of the run tell of it."""
    index = data.draw(st.integers(0, len(pieces) - 1))
    with pytest.raises(ValueError, match="the shards of unit do not hold every piece"):
        joined([*pieces, pieces[index]])
    later = [piece for piece in pieces if piece[:2] == pieces[index][:2] and piece[2] > pieces[index][2]]
    if later:
        with pytest.raises(ValueError, match="the shards of unit do not hold every piece"):
            joined(pieces[:index] + pieces[index + 1 :])


def test_ids_past_65535_are_int32(tmp_path: Path):
    documents = joined([(0, 0, 0, [70000, 1]), (0, 1, 0, [3])], np.uint32)
    (tmp_path / "unit.bin").write_bytes(documents.tokens.tobytes())
    with (tmp_path / "unit.idx").open("wb") as file:
        write_index(file, documents)
    assert [document.tolist() for document in read_megatron(tmp_path / "unit")] == [[70000, 1], [3]]
    assert documents.tokens.dtype == np.int32
