"""Shapes people keep conversations in, and what is none."""

import json
from typing import Any

import pytest

from tokenmill.pipeline.chat.conversation import Conversation, Turn, message_of
from tokenmill.pipeline.chat.messages import RefusedError
from tokenmill.pipeline.chat.shapes import ANY_SHAPE, Shape, conversation_of

ASK, REPLY = {"role": "user", "content": "Two and two?"}, {"role": "assistant", "content": "Four."}
SYSTEM = {"role": "system", "content": "Be short."}
DIALOGUE = (Turn("user", "Two and two?"), Turn("assistant", "Four."))
CALL = {"type": "function", "function": {"name": "add", "arguments": {"b": 2, "a": 2}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


def told(role: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [ASK, REPLY]},
        {"messages": json.dumps([ASK, REPLY]), "id": 7},
        {"messages": {"role": ["user", "assistant"], "content": ["Two and two?", "Four."]}},
        {"messages": [told("user", [{"type": "text", "text": "Two and "}, {"type": "text", "text": "two?"}]), REPLY]},
        {"messages": [told("user", "Two and two?", name=None, tool_calls=None), REPLY], "chosen": None},
        {"messages": [ASK, REPLY], "answer": "4"},  # of an answered question `answer` says nothing new
        {"conversations": [{"from": "human", "value": "Two and two?"}, {"from": "gpt", "value": "Four."}]},
        {"conversations": [ASK, REPLY], "system": ""},
        {"instruction": "Two and two?", "input": "", "output": "Four."},
        {"instruction": "Two and two?", "input": None, "output": "Four.", "history": []},
        {"prompt": "Two and two?", "response": "Four."},
        {"prompt": "Two and two?", "completion": "Four.", "response": None},
        {"prompt": [ASK], "completion": [REPLY]},
        {"question": "Two and two?", "answer": "Four."},
        {"messages": [told("user", "Two and\x00 two?"), REPLY]},  # as everywhere, control characters go
    ],
)
def test_a_dialogue_in_every_shape(record: dict[str, Any]):
    assert conversation_of(record, ANY_SHAPE) == Conversation(DIALOGUE)


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"messages": [{"role": "developer", "content": "Be short."}, ASK, REPLY]}, [SYSTEM, ASK, REPLY]),
        ({"messages": [SYSTEM, ASK, REPLY], "system": "not this"}, [SYSTEM, ASK, REPLY]),
        ({"conversations": [ASK, REPLY], "system": "Be short."}, [SYSTEM, ASK, REPLY]),
        ({"prompt": "Two and two?", "response": "Four.", "system": "Be short."}, [SYSTEM, ASK, REPLY]),
        (
            {"instruction": "Add.", "input": "2 2", "output": "4", "system": "Be short.", "history": [["a", "b"]]},
            [SYSTEM, told("user", "a"), told("assistant", "b"), told("user", "Add.\n2 2"), told("assistant", "4")],
        ),
        (
            {"messages": [ASK, told("assistant", "Four.", reasoning_content="2 + 2")]},
            [ASK, told("assistant", "<think>\n2 + 2\n</think>\n\nFour.")],
        ),
        (
            {"messages": [ASK, told("assistant", "<think>x</think>Four.", reasoning="x")]},
            [ASK, told("assistant", "<think>x</think>Four.")],
        ),
        (
            {"messages": [ASK, told("assistant", None, tool_calls=[CALL]), told("tool", "", tool_call_id="1"), REPLY]},
            [ASK, told("assistant", "", tool_calls=[CALL]), told("tool", "", tool_call_id="1"), REPLY],
        ),
        (  # arguments in JSON are an object; the call may end the conversation
            {
                "messages": [
                    ASK,
                    told("assistant", "", tool_calls=[{"function": {"name": "add", "arguments": '{"b": 2, "a": 2}'}}]),
                ]
            },
            [
                ASK,
                told("assistant", "", tool_calls=[{"function": {"name": "add", "arguments": {"b": 2, "a": 2}}}]),
            ],
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "Two and two?"},
                    {"from": "function_call", "value": '{"name": "add", "arguments": {"b": 2, "a": 2}}'},
                    {"from": "observation", "value": "4"},
                    {"from": "gpt", "value": "Four."},
                ]
            },
            [ASK, told("assistant", "", tool_calls=[CALL]), told("tool", "4"), REPLY],
        ),
        (  # calls in the text, as Hermes has them
            {"messages": [ASK, told("assistant", "<tool_call>{}</tool_call>"), told("tool", "4"), REPLY]},
            [ASK, told("assistant", "<tool_call>{}</tool_call>"), told("tool", "4"), REPLY],
        ),
    ],
)
def test_turns_as_a_template_sees_them(record: dict[str, Any], turns: list[dict[str, Any]]):
    found = conversation_of(record, ANY_SHAPE)
    assert [message_of(turn) for turn in found.turns] == turns
    # the order of keys is what a template writes
    assert [json.dumps(message_of(turn)) for turn in found.turns] == [json.dumps(turn) for turn in turns]


