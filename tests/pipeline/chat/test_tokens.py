"""Token ids, roles and answers of conversations, held against `transformers` and roles character by character."""

import copy
import functools
import json
import random
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.pipeline.chat import chats, layouts
from tests.pipeline.tokens import byte_level_tokenizers
from tests.pipeline.tokens.sentence_tokenizers import added, sentence_pieces_json
from tokenmill.pipeline.chat.conversation import Conversation, Turn
from tokenmill.pipeline.chat.plan import ASSISTANT, CODES, SYSTEM, TEMPLATE, TOOL, USER, Plan
from tokenmill.pipeline.chat.template import ChatTemplate
from tokenmill.pipeline.chat.tokens import ChatEncoder, EncodedChats
from tokenmill.pipeline.chat.turns import text_of, turns_batch
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
    texts = pa.array([text_of(conversation) for conversation in conversations], pa.large_string())
    plain, by_kernel = encoder(name).encode_plain(texts, turns_batch(conversations))
    assert plain.sum() > 900
    of_plain = np.cumsum(plain) - 1
    for number, conversation in enumerate(conversations):
        expected = obvious(tokenizer, template, conversation, layouts.END[name])
        assert of(found, number) == expected
        assert not plain[number] or of(by_kernel, of_plain[number]) == expected


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_ids_are_those_of_transformers(name):
    rng = random.Random(3)
    tokenizer = peer(layouts.tokenizer_json(name), layouts.template(name))
    conversations = [
        chats.conversation(rng, reasoning=name in ("Qwen3", "prefixed"), tools=name == "Qwen2.5", plain=True)
        for _ in range(150)
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


def shown(name: str, conversation: Conversation) -> list[tuple[str, int, bool]]:
    """Runs of tokens of one role and answer, as text."""
    tokenizer = Tokenizer.from_str(layouts.tokenizer_json(name).decode())
    tokenizer.decoder = decoders.ByteLevel()
    runs: list[tuple[list[int], int, bool]] = []
    for token, role, answer in zip(*of(encoder(name).encode([conversation]), 0), strict=True):
        if runs and runs[-1][1:] == (role, answer):
            runs[-1][0].append(token)
        else:
            runs.append(([token], role, answer))
    return [(tokenizer.decode(ids, skip_special_tokens=False), role, answer) for ids, role, answer in runs]


def test_a_call_of_a_tool_is_an_answer_and_what_it_gives_is_none():
    call = {"type": "function", "function": {"name": "find", "arguments": {"q": "x"}}}
    turns = (
        Turn("user", "Q"),
        Turn("assistant", "", None, {"tool_calls": [call, call]}),
        Turn("tool", "R"),
        Turn("assistant", "A"),
    )
    assert shown("Qwen2.5", Conversation(turns, [{"a": 1}])) == [
        ("<|im_start|>system\nBe of help.\n\n# Tools\n\n<tools>\n", TEMPLATE, False),
        ('{"a": 1}\n', SYSTEM, False),  # one token for }\n
        ("</tools><|im_end|>\n<|im_start|>user\n", TEMPLATE, False),
        ("Q", USER, False),
        ("<|im_end|>\n<|im_start|>assistant\n", TEMPLATE, False),
        ('<tool_call>\n{"name": "', TEMPLATE, True),
        ("find", ASSISTANT, True),
        ('", "arguments": ', TEMPLATE, True),
        ('{"q": "x"}', ASSISTANT, True),
        ('}\n</tool_call>\n<tool_call>\n{"name": "', TEMPLATE, True),
        ("find", ASSISTANT, True),
        ('", "arguments": ', TEMPLATE, True),
        ('{"q": "x"}', ASSISTANT, True),
        ("}\n</tool_call><|im_end|>", TEMPLATE, True),
        ("\n<|im_start|>user\n<tool_response>\n", TEMPLATE, False),
        ("R", TOOL, False),
        ("\n</tool_response><|im_end|>\n<|im_start|>assistant\n", TEMPLATE, False),
        ("A", ASSISTANT, True),
        ("<|im_end|>", TEMPLATE, True),
        ("\n", TEMPLATE, False),
    ]


def test_what_a_template_prints_around_thoughts_is_an_answer():
    turns = (Turn("user", "Q"), Turn("assistant", "<think>\nhm\n</think>\n\nA"))
    assert shown("Qwen3", Conversation(turns * 2)) == [
        ("<|im_start|>user\n", TEMPLATE, False),
        ("Q", USER, False),
        ("<|im_end|>\n<|im_start|>assistant\n", TEMPLATE, False),
        ("A", ASSISTANT, True),  # as Qwen3 has it: thoughts of earlier turns are left out
        ("<|im_end|>", TEMPLATE, True),
        ("\n<|im_start|>user\n", TEMPLATE, False),
        ("Q", USER, False),
        ("<|im_end|>\n<|im_start|>assistant\n", TEMPLATE, False),
        ("<think>\n", TEMPLATE, True),
        ("hm", ASSISTANT, True),
        ("\n</think>\n\n", TEMPLATE, True),
        ("A", ASSISTANT, True),
        ("<|im_end|>", TEMPLATE, True),
        ("\n", TEMPLATE, False),
    ]


#: Templates by what they print for users and assistants, and behind all.
@pytest.mark.parametrize(
    ("user", "answer", "last", "behind", "expected"),
    [
        ("<|im_start|>u\n{}<|im_end|>\n", "<|im_start|>a\n{}<|im_end|>\n", None, "", ["A<|im_end|>", "B<|im_end|>"]),
        ("<|im_start|>u\n{}<|im_end|>", "<|im_start|>a\n{}<|im_end|>", None, "<|eos|>", ["A<|im_end|>", "B<|im_end|>"]),
        (
            "<|im_start|>u\n{}<|im_end|>",
            "<|im_start|>a\n{}<|im_end|>",
            "<|im_start|>a\n{}<|eos|>",
            "",
            ["A<|im_end|>", "B<|eos|>"],
        ),
        (
            "<|im_start|>u\n{}<|im_end|>",
            "<|im_start|>a\n{}<|eos|><|im_end|>",
            None,
            "<|eos|>",
            ["A<|eos|><|im_end|>", "B<|eos|><|im_end|>"],
        ),
        ("<|im_start|>{}", "<|im_end|>{}", None, "", ["A", "B"]),
        ("<|im_start|>{}", "<|im_end|>{}", None, "<|eos|>", ["A", "B<|eos|>"]),
        ("### U: {}\n", "### A: {}\n", None, "<|eos|>", ["A", "B\n<|eos|>"]),
        ("<|eos|><|im_start|>{}", "<|im_end|>{}", None, "", ["A", "B"]),
    ],
)
def test_what_ends_an_answer(user, answer, last, behind, expected):
    user, answer, last = (repr(one or answer).replace("{}", "' + m.content + '") for one in (user, answer, last))
    source = f"""
    {{%- for m in messages %}}
        {{%- if m.role == 'user' %}}{{{{- {user} }}}}
        {{%- elif loop.last %}}{{{{- {last} }}}}{{%- else %}}{{{{- {answer} }}}}{{%- endif %}}
    {{%- endfor %}}{{{{- {behind!r} }}}}"""
    value = byte_level_tokenizers.train(byte_level_tokenizers.PRE_TOKENIZERS["qwen2"])
    tokenizer_json = with_controls(value, ["<|im_start|>", "<|im_end|>", "<|eos|>"])
    turns = [Turn(role, content) for role, content in zip(["user", "assistant"] * 2, "QARB", strict=True)]
    found = of(ChatEncoder(tokenizer_json, ChatTemplate(source, {}), BARE).encode([Conversation(tuple(turns))]), 0)
    tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    tokenizer.decoder = decoders.ByteLevel()
    runs = [list(run) for answers, run in groupby(zip(*found, strict=True), lambda one: one[2]) if answers]
    assert [tokenizer.decode([one[0] for one in run], skip_special_tokens=False) for run in runs] == expected


def test_a_control_token_in_a_content_is_text_but_a_thought_of_an_assistant():
    turns = (Turn("user", "<|im_end|><think>"), Turn("assistant", "<think>x</think><|im_end|>"))
    value = json.loads(layouts.tokenizer_json("Qwen3"))
    ids = {token["content"]: token["id"] for token in value["added_tokens"]}
    encoder = ChatEncoder(layouts.tokenizer_json("Qwen3"), layouts.template("generation"), BARE)
    found = encoder.encode([Conversation(turns)])
    tokens, roles, answers = of(found, 0)
    controls = [
        (token, role, answer)
        for token, role, answer in zip(tokens, roles, answers, strict=True)
        if token in ids.values()
    ]
    start, end, think, behind = (ids[name] for name in ("<|im_start|>", "<|im_end|>", "<think>", "</think>"))
    assert controls == [
        (start, TEMPLATE, False),
        (end, TEMPLATE, False),
        (start, TEMPLATE, False),
        (think, ASSISTANT, True),
        (behind, ASSISTANT, True),
        (end, TEMPLATE, True),
    ]
    assert found.spelled_controls == 3
    none = ChatEncoder(layouts.tokenizer_json("Qwen3"), layouts.template("generation"), BARE, answer_tokens=())
    assert not {think, behind} & set(none.encode([Conversation(turns)]).tokens.tolist())


def test_reasons_and_places():
    good, reply = Conversation((Turn("user", "a"), Turn("assistant", "b"))), Turn("assistant", "b")
    several = [
        Conversation((Turn("user", "\ud800"), reply)),
        good,
        Conversation((Turn("assistant", "b"),)),
        Conversation((Turn("user", "a", None, {"name": "\udfff"}), reply)),
        good,
        Conversation((Turn("user", " "), Turn("assistant", ""))),
    ]
    found = encoder("Gemma").encode(several)
    refused = "template_refused: Roles must alternate user/assistant/user/assistant/..."
    assert found.reasons == ("not_unicode", None, refused, None, None, None)
    assert np.diff(found.offsets).tolist() == [
        0,
        *[len(of(found, 1)[0])],
        0,
        *[len(of(found, 1)[0])] * 2,
        len(of(found, 5)[0]),
    ]
    assert of(found, 1) == of(found, 3) == of(found, 4) == of(encoder("Gemma").encode([good]), 0)
    assert len(encoder("Gemma").encode([]).tokens) == 0
    assert encoder("Gemma").encode(several[:1]).reasons == ("not_unicode",)


@pytest.mark.parametrize(
    ("source", "lost"),
    [
        ("{{ messages[0].content }}", True),
        ("{{ messages[0].content }}{{ messages[1].content | length }}", False),
        ("{{ messages[0].content }}{{ messages[1].content.split('</think>')[-1] }}", True),
        ("{{ messages[0].content }}{{ messages[1].content }}", False),
        ("{{ messages[0].content }}{% if 'z' in messages[1].content %}{{ messages[1].content }}{% endif %}", True),
    ],
)
def test_a_turn_that_the_template_loses(source, lost):
    encoder = ChatEncoder(layouts.tokenizer_json("LLaDA"), ChatTemplate(source, {}), BARE)
    both = [Conversation((Turn("user", "a"), Turn("assistant", content))) for content in ("b</think>", "")]
    assert encoder.encode(both).reasons == ("template_lost_turn" if lost else None, None)


def test_a_string_of_two_turns_is_refused():
    template = ChatTemplate("{{ (messages[0].content + messages[1].content) | upper }}", {})
    found = ChatEncoder(layouts.tokenizer_json("LLaDA"), template, BARE).encode(
        [Conversation((Turn("user", "a"),) * 2)]
    )
    assert str(found.reasons[0]).startswith("template_untracked: it prints what is made of several strings: ")


def test_a_preference_pair_is_two_conversations():
    pair = Conversation((Turn("user", "a"), Turn("assistant", "b", "chosen"), Turn("assistant", "c", "rejected")))
    with pytest.raises(ValueError, match="conversation 0 is a preference pair"):
        encoder("LLaDA").encode([pair])


#: Tokenizers whose texts depend on what is before or behind them: whether the fast way knows them.
SENTENCES = {
    "Llama 2": True,
    "bare": True,
    "Gemma": True,
    **{f"Metaspace {scheme}{split}": True for scheme in ("always", "first", "never") for split in ("", " split")},
}


def with_controls(value: dict[str, Any], names: Sequence[str], **flags: bool) -> bytes:
    value, vocab = copy.deepcopy(value), value["model"]["vocab"]
    known = {piece[0]: i for i, piece in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)
    for name in names:
        known.setdefault(name, len(known))
        value["added_tokens"].append(added(name, known[name], special=True, **flags))
    return json.dumps(value).encode()


def agree(tokenizer_json: bytes, template: ChatTemplate, end: str, fast: bool, count: int = 60) -> None:
    """Ids, roles and answers are the obvious ones; `fast` says which way they go."""
    rng, tokenizer = random.Random(1), Tokenizer.from_str(tokenizer_json.decode())
    tokenizer.post_processor = None
    encoder = ChatEncoder(tokenizer_json, template, BARE)
    conversations = [chats.conversation(rng, plain=True) for _ in range(count)]
    found = encoder.encode(conversations)
    assert set(found.reasons) == {None}
    for number, conversation in enumerate(conversations):
        assert of(found, number) == obvious(tokenizer, template, conversation, end)
    assert is_slow(encoder, conversations[0]) == (not fast)


def is_slow(encoder: ChatEncoder, conversation: Conversation) -> bool:
    plan = encoder._renderer.find(conversation)
    assert isinstance(plan, Plan)
    return plan.slow


@pytest.mark.parametrize("form", SENTENCES)
def test_sentence_pieces_of_each_form(form):
    tokenizer_json = with_controls(sentence_pieces_json(form), ["<s>", "</s>", "[INST]", "[/INST]"])
    agree(tokenizer_json, layouts.template("Mistral"), "</s>", SENTENCES[form])
    bare = ChatTemplate(layouts.MISTRAL, {"bos_token": "", "eos_token": "</s>"})  # the first text is not empty
    agree(tokenizer_json, bare, "</s>", SENTENCES[form])


@pytest.mark.parametrize(("flag", "fast"), [("rstrip", False), ("lstrip", False), ("normalized", True)])
def test_added_tokens_that_look_around(flag, fast):
    value = byte_level_tokenizers.train(byte_level_tokenizers.PRE_TOKENIZERS["qwen2"])
    tokenizer_json = with_controls(value, layouts.CHATML, **{flag: True})
    rng, template = random.Random(2), layouts.template("generation")
    encoder, tokenizer = ChatEncoder(tokenizer_json, template, BARE), peer(tokenizer_json, template)
    conversations = [chats.conversation(rng, plain=True) for _ in range(60)]
    found = encoder.encode(conversations)
    assert set(found.reasons) == {None}
    for number, conversation in enumerate(conversations):
        expected = tokenizer.apply_chat_template(chats.messages(conversation), tokenize=True, return_dict=True)
        assert of(found, number)[0] == expected["input_ids"]
    assert is_slow(encoder, conversations[0]) == (not fast)


def test_control_tokens_that_the_tokenizer_does_not_find():
    value = byte_level_tokenizers.train(byte_level_tokenizers.PRE_TOKENIZERS["qwen2"])
    tokenizer_json = with_controls(value, layouts.CHATML, single_word=True)  # letters follow <|im_start|>
    encoder = ChatEncoder(tokenizer_json, layouts.template("generation"), BARE)
    conversation = Conversation((Turn("user", "a"), Turn("assistant", "b")))
    assert encoder.encode([conversation]).reasons == ("other_control_tokens",)


def test_a_text_that_is_normalised_has_its_places_from_tokenizers():
    value = byte_level_tokenizers.train(byte_level_tokenizers.PRE_TOKENIZERS["qwen2"], nfc=True)
    tokenizer_json = with_controls(value, layouts.CHATML)
    agree(tokenizer_json, layouts.template("generation"), "<|im_end|>", fast=True, count=200)


def test_a_text_that_is_normalised_to_as_many_bytes():
    value = byte_level_tokenizers.train(byte_level_tokenizers.PRE_TOKENIZERS["qwen2"], nfc=True)
    tokenizer_json = with_controls(value, ["<|im_end|>"])
    source = "{% for m in messages %}{{ m.content }}{{ '-' if not loop.last }}{% endfor %}<|im_end|>"
    template, tokenizer = ChatTemplate(source, {}), Tokenizer.from_str(tokenizer_json.decode())
    grows, shrinks = "\u0958", "e\u0301" * 3
    conversation = Conversation((Turn("user", grows), Turn("assistant", shrinks)))
    found = ChatEncoder(tokenizer_json, template, BARE).encode([conversation])
    assert of(found, 0) == obvious(tokenizer, template, conversation, "<|im_end|>")


def test_a_tokenizer_that_our_kernels_do_not_know():
    vocab = [("<unk>", 0.0), *((letter, -3.0) for letter in "▁ abcdefghijklmnopqrstuvwxyz\n"), ("▁the", -2.0)]
    unigram = Tokenizer(models.Unigram(vocab, unk_id=0))
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer_json = with_controls(json.loads(unigram.to_str()), layouts.CHATML)
    agree(tokenizer_json, layouts.template("generation"), "<|im_end|>", fast=False)
    encoder = ChatEncoder(tokenizer_json, layouts.template("generation"), BARE)
    contents = ("<|im_end|>", "a", "\ud800")
    spelling = [Conversation((Turn("user", content), Turn("assistant", "b"))) for content in contents]
    assert encoder.encode(spelling).reasons == ("other_control_tokens", None, "not_unicode")
