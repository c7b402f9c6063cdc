"""Messages as people keep them → turns: names of roles, content in pieces, reasoning apart, calls of tools.

A message is OpenAI's `{role, content, …}` or ShareGPT's `{from, value}`. Of its other fields a turn keeps `tool_calls`,
`name` and `tool_call_id`, in the order of their keys; a null (Parquet has one in every field that some row has) is no
field.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenmill.pipeline.chat.conversation import Turn
from tokenmill.pipeline.extraction.encoding import clean

#: Names that roles go by.
ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",  # ShareGPT: the value is the call
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
}
_REASONING = ("reasoning_content", "reasoning", "thinking")
_KEPT = ("name", "tool_call_id")
#: By which an answer calls a tool in its text, as Hermes' and Qwen's do.
TEXT_CALL = "<tool_call>"


class RefusedError(Exception):
    """A record is no conversation.

    Attributes:
        reason: short, without spaces, such as "chat.role_order".
        detail: what is wrong with which turn, for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def turns_of(messages: Any, roles: Mapping[str, str] = ROLES, branch: str | None = None) -> list[Turn]:
    """The turns of a list of messages.

    Args:
        messages: a list, or its JSON.
        roles: role by the name that the data has for it.
        branch: of a preference pair.

    Raises:
        RefusedError: chat.not_a_list, chat.not_an_object, chat.unknown_role, chat.not_a_string, chat.bad_tool_call.
    """
    if isinstance(messages, str):
        messages = _parsed(messages)
    if isinstance(messages, dict) and messages and all(isinstance(column, list) for column in messages.values()):
        # older `datasets` keep a list of structs as a struct of lists
        messages = [dict(zip(messages, row, strict=True)) for row in zip(*messages.values(), strict=False)]
    if not isinstance(messages, list):
        raise RefusedError("chat.not_a_list", f"the messages are {_kind(messages)}")
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        if type(message) is dict and len(message) == 2:  # most are: a role and a string
            name, content = message.get("role"), message.get("content")
            role = roles.get(name) if type(name) is str else None
            if role is not None and type(content) is str and name != "function_call":
                turns.append(Turn(role, clean(content), branch))
                continue
        turns.append(_turn(message, index, roles, branch))
    return turns


def _turn(message: Any, index: int, roles: Mapping[str, str], branch: str | None) -> Turn:
    if not isinstance(message, dict):
        raise RefusedError("chat.not_an_object", f"turn {index} is {_kind(message)}")
    name = message.get("role")
    content = message.get("content")
    if name is None:
        name, content = message.get("from"), message.get("value", content)
    role = roles.get(name) if isinstance(name, str) else None
    if role is None:
        raise RefusedError("chat.unknown_role", f"turn {index} has the role {name!r}; known are {', '.join(roles)}")
    fields = {key: message[key] for key in _KEPT if message.get(key) is not None}
    calls = message.get("tool_calls") or message.get("function_call")
    if name == "function_call":
        calls, content = content, None
    if calls:
        fields["tool_calls"] = _calls(calls, index)
    text = clean(_text(content, index))
    if role == "assistant":
        text = _with_reasoning(message, text)
    return Turn(role, text, branch, fields or None)