@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL])])
def test_tools(tools: Any):
    assert conversation_of({"messages": [ASK, REPLY], "tools": tools}, ANY_SHAPE).tools == [TOOL]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Two and two?", "chosen": "Four.", "rejected": "Five."},
        {"prompt": [ASK], "chosen": [REPLY], "rejected": [told("assistant", "Five.")]},
        {"chosen": [ASK, REPLY], "rejected": [ASK, told("assistant", "Five.")]},
        {"prompt": "Two and two?", "chosen": [ASK, REPLY], "rejected": [ASK, told("assistant", "Five.")]},
    ],
)
def test_preference(record: dict[str, Any]):
    found = conversation_of(record, ANY_SHAPE)
    assert found.kind == "preference"
    assert found.turns == (
        DIALOGUE[0],
        Turn("assistant", "Four.", "chosen"),
        Turn("assistant", "Five.", "rejected"),
    )


def test_branches_may_go_on_for_several_turns():
    more = [told("user", "Sure?"), told("assistant", "Yes.")]
    found = conversation_of({"chosen": [ASK, REPLY, *more], "rejected": [ASK, REPLY, more[0], REPLY]}, ANY_SHAPE)
    assert [turn.branch for turn in found.turns] == [None, None, None, "chosen", "rejected"]


@pytest.mark.parametrize(
    ("record", "shape"),
    [
        ({"prompt": "Two and two?", "answer": "4", "checker": "number"}, ANY_SHAPE),
        ({"messages": [ASK], "answer": 4, "checker": "number"}, ANY_SHAPE),
        ({"question": "Two and two?", "answer": "4", "checker": "number"}, Shape("verifiable")),
        ({"prompt": [ASK], "messages": [ASK, REPLY], "answer": "4", "checker": "number"}, Shape("verifiable")),
        (
            {"problem": "Two and two?", "final": "4", "checker": "number", "answer": "by addition"},
            Shape("verifiable", {"prompt": "problem", "answer": "final"}),
        ),
    ],
)
def test_verifiable(record: dict[str, Any], shape: Shape):
    expected = Conversation((DIALOGUE[0],), kind="verifiable", answer="4", checker="number")
    assert conversation_of(record, shape) == expected


def test_the_recipe_names_keys_and_roles():
    shape = Shape("messages", {"messages": "dialog"}, {"Doctor": "assistant"})
    assert conversation_of({"dialog": [ASK, told("Doctor", "Four.")], "messages": 3}, shape).turns == DIALOGUE


