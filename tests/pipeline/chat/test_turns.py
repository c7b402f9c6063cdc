"""Conversations as rows of TURNS and texts, and back."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenmill.manifests.schemas import TURN, TURNS
from tokenmill.pipeline.chat.conversation import Conversation, Turn
from tokenmill.pipeline.chat.turns import conversations_of, misplaced, text_of, turns_batch, without

CONTENTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
VALUES = st.recursive(st.none() | st.integers(-9, 9) | CONTENTS, lambda inner: st.lists(inner, max_size=3))
TURN_LISTS = st.lists(
    st.builds(
        Turn,
        st.sampled_from(["system", "user", "assistant", "tool"]),
        CONTENTS,
        st.sampled_from([None, "chosen", "rejected"]),
        st.none() | st.dictionaries(CONTENTS, VALUES, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=5,
).map(tuple)
CONVERSATIONS = st.lists(
    st.none()
    | st.builds(
        Conversation,
        TURN_LISTS,
        st.none() | st.lists(VALUES, min_size=1, max_size=2),
        st.sampled_from(["conversation", "preference", "verifiable"]),
        st.none() | st.text("ab", min_size=1),
        st.none() | st.text("ab", min_size=1),
    ),
    max_size=6,
)


def texts_of(conversations: list[Conversation | None]) -> pa.LargeStringArray:
    return pa.array([each and text_of(each) for each in conversations], pa.large_string())


@given(CONVERSATIONS)
def test_conversations_come_back(conversations: list[Conversation | None]):
    batch, texts = turns_batch(conversations), texts_of(conversations)
    batch.validate(full=True)
    assert batch.schema == TURNS
    assert batch.column("turns").is_null().to_pylist() == [each is None for each in conversations]
    assert conversations_of(texts, batch) == conversations
    assert conversations_of(texts.slice(2, 3), batch.slice(2, 3)) == conversations[2:5]
    assert misplaced(texts, batch) == 0


@given(CONVERSATIONS, st.data())
def test_rows_that_are_gone_are_null_in_every_column(conversations: list[Conversation | None], data: st.DataObject):
    gone = np.array(data.draw(st.lists(st.booleans(), min_size=len(conversations), max_size=len(conversations))), bool)
    left = without(turns_batch(conversations), gone)
    expected = [None if lost else each for each, lost in zip(conversations, gone, strict=True)]
    assert left.to_pylist() == turns_batch(expected).to_pylist()


@pytest.mark.parametrize(
    "spans", [[(0, 3), (5, 9)], [(0, 2), (5, 8)], [(1, 3), (5, 8)], [(0, 3)], [(0, 3), (4, 8)], None]
)
def test_turns_that_are_not_the_text_are_found(spans: list[tuple[int, int]] | None):
    conversations = [
        Conversation((Turn("user", "ab"), Turn("assistant", "c"))),
        Conversation((Turn("user", "abc"), Turn("assistant", "def"))),
        None,
    ]
    texts = texts_of(conversations)
    rows = turns_batch(conversations).to_pylist()
    rows[1]["turns"] = spans and [
        dict(zip(TURN.names, ("user", start, end, None, None), strict=True)) for start, end in spans
    ]
    assert misplaced(texts, pa.RecordBatch.from_pylist(rows, schema=TURNS)) == 1