def _text(content: Any, index: int) -> str:
    """The text of a message's content: a string, none, or pieces of text, which follow one another."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise RefusedError("chat.not_a_string", f"the content of turn {index} is {_kind(content)}")
    pieces: list[str] = []
    for piece in content:
        text = piece.get("text") if isinstance(piece, dict) else piece
        if not isinstance(text, str):
            found = (piece.get("type") if isinstance(piece, dict) else None) or repr(piece)
            raise RefusedError("chat.not_a_string", f"the content of turn {index} has a piece that is {found}")
        pieces.append(text)
    return "".join(pieces)


def _with_reasoning(message: Mapping[str, Any], text: str) -> str:
    """The answer with the reasoning at its head, where that was given in a field of its own."""
    for key in _REASONING:
        reasoning = message.get(key)
        if isinstance(reasoning, str) and reasoning.strip() and not text.lstrip().startswith("<think>"):
            return f"<think>\n{clean(reasoning)}\n</think>\n\n{text}"
    return text


def _calls(calls: Any, index: int) -> list[Any]:
    """Calls in OpenAI's form: a list of `{"type": "function", "function": {"name", "arguments"}}`.

    Arguments that are the JSON of an object become that object: a template writes them as JSON, and would write a
    string's quotes again.
    """
    if isinstance(calls, str):
        calls = _parsed(calls)
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list) or not calls:
        raise RefusedError("chat.bad_tool_call", f"the calls of turn {index} are {_kind(calls)}")
    return [_call(call, index) for call in calls]


def _call(call: Any, index: int) -> dict[str, Any]:
    if isinstance(call, dict):
        told = {key: value for key, value in call.items() if value is not None}
        if "function" not in told:
            told = {"type": "function", "function": told}
        function = told["function"]
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            function = {key: value for key, value in function.items() if value is not None}
            arguments = function.get("arguments")
            if isinstance(arguments, str):
                parsed = _parsed(arguments)
                function["arguments"] = parsed if isinstance(parsed, dict) else arguments
            return {**told, "function": function}
    raise RefusedError("chat.bad_tool_call", f"a call of turn {index} names no function")


def tools_of(value: Any) -> list[Any] | None:
    """Schemas of tools: a list, or its JSON. Raises RefusedError (chat.bad_tools) for anything else."""
    if value is None or value == "":
        return None
    tools = _parsed(value) if isinstance(value, str) else value
    if not isinstance(tools, list):
        raise RefusedError("chat.bad_tools", f"the tools are {_kind(tools)}")
    return tools or None


def check_order(turns: Sequence[Turn], prompt_only: bool = False) -> None:
    """Refuse turns that no dialogue has.

    A system turn comes first or not at all; then the user's; an answer follows the user or a tool; a tool follows an
    answer that calls it, or another tool; the last turn is an answer. An answer is not empty, unless it calls tools.

    Args:
        turns: of a dialogue.
        prompt_only: the last turn is the user's, or a tool's.

    Raises:
        RefusedError: chat.no_turns, chat.role_order, chat.empty_turn, chat.empty_answer, chat.no_answer,
            chat.answered_prompt.
    """
    before = "start"
    for index, turn in enumerate(turns):
        role = turn.role
        if role not in AFTER[before]:
            raise RefusedError("chat.role_order", f"turn {index} is {role}'s, after {_DESCRIBED[before]}")
        before = role
        if role == "assistant":
            calls = turn.fields is not None and "tool_calls" in turn.fields
            if calls:
                before = "call"
            elif not turn.content or turn.content.isspace():
                raise RefusedError("chat.empty_answer", f"turn {index} is empty")
            elif TEXT_CALL in turn.content:
                before = "text call"
        elif role == "user" and (not turn.content or turn.content.isspace()):
            raise RefusedError("chat.empty_turn", f"turn {index} is empty")
    if before in ("start", "system"):
        raise RefusedError("chat.no_turns", "it has no turns" if before == "start" else "it has a system turn alone")
    answered = before in ("assistant", "call", "text call")
    if answered == prompt_only:
        name = "chat.answered_prompt" if prompt_only else "chat.no_answer"
        raise RefusedError(name, f"the last turn, {len(turns) - 1}, is {turns[-1].role}'s")


#: Roles that may follow a turn: by its role, or "call" and "text call" of an answer that calls a tool.
AFTER: Mapping[str, tuple[str, ...]] = {
    "start": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "call": ("tool",),
    "text call": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
_DESCRIBED: Mapping[str, str] = {
    "start": "nothing",
    "system": "system's",
    "user": "user's",
    "assistant": "an answer",
    "call": "an answer that calls a tool",
    "text call": "an answer that calls a tool",
    "tool": "tool's",
}


def _parsed(text: str) -> Any:
    """What a string is the JSON of; itself if of nothing."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _kind(value: Any) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"