@pytest.mark.parametrize(
    ("reason", "detail", "record"),
    [
        ("chat.unknown_shape", "text", {"text": "Four."}),
        ("chat.unknown_shape", "messages", {"text": "Four.", "messages": None}),
        ("chat.ambiguous_shape", "messages", {"messages": [ASK, REPLY], "chosen": "a", "rejected": "b"}),
        ("chat.not_a_list", "of type str", {"messages": "Four."}),
        ("chat.not_a_list", "item 0 of `history`", {"instruction": "a", "output": "b", "history": ["a", "b"]}),
        ("chat.not_an_object", "turn 1 is of type str", {"messages": [ASK, "Four."]}),
        ("chat.no_turns", "no turns", {"messages": []}),
        ("chat.no_turns", "system turn alone", {"messages": [SYSTEM]}),
        ("chat.unknown_role", "turn 0 has the role 'narrator'", {"messages": [told("narrator", "x"), ASK, REPLY]}),
        ("chat.unknown_role", "turn 0 has the role None", {"messages": [{"content": "x"}]}),
        ("chat.role_order", "turn 0 is assistant's", {"messages": [REPLY, ASK, REPLY]}),
        ("chat.role_order", "turn 1 is assistant's, after system's", {"messages": [SYSTEM, REPLY]}),
        ("chat.role_order", "turn 1 is system's", {"messages": [ASK, SYSTEM, REPLY]}),
        ("chat.role_order", "turn 1 is user's, after user's", {"messages": [ASK, ASK, REPLY]}),
        ("chat.role_order", "turn 2 is assistant's, after an answer", {"messages": [ASK, REPLY, REPLY]}),
        ("chat.role_order", "turn 2 is tool's, after an answer", {"messages": [ASK, REPLY, told("tool", "4"), REPLY]}),
        (
            "chat.role_order",
            "turn 2 is user's, after an answer that calls a tool",
            {"messages": [ASK, told("assistant", None, tool_calls=[CALL]), ASK, REPLY]},
        ),
        ("chat.no_answer", "the last turn, 0, is user's", {"messages": [ASK]}),
        ("chat.no_answer", "the last turn, 2, is user's", {"messages": [ASK, REPLY, ASK]}),
        ("chat.empty_answer", "turn 1 is empty", {"messages": [ASK, told("assistant", " \n\x07")]}),
        ("chat.empty_answer", "turn 1 is empty", {"messages": [ASK, told("assistant", None)]}),
        ("chat.empty_answer", "turn 1 is empty", {"instruction": "a", "output": ""}),
        ("chat.empty_turn", "turn 0 is empty", {"messages": [told("user", ""), REPLY]}),
        ("chat.not_a_string", "turn 0 is of type int", {"messages": [told("user", 4), REPLY]}),
        ("chat.not_a_string", "image_url", {"messages": [told("user", [{"type": "image_url"}]), REPLY]}),
        ("chat.not_a_string", "`output` is of type int", {"instruction": "a", "output": 4}),
        ("chat.bad_tool_call", "turn 1", {"messages": [ASK, told("assistant", "", tool_calls=["add"])]}),
        ("chat.bad_tool_call", "turn 1", {"conversations": [ASK, {"from": "function_call", "value": "add(2)"}]}),
        ("chat.bad_tools", "of type str", {"messages": [ASK, REPLY], "tools": "add"}),
        ("chat.no_prompt", "`chosen` is a reply", {"chosen": "a", "rejected": "b"}),
        ("chat.chosen_is_rejected", "the same", {"prompt": "a", "chosen": "b", "rejected": "b"}),
        ("chat.empty_answer", "rejected: turn 1", {"prompt": "a", "chosen": "b", "rejected": ""}),
        (
            "chat.different_prompts",
            "differ at turn 0",
            {"chosen": [ASK, REPLY], "rejected": [told("user", "?"), REPLY]},
        ),
        ("chat.answered_prompt", "the last turn, 1, is assistant's", {"prompt": [ASK, REPLY], "answer": "4"}),
        ("chat.empty_answer", "`answer`", {"prompt": "a", "answer": ""}),
    ],
)
def test_what_is_no_conversation(reason: str, detail: str, record: dict[str, Any]):
    with pytest.raises(RefusedError) as caught:
        conversation_of(record, ANY_SHAPE)
    assert caught.value.reason == reason
    assert detail in caught.value.detail
