from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.tokens import byte_level_tokenizers
from tests.pipeline.tokens.sentence_tokenizers import sentence_pieces_json
from tokenmill.pipeline.chat.token_places import assemble, place_tokens, token_bytes

#: Lengths of ids 0 to 4; of 4 it is not known.
LENGTHS = np.array([1, 2, 3, 7, -1], np.int32)


def bounds(lengths):
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def placed(texts, sizes):
    tokens = np.array([token for text in texts for token in text], np.uint16)
    starts, ends, odd = np.zeros(len(tokens), np.int32), np.zeros(len(tokens), np.int32), np.zeros(len(texts), np.bool_)
    place_tokens(tokens, bounds([len(text) for text in texts]), bounds(sizes), LENGTHS, True, starts, ends, odd)
    return starts.tolist(), ends.tolist(), odd.tolist()


def test_places_are_sums_of_lengths():
    assert placed([[0, 1, 3], [], [2]], [10, 0, 3]) == ([0, 1, 3, 0], [1, 3, 10, 3], [False] * 3)
    assert placed([[1, 2], [0, 1]], [4, 2]) == ([0, 1, 0, 0], [1, 4, 0, 2], [False] * 2)  # a blank in front
    assert placed([[1, 2], [4], [0]], [3, 1, 2])[2] == [True] * 3


@given(
    st.lists(
        st.lists(
            st.one_of(
                st.tuples(st.integers(5, 9), st.integers(0, 4), st.booleans()),
                st.tuples(st.just(-1), st.integers(0, 4), st.booleans(), st.integers(0, 4)),
            ),
            max_size=7,
        ),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_tokens_have_the_role_of_what_they_stand_for(conversations, data):
    """Each byte of a text has its piece's role; a token the first of its bytes' that is some turn's."""
    expected, tokens, starts, ends, counts = [], [], [], [], []
    for conversation in conversations:
        text = None
        for control, role, answer, *length in [*conversation, (5, 0, False)]:
            if control < 0:
                text = (text or []) + [(role, answer)] * length[0]
                continue
            if text is not None:
                cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=5))) if text else []
                edges = [0, *[cut for cut in cuts if cut < len(text)], len(text)] if text else [0]
                counts.append(len(edges) - 1)
                for start, end in pairwise(edges):
                    mine = text[start:end]
                    roles = [one for one, _ in mine if one]
                    expected.append((len(tokens), roles[0] if roles else 0, any(one for _, one in mine)))
                    tokens.append(len(tokens))
                    starts.append(start)
                    ends.append(end)
            text = None
            expected.append((control, role, answer))
    items = [[*item, (5, 0, False)] for item in conversations]
    flat = [one for item in items for one in item]
    out, roles, answers = (
        np.zeros(len(expected), np.uint16),
        np.zeros(len(expected), np.int8),
        np.zeros(len(expected), "?"),
    )
    offsets = np.zeros(len(items) + 1, np.int64)
    assemble(
        np.array([one[:3] for one in flat], np.int32),
        bounds([len(item) for item in items]),
        bounds([one[3] for one in flat if one[0] < 0]),
        np.array(tokens, np.uint16),
        bounds(counts),
        np.array(starts, np.int32),
        np.array(ends, np.int32),
        out,
        roles,
        answers,
        offsets,
    )
    assert list(zip(out.tolist(), roles.tolist(), answers.tolist(), strict=True)) == expected
    assert offsets[-1] == len(expected)


def test_a_blank_in_front_belongs_to_the_first_piece_that_is_not_empty():
    items = np.array([[-1, 3, 1], [-1, 2, 0]], np.int32)
    out, roles, answers = np.zeros(2, np.uint16), np.zeros(2, np.int8), np.zeros(2, np.bool_)
    starts, ends, _ = placed([[0, 1]], [2])
    places = (np.array(starts, np.int32), np.array(ends, np.int32))
    offsets = np.zeros(2, np.int64)
    tokens = np.array([0, 1], np.uint16)
    assemble(items, bounds([2]), bounds([0, 2]), tokens, bounds([2]), *places, out, roles, answers, offsets)
    assert (roles.tolist(), answers.tolist()) == ([2, 2], [False, False])


def test_a_piece_without_a_byte_has_no_token():
    items = np.array([[-1, 0, 0], [-1, 3, 1], [-1, 0, 0]], np.int32)
    out, roles, answers, offsets = np.zeros(1, np.uint16), np.zeros(1, np.int8), np.zeros(1, "?"), np.zeros(2, np.int64)
    places = (np.array([0], np.int32), np.array([2], np.int32))
    tokens = np.array([1], np.uint16)
    assemble(items, bounds([3]), bounds([1, 0, 1]), tokens, bounds([1]), *places, out, roles, answers, offsets)
    assert (roles.tolist(), answers.tolist()) == ([0], [False])


def test_the_bytes_of_tokens():
    value = byte_level_tokenizers.train(byte_level_tokenizers.PRE_TOKENIZERS["gpt2"])
    vocab = value["model"]["vocab"]
    lengths = token_bytes(value, len(vocab) + 1)
    assert [lengths[vocab[piece]] for piece in ("Ġ", "é", "Ġthe")] == [1, 1, 4]
    assert lengths[len(vocab)] == -1
    value = sentence_pieces_json("Gemma")
    vocab = value["model"]["vocab"]
    lengths = token_bytes(value, len(vocab))
    assert [lengths[vocab[piece]] for piece in ("▁", "<0x0A>", "数", "\n\n", "▁▁")] == [1, 1, 3, 2, 2]
