"""Plain conversations, which a kernel lays out, against the same taken one by one."""

import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.chat import chats, layouts
from tokenmill.filters.turns import ROLES, turn_spans
from tokenmill.pipeline.chat.coder import ChatCoder, tokens_of_roles
from tokenmill.pipeline.chat.conversation import Conversation, Turn
from tokenmill.pipeline.chat.plain_chats_kernel import MOST_TURNS, shape_keys
from tokenmill.pipeline.chat.template import ChatTemplate
from tokenmill.pipeline.chat.turns import text_of, turns_batch
from tokenmill.pipeline.tokens.encode import EncodedBatch, TokenizerPolicy

BARE = TokenizerPolicy(None, None, None, None, append_eos=False)
Q, A = Turn("user", "Why?"), Turn("assistant", "So.")
PAIR = Conversation((Q, A._replace(branch="chosen"), A._replace(branch="rejected")), None, "preference")


def coder(name: str, policy: TokenizerPolicy = BARE, template: ChatTemplate | None = None) -> ChatCoder:
    return ChatCoder(layouts.tokenizer_json(name), template or layouts.template(name), policy)


def rows(conversations: Sequence[Conversation]) -> tuple[pa.LargeStringArray, pa.RecordBatch]:
    """Texts and turns, a slice of longer columns."""
    several = [Conversation((Q, A)), *conversations, Conversation((Q,))]
    texts = pa.array([text_of(one) for one in several], pa.large_string())
    return texts.slice(1, len(conversations)), turns_batch(several).slice(1, len(conversations))


def agree(coder: ChatCoder, conversations: Sequence[Conversation], plain: Sequence[bool] | None = None) -> EncodedBatch:
    """All comes out as it does one by one; which of them are plain is as said."""
    texts, turns = rows(conversations)
    found, reasons = coder.encode(texts, turns)
    expected, told = coder._encoded(texts, turns)
    assert list(reasons) == list(told)
    assert found.spelled_controls == expected.spelled_controls
    for name in ("tokens", "answers", "roles", "offsets"):
        one, two = getattr(found, name), getattr(expected, name)
        assert (one.dtype, one.tolist()) == (two.dtype, two.tolist())
    if plain is not None:
        assert coder._chats.encode_plain(texts, turns)[0].tolist() == list(plain)
    return found


@pytest.mark.parametrize("name", sorted(layouts.LAYOUTS))
def test_plain_conversations_come_out_as_one_by_one(name):
    rng = random.Random(name)
    several = [chats.conversation(rng, reasoning=at % 3 == 0, tools=at % 5 == 0) for at in range(150)]
    several += [Conversation((Q, A), None, "verifiable", "4"), PAIR]
    found = agree(coder(name), several)
    assert found.lengths.sum() > 1000
    plain, _ = coder(name)._chats.encode_plain(*rows(several))
    alone = [
        one.kind == "conversation" and not (one.tools or any(t.fields or t.branch for t in one.turns))
        for one in several
    ]
    assert not (plain & ~np.array(alone)).any()
    # but for contents that print nothing; Qwen3's template looks at contents
    assert plain.sum() >= 0.9 * sum(alone) if name in layouts.FIVE else name == "generation" or not plain.any()


BLANK = "\t\x1c \x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000"


@pytest.mark.parametrize("name", ["Qwen2.5", "Llama 3"])
def test_white_space_around_contents(name):
    odd = [BLANK, f"{BLANK}x{BLANK}", "\u200bx\u200b", "\u3001x\u3001", "é", "x\u0085", " ", "<think>", "\u2030"]
    several = [Conversation((Turn("user", one), Turn("assistant", two))) for one in odd for two in odd]
    strips = name == "Llama 3"
    agree(coder(name), several, [not (strips and (not a.strip() or not b.strip())) for a in odd for b in odd])


def test_contents_without_a_byte_are_left_to_python():
    empty = Conversation((Turn("user", "a"), Turn("assistant", "")))
    agree(coder("LLaDA"), [Conversation((Q, A)), empty, Conversation((Q, A))], [True, False, True])
    agree(coder("LLaDA"), [empty], [False])
    agree(coder("LLaDA"), [])


