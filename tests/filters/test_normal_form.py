"""The normal form, read eight bytes at a time, against Python's own `split` and `unicodedata`, wherever bytes lie."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tokenmill.filters.normal_form import composing, have_marked, normalised_texts
from tokenmill.filters.scan import text_bytes

#: All white space, and characters whose UTF-8 begins or goes on as that of white space.
_SPACES = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
_ALIKE = (
    "!\x00\x08\x0e\x1b\x7f\x80\x9f\xa1©ÀßáàâãāĀ\u1681\u180e\u200b\u2019\u2027\u2030\u205e\u2060あ、한字😀e\u0301\u212b"
)
_PIECE = st.sampled_from(_SPACES) | st.sampled_from(_ALIKE) | st.text("ab .", max_size=9) | st.just("  ") | st.text()
_TEXT = st.lists(_PIECE, max_size=24).map("".join)


def normalised(texts: list[str | None]) -> list[str]:
    data, starts, ends = normalised_texts(pa.array(texts, pa.large_string()))
    return [data[start:end].tobytes().decode() for start, end in zip(starts, ends, strict=True)]


def slowly(text: str | None) -> str:
    return " ".join(unicodedata.normalize("NFC", text or "").split())


@given(st.lists(st.none() | _TEXT, max_size=8))
@example([" a ", "b  ", "  ", "", "c"])  # what is left over of one text is written over by the next
def test_texts_are_those_of_python(texts: list[str | None]) -> None:
    assert normalised(texts) == [slowly(text) for text in texts]


@pytest.mark.parametrize("ahead", range(10))
def test_a_character_is_seen_wherever_it_lies(ahead: int) -> None:
    odd = ("  ", " \n", "\n ", "\u3000 ", *_SPACES, *_ALIKE)
    openings = ("", "\x00")  # behind the second bytes are read eight at a time anew
    texts = [each + "w" * ahead + piece + "v" * behind for each in openings for piece in odd for behind in (0, 1, 9)]
    assert normalised(texts) == [slowly(text) for text in texts]


@given(st.lists(_TEXT, max_size=6))
def test_marked_are_those_with_a_marked_character(texts: list[str]) -> None:
    data, bounds = text_bytes(pa.array(texts, pa.large_string()))
    slow = [any(composing()[ord(character)] for character in text) for text in texts]
    assert have_marked(data, bounds[:-1], bounds[1:], composing()).tolist() == slow


@pytest.mark.parametrize("character", ["\u0300", "\u0340", "\u0958", "\u1161", "\uf900", "\U0001d15e"])
def test_a_mark_is_seen_wherever_it_lies(character: str) -> None:
    texts = ["é" * (ahead % 3) + "a" * ahead + character + "b" * behind for ahead in range(10) for behind in range(9)]
    data, bounds = text_bytes(pa.array(texts, pa.large_string()))
    assert np.all(have_marked(data, bounds[:-1], bounds[1:], composing()))
