"""A document as people see it: nothing that stands in its text stays hidden."""

from hypothesis import given
from hypothesis import strategies as st

from tokenmill.pipeline.seen import visible


def test_what_shows_nothing_is_made_visible():
    assert visible("a\tb\x1b[31m\u200b\u00a0é\n\u4e2d\u3000.", 100) == "a\\tb\\x1b[31m\\u200b\\xa0é⏎\n中\u3000."
    assert visible("x" * 500 + "y" * 500, 40) == "x" * 30 + " […960 characters…] " + "y" * 10
    assert visible("x" * 40, 40) == "x" * 40


@given(st.text())
def test_nothing_hidden_is_left(text: str):
    shown = visible(text, 1 << 20)
    assert all(char.isprintable() or char in "\n\u3000" for char in shown)
