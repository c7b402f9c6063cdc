"""How often texts hold pieces, against the obvious count."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.pipeline.tokens.added_pieces import added_pieces, count_pieces

PIECES = ["<|", "<|end|>", "<s>", "[MASK]", "▁▁", "  ", "<|end"]


def obvious(text: str) -> int:
    count = at = 0
    while at < len(text):
        found = max((piece for piece in PIECES if text.startswith(piece, at)), key=len, default="")
        count += bool(found)
        at += len(found) or 1
    return count


TEXT = st.lists(st.sampled_from([*PIECES, "<", "|", "e", "end", " ", "é"]), max_size=12).map("".join)


@given(st.lists(st.none() | TEXT, max_size=6))
def test_pieces_are_counted_from_the_left_the_longest_first(texts: list[str | None]) -> None:
    pieces = added_pieces({piece.encode(): number for number, piece in enumerate(PIECES)})
    column = pa.array(["<s>", *texts, "<s>"], pa.large_string())[1:-1]
    assert count_pieces(column, pieces) == sum(obvious(text) for text in texts if text is not None)