def test_tokens_that_assistants_spell():
    words = ["<think>", "</think>", "<think", "x", "<|im_end|>", " ", "<<think>"]
    rng = random.Random(5)
    contents = ["".join(rng.choices(words, k=rng.randint(1, 6))) for _ in range(400)]
    several = [
        Conversation((Turn("user", a), Turn("assistant", b))) for a, b in zip(contents, contents[::-1], strict=True)
    ]
    own = coder("Qwen3", template=layouts.template("Qwen2.5"))
    found = agree(own, several, [True] * len(several))
    spelled = sum(one.turns[1].content.count(word) for one in several for word in ("<think>", "</think>"))
    ids = own._chats._ids
    assert np.isin(found.tokens, [ids["<think>"], ids["</think>"]]).sum() == spelled > 400


def test_an_eos_behind_each():
    policy = TokenizerPolicy(None, "<|endoftext|>", None, None, append_eos=True)
    found = agree(coder("Qwen2.5", policy), [Conversation((Q, A)), Conversation((Q, A), [{"a": 1}])], [True, False])
    eos = coder("Qwen2.5", policy).encoder.special_ids["eos"]
    assert (found.tokens[found.offsets[1:] - 1] == eos).all()


def test_long_conversations_and_those_that_the_template_refuses():
    most = MOST_TURNS // 2
    agree(coder("LLaDA"), [Conversation((Q, A) * most), Conversation((Q, A) * (most + 1))], [True, False])
    agree(coder("Gemma"), [Conversation((A, Q)), Conversation((Q, A))], [False, True])


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("{{ messages[0].content }}{{ messages[1].content }}", True),
        ("{{ messages[0].content | trim }}#{{ messages[1].content.strip() }}", True),
        ("{{ messages[0].content }}{{ messages[1].content.strip('x') }}", False),
        ("{{ messages[0].content }}{{ messages[1].content | upper }}", False),
        ("{{ messages[1].content }}", False),  # loses a turn
        ("{% if 'o' in messages[1].content %}{{ messages[0].content }}{% endif %}{{ messages[1].content }}", False),
        ("{{ messages[0].content }}\ud800{{ messages[1].content }}", False),
        ("{{ messages[1].content }}{{ messages[0].content }}{{ messages[1].content }}", True),
    ],
)
def test_which_templates_have_plain_conversations(source, plain):
    several = [Conversation((Q, A)), Conversation((Turn("user", " y "), Turn("assistant", "xox")))]
    agree(coder("LLaDA", template=ChatTemplate(source, {})), several, [plain] * 2)


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([False] * 9 + [True])), max_size=34), max_size=5))
def test_keys_of_shapes(conversations):
    first = np.cumsum([0, *map(len, conversations)])
    turns = [turn for turns in conversations for turn in turns]
    roles, odd = np.array([t[0] for t in turns], np.uint8), np.array([t[1] for t in turns], np.bool_)
    keys = np.empty(len(conversations), np.uint64)
    shape_keys(first.astype(np.int64), roles, odd, keys)
    for key, turns in zip(keys.tolist(), conversations, strict=True):
        if not 0 < len(turns) <= MOST_TURNS or any(is_odd for _, is_odd in turns):
            assert key == 0
        else:
            assert key == int("1" + "".join(f"{role:02b}" for role, _ in turns), 2)
    assert len(ROLES) == 4


def test_tokens_of_roles():
    rng = np.random.default_rng(1)
    tokens, roles = rng.integers(0, 9, 5000).astype(np.uint16), rng.integers(0, 5, 5000).astype(np.int8)
    answers = rng.random(5000) < 0.5
    found = tokens_of_roles(EncodedBatch(tokens, np.array([0, 5000]), answers=answers, roles=roles), 3)
    names = ("template_tokens", "system_tokens", "user_tokens", "assistant_tokens", "tool_tokens")
    assert [found[name] for name in names] == [int((roles == code).sum()) for code in range(5)]
    assert found["answer_tokens"] == answers.sum()
    assert found["answer_eos_tokens"] == (answers & (tokens == 3)).sum()


def test_spans_of_slices_begin_where_the_slice_does():
    _, turns = rows([Conversation((Q, A))])
    assert turn_spans(turns.column("turns")).starts.tolist() == [0, 6]
