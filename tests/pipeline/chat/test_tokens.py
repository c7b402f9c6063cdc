"""Token ids, roles and answers of conversations, held against `transformers` and against roles character by character."""

import copy
import functools
import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.pipeline.chat import chats, layouts
from tests.pipeline.tokens.sentence_tokenizers import added
from tokenmill.pipeline.chat.conversation import Conversation, Turn
from tokenmill.pipeline.chat.plan import ASSISTANT, CODES, TEMPLATE, TOOL, USER
from tokenmill.pipeline.chat.template import ChatTemplate
from tokenmill.pipeline.chat.tokens import ChatEncoder, EncodedChats
from tokenmill.pipeline.tokens.encode import TokenizerPolicy

BARE = TokenizerPolicy(None, None, None, None, append_eos=False)
Spans = tuple[list[int], list[int], list[bool]]


@functools.cache
def encoder(name: str) -> ChatEncoder:
    return ChatEncoder(layouts.tokenizer_json(name), layouts.template(name), BARE)


def peer(tokenizer_json: bytes, template: ChatTemplate) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template.source, **template.special_tokens)


def of(found: EncodedChats, number: int) -> Spans:
    at = slice(found.offsets[number], found.offsets[number + 1])
    return found.tokens[at].tolist(), found.roles[at].tolist(), found.answers[at].tolist()


def marked(conversation: Conversation) -> tuple[Conversation, dict[str, int]]:
    """The same with each character of a content another that only its turn has, white space for white space."""
    owners: dict[str, int] = {}
    turns = []
    for number, turn in enumerate(conversation.turns):
        blank, other = chr(0x2000 + number), chr(0xF0000 + number)
        owners |= {blank: number, other: number}
        content = "".join(blank if character.isspace() else other for character in turn.content)
        turns.append(turn._replace(content=content))
    return conversation._replace(turns=tuple(turns)), owners


def obvious(tokenizer: Tokenizer, template: ChatTemplate, conversation: Conversation, end: str) -> Spans:
    """Ids, roles and answers of a conversation whose contents spell no control token and that calls no tool.

    Each character of the rendering is some turn's, or the template's; an assistant's last is followed by `end`.
    """
    text, (other, owners) = template.render(conversation), marked(conversation)
    places = [owners.get(character) for character in template.render(other)]
    assert len(places) == len(text)
    roles = [TEMPLATE if place is None else CODES[conversation.turns[place].role] for place in places]
    answers = [role == ASSISTANT for role in roles]
    for at in range(1, len(text)):
        if roles[at] == TEMPLATE and roles[at - 1] == ASSISTANT:
            assert text.startswith(end, at)
            answers[at : at + len(end)] = [True] * len(end)
    encoding = tokenizer.encode(text, add_special_tokens=False)
    mine = [slice(start, max(stop, start + 1)) for start, stop in encoding.offsets]
    return (
        encoding.ids,
        [next((role for role in roles[at] if role), TEMPLATE) for at in mine],
        [any(answers[at]) for at in mine],
    )


@pytest.mark.parametrize("name", layouts.FIVE)
def test_spans_are_right_to_the_token_in_5000_conversations(name):
    template, rng = layouts.template(name), random.Random(name)
    tokenizer = Tokenizer.from_str(layouts.tokenizer_json(name).decode())
    conversations = [chats.conversation(rng, plain=True) for _ in range(1000)]
    found = encoder(name).encode(conversations)
    assert set(found.reasons) == {None}
    for number, conversation in enumerate(conversations):
        assert of(found, number) == obvious(tokenizer, template, conversation, layouts.END[name])


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_ids_are_those_of_transformers(name):
    rng = random.Random(3)
    tokenizer = peer(layouts.tokenizer_json(name), layouts.template(name))
    conversations = [
        chats.conversation(rng, reasoning=name == "Qwen3", tools=name == "Qwen2.5", plain=True) for _ in range(150)
    ]
    found = encoder(name).encode(conversations)
    for number, one in enumerate(conversations):
        expected = tokenizer.apply_chat_template(chats.messages(one), tools=one.tools, tokenize=True, return_dict=True)
        assert of(found, number)[0] == expected["input_ids"]


def test_the_mask_is_that_of_transformers():
    rng = random.Random(8)
    tokenizer = peer(layouts.tokenizer_json("generation"), layouts.template("generation"))
    conversations = [chats.conversation(rng, plain=True) for _ in range(200)]
    found = encoder("generation").encode(conversations)
    for number, one in enumerate(conversations):
        expected = tokenizer.apply_chat_template(
            chats.messages(one), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, _, answers = of(found, number)
        assert (ids, answers) == (expected["input_ids"], [one == 1 for one in expected["assistant_masks"]])


def shown(name: str, conversation: Conversation, found: Spans | None = None) -> list[tuple[str, int, bool]]:
    """Runs of tokens of one role and answer, as text."""
    tokenizer = Tokenizer.from_str(layouts.tokenizer_json(name).decode())
    runs: list[tuple[list[int], int, bool]] = []
    for token, role, answer in zip(*(found or of(encoder(name).encode([conversation]), 0)), strict=True):
        if runs and runs[-1][1:] == (role, answer):
            runs[-1][0].append(token)
        else:
            runs.append(([token], role, answer))
    return [(tokenizer.decode(ids, skip_special_tokens=False), role, answer) for ids, role, answer in runs]


def test_a_call_of_a_tool_is_an_answer():
    call = {"type": "function", "function": {"name": "find", "arguments": {"q": "x"}}}
    turns = (
        Turn("user", "Q"),
        Turn("assistant", "", None, {"tool_calls": [call]}),
        Turn("tool", "R"),
        Turn("assistant", "A"),
    )
    assert shown("Qwen2.5", Conversation(turns))[3:] == [
        ("<|im_end|>\n<|im_start|>assistant", TEMPLATE, False),
        ('\n<tool_call>\n{"name": "', TEMPLATE, False),
        ("find", ASSISTANT, True),
    ] or shown("Qwen2.5", Conversation(turns))


def test_what_thinking_prints_is_an_answer():
    turns = (Turn("user", "Q"), Turn("assistant", "<think>\nhm\n</think>\n\nA"))
    assert shown("Qwen3", Conversation(turns))[-5:] == [
        ("<|im_end|>\n<|im_start|>assistant\n", TEMPLATE, False),
        ("<think>\n", TEMPLATE, True),
        ("hm", ASSISTANT, True),
        ("\n</think>\n\n", TEMPLATE, True),
        ("A", ASSISTANT, True),
    ] or shown("Qwen3", Conversation(turns))
