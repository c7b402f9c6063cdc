"""Turns of edited texts: against an oracle that marks every byte with the turn it belongs to."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.filters.edits import apply_edits
from tokenmill.filters.turns import ASSISTANT, USER, moved_turns, turn_spans
from tokenmill.manifests.schemas import EDITS, TURNS

Span = tuple[int, int]
Edit = tuple[int, int, str]


def turns_batch(rows: list[list[Span] | None]) -> pa.RecordBatch:
    """Rows of TURNS with such spans; roles take turns."""
    lists = [
        None
        if spans is None
        else [
            {"role": ("user", "assistant")[at % 2], "start": start, "end": end, "branch": None, "fields": None}
            for at, (start, end) in enumerate(spans)
        ]
        for spans in rows
    ]
    rest = dict.fromkeys(TURNS.names[1:])
    return pa.RecordBatch.from_pylist([{"turns": turns, **rest} for turns in lists], schema=TURNS)


def edits_batch(edits: list[tuple[int, Edit]]) -> pa.RecordBatch:
    rows = [dict(zip(EDITS.names, (row, *edit, "test"), strict=True)) for row, edit in edits]
    return pa.RecordBatch.from_pylist(rows, schema=EDITS)


def owned(text: str, spans: list[Span], edits: list[Edit]) -> tuple[str, list[str], list[int | None]]:
    """The edited text, the text of each turn, and the turn of each character, one character at a time."""
    out: list[tuple[str, int | None]] = []
    turn_of = {at: turn for turn, (start, end) in enumerate(spans) for at in range(start, end)}
    place = 0
    for start, end, replacement in edits:
        out += [(text[at], turn_of.get(at)) for at in range(place, start)]
        touching = [turn for turn, (first, last) in enumerate(spans) if first <= start <= last]
        holding = [turn for turn, (first, last) in enumerate(spans) if first <= start < last]
        owners = touching if start == end else holding
        out += [(char, owners[0] if owners else None) for char in replacement]
        place = end
    out += [(text[at], turn_of.get(at)) for at in range(place, len(text))]
    contents = ["".join(char for char, turn in out if turn == mine) for mine in range(len(spans))]
    return "".join(char for char, _ in out), contents, [turn for _, turn in out]


@st.composite
def edited_conversations(draw: st.DrawFn) -> tuple[str, list[Span], list[Edit]]:
    """A text of letters, turns in it (some empty, some touching), and edits that cross them as they like."""
    size = draw(st.integers(1, 30))
    cuts = sorted(draw(st.lists(st.integers(0, size), min_size=2, max_size=10)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    places = sorted(draw(st.lists(st.integers(0, size), max_size=10)))
    marks = [draw(st.sampled_from(["", "x", "<a>"])) for _ in range(len(places) // 2)]
    edits = [(*span, mark) for span, mark in zip(zip(places[::2], places[1::2], strict=False), marks, strict=True)]
    return "abcdefghijklmnopqrstuvwxyz0123"[:size], spans, edits


@given(st.lists(st.none() | edited_conversations(), max_size=5), st.integers(0, 3))
def test_moved_turns_are_those_of_the_oracle(cases: list[tuple[str, list[Span], list[Edit]] | None], first_row: int):
    texts = pa.array([case and case[0] for case in cases], pa.large_string())
    turns = turns_batch([case and case[1] for case in cases])
    edits = edits_batch([(first_row + row, edit) for row, case in enumerate(cases) if case for edit in case[2]])
    moved = moved_turns(turns, edits, first_row)
    moved.validate(full=True)
    assert moved.schema == TURNS
    after = apply_edits(texts, edits, first_row).to_pylist()
    assert moved.drop_columns(["turns"]) == turns.drop_columns(["turns"])
    for case, text, found in zip(cases, after, moved.column("turns").to_pylist(), strict=True):
        if case is None:
            assert found is None
            continue
        expected, contents, turn_of = owned(*case)
        assert text == expected
        spans = [(turn["start"], turn["end"]) for turn in found]
        assert [text[start:end] for start, end in spans] == contents
        assert [turn_of[at] for start, end in spans for at in range(start, end)] == [
            at for at, content in enumerate(contents) for _ in content
        ]
        ends = [0, *(end for _, end in spans)]
        assert all(start >= before for (start, _), before in zip(spans, ends, strict=False))


@pytest.mark.parametrize(
    ("edits", "contents"),
    [
        ([(0, 3, "")], ["", "efgh"]),  # a turn that lost all is empty
        ([(1, 6, "<x>")], ["a<x>", "gh"]),  # crosses both: where it begins
        ([(3, 6, "<x>")], ["abc", "gh"]),  # begins between them: in none
        ([(3, 3, "<x>")], ["abc<x>", "efgh"]),  # inserted behind the last byte
        ([(4, 4, "<x>")], ["abc", "<x>efgh"]),
        ([(0, 8, "<x>")], ["<x>", ""]),
    ],
)
def test_what_becomes_of_turns(edits: list[Edit], contents: list[str]):
    text, spans = "abc-efgh", [(0, 3), (4, 8)]
    batch = edits_batch([(0, edit) for edit in edits])
    (after,) = apply_edits(pa.array([text], pa.large_string()), batch, 0).to_pylist()
    (found,) = moved_turns(turns_batch([spans]), batch, 0).column("turns").to_pylist()
    assert [after[turn["start"] : turn["end"]] for turn in found] == contents


def test_spans_of_a_slice_count_from_its_first_turn():
    turns = turns_batch([[(0, 1), (3, 4)], None, [(0, 2)], [(1, 5), (7, 9)]]).column("turns")
    found = turn_spans(turns.slice(1, 3))
    assert found.documents.tolist() == [0, 0, 1, 3]
    assert found.roles.tolist() == [USER, USER, ASSISTANT]
    assert (found.starts.tolist(), found.ends.tolist()) == ([0, 1, 7], [2, 5, 9])
    assert found.branches.tolist() == [0, 0, 0]
    assert not found.fields.any()
