"""Content hashes: what counts as the same text."""

import unicodedata

import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.filters.content_hashes import content_hashes
from tokenmill.manifests.schemas import HASHES

#: Letters and marks that join, Hangul and what its syllables end with, spaces of all kinds, ideographs and pictures.
_ODD = (
    "aé\u0301\u0327 \t\n\x1c\x85\xa0\u2003\u3000\u200b한\u1112\u1161\u11ab\u212b\ufb01\u0958\u2adc字😀"
    "\U00011131\U00011127"
)


def digests(texts: list[str | None]) -> list[bytes | None]:
    found: list[bytes | None] = content_hashes(pa.array(texts, pa.large_string())).column(0).to_pylist()
    return found


def test_a_hash_is_xxh3_128_of_the_normalised_text() -> None:
    batch = content_hashes(pa.array([" Caf\u0065\u0301 \n\t au\u00a0lait ", None, ""], pa.large_string()))
    assert batch.schema.equals(HASHES)
    expected = [xxhash.xxh3_128_digest("Café au lait".encode()), None, xxhash.xxh3_128_digest(b"")]
    assert batch.column(0).to_pylist() == expected


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("a b", "a  b\n", True),
        ("\u00e9", "e\u0301", True),
        ("", " \n ", True),
        ("a b", "ab", False),
        ("A", "a", False),
        ("a.", "a", False),
        ("page 1", "page 2", False),
    ],
)
def test_what_is_the_same_text(left: str, right: str, same: bool) -> None:
    a, b = digests([left, right])
    assert (a == b) is same


@given(st.lists(st.none() | st.text(max_size=20), max_size=20), st.data())
def test_slices_hash_as_the_whole(texts: list[str | None], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(texts)))
    column = pa.array(texts, pa.large_string())
    parts = [content_hashes(column[:cut]).column(0).to_pylist(), content_hashes(column[cut:]).column(0).to_pylist()]
    assert parts[0] + parts[1] == digests(texts)


@given(st.lists(st.none() | st.text(st.sampled_from(_ODD), max_size=20) | st.text(max_size=20), max_size=12))
def test_hashes_are_those_of_python(texts: list[str | None]) -> None:
    def slowly(text: str) -> bytes:
        return xxhash.xxh3_128_digest(" ".join(unicodedata.normalize("NFC", text).split()).encode())

    assert digests(texts) == [None if text is None else slowly(text) for text in texts]
