"""The shapes people keep conversations in → `Conversation`, or why a record is none.

| shape | keys |
|---|---|
| messages | `messages`: OpenAI's; `tools` beside them |
| sharegpt | `conversations`: `{from, value}`; `system`, `tools` beside them |
| alpaca | `instruction`, `input` (a line of its own behind it), `output`; `system`, `history` (pairs of strings) |
| prompt_response | `prompt` and `response` or `completion`; `question` and `answer` or `response`; `system` |
| preference | `chosen` and `rejected`: whole conversations or replies to `prompt`, messages or a string; `system` |
| verifiable | `prompt` or `messages` that end with the user, and `answer`; `checker`, `system`; told: also `question` |

A record's keys tell its shape; where they would do for two, only the recipe can (`chat: {shape: …}`). Messages that
end with an answer are a conversation, whatever key `answer` stands beside them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from tokenmill.pipeline.chat.conversation import Conversation, Turn
from tokenmill.pipeline.chat.messages import ROLES, RefusedError, check_order, tools_of, turns_of
from tokenmill.pipeline.extraction.encoding import clean

#: Raised when a record becomes another conversation.
VERSION = 1


class Form(NamedTuple):
    """A shape and the keys that it is told by."""

    shape: str
    keys: tuple[str, ...]


#: How each shape may be told.
FORMS = (
    Form("messages", ("messages",)),
    Form("sharegpt", ("conversations",)),
    Form("alpaca", ("instruction", "output")),
    Form("prompt_response", ("prompt", "response")),
    Form("prompt_response", ("prompt", "completion")),
    Form("prompt_response", ("question", "response")),
    Form("prompt_response", ("question", "answer")),
    Form("preference", ("chosen", "rejected")),
    Form("verifiable", ("prompt", "answer")),
)
#: How a shape may be told besides where the recipe names it.
_TOLD = (Form("verifiable", ("messages", "answer")), Form("verifiable", ("question", "answer")))
SHAPES = tuple(dict.fromkeys(form.shape for form in FORMS))
#: Keys that the recipe may give other names.
COLUMNS = (
    *("messages", "conversations", "instruction", "input", "output", "prompt", "question", "response", "completion"),
    *("chosen", "rejected", "answer", "checker", "system", "history", "tools", "id"),
)


@dataclass(frozen=True)
class Shape:
    """How records are to be read.

    Attributes:
        shape: one of SHAPES; None: each record's keys tell.
        columns: keys of the data by our names for them.
        roles: roles by the data's names for them, beside ROLES.
    """

    shape: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def all_roles(self) -> Mapping[str, str]:
        """Roles by every name known."""
        return {**ROLES, **self.roles}

    def named(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record by our names for its keys."""
        if not self.columns:
            return record
        taken = {name: record.get(key) for name, key in self.columns.items()}
        theirs = set(self.columns.values())
        return {**{key: value for key, value in record.items() if key not in theirs}, **taken}


#: Each record's keys tell.
ANY_SHAPE = Shape()


def conversation_of(record: Mapping[str, Any], shape: Shape) -> Conversation:
    """The conversation that a record holds.

    Raises:
        RefusedError: with a short reason, and for people which turn is wrong, and how.
    """
    record = shape.named(record)
    form = _form(record, shape)
    turns = _READ[form.shape](record, form, shape)
    tools = tools_of(record.get("tools"))
    if form.shape == "preference":
        return Conversation(turns, tools, "preference")
    if form.shape != "verifiable":
        verifiable = form.shape == "messages" and record.get("answer") is not None and turns[-1:] != ()
        if not (verifiable and turns[-1].role in ("user", "tool")):
            check_order(turns)
            return Conversation(turns, tools)
    check_order(turns, prompt_only=True)
    answer = _answer(record["answer"])
    checker = record.get("checker")
    return Conversation(turns, tools, "verifiable", answer, None if checker is None else clean(str(checker)))


@lru_cache(maxsize=1024)
def _forms(shape: str | None, keys: tuple[str, ...]) -> list[Form]:
    """What a record with these keys may be."""
    known = FORMS if shape is None else [form for form in (*FORMS, *_TOLD) if form.shape == shape]
    return [form for form in known if all(key in keys for key in form.keys)]


def _form(record: Mapping[str, Any], shape: Shape) -> Form:
    found = _forms(shape.shape, tuple(key for key, value in record.items() if value is not None))
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        if shape.shape == "verifiable" and found[0].keys[0] == "prompt":
            return found[0]
        told = ", ".join(f"{form.shape} ({', '.join(form.keys)})" for form in found)
        raise RefusedError("chat.ambiguous_shape", f"it may be {told}: say which, `chat: {{shape: …, columns: …}}`")
    keys = ", ".join(map(str, list(record)[:20]))
    raise RefusedError("chat.unknown_shape", f"no shape has just these keys (not null): {keys}")


def _messages(record: Mapping[str, Any], form: Form, shape: Shape) -> tuple[Turn, ...]:
    turns = turns_of(record[form.keys[0]], shape.all_roles)
    return (*_system(record, turns), *turns)


def _system(record: Mapping[str, Any], turns: "list[Turn] | tuple[Turn, ...]" = ()) -> tuple[Turn, ...]:
    """The system turn of a record that has its prompt apart, unless the turns bring their own."""
    text = record.get("system")
    if text is None or (turns and turns[0].role == "system"):
        return ()
    told = _string(text, "system")
    return (Turn("system", told),) if told.strip() else ()


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RefusedError("chat.not_a_string", f"`{name}` is of type {type(value).__name__}")
    return clean(value)


def _alpaca(record: Mapping[str, Any], form: Form, shape: Shape) -> tuple[Turn, ...]:
    turns = [*_system(record)]
    history = record.get("history")
    if not isinstance(history, list | None):
        raise RefusedError("chat.not_a_list", f"`history` is of type {type(history).__name__}")
    for index, pair in enumerate(history or ()):
        if not (isinstance(pair, list) and len(pair) == 2):
            raise RefusedError("chat.not_a_list", f"item {index} of `history` is no pair of question and answer")
        turns += [Turn("user", _string(pair[0], "history")), Turn("assistant", _string(pair[1], "history"))]
    told, given = _string(record["instruction"], "instruction"), record.get("input")
    more = "" if given is None else _string(given, "input")
    turns += [
        Turn("user", f"{told}\n{more}" if more.strip() else told),
        Turn("assistant", _string(record["output"], "output")),
    ]
    return tuple(turns)


def _prompt_response(record: Mapping[str, Any], form: Form, shape: Shape) -> tuple[Turn, ...]:
    prompt, response = form.keys
    return (*_prompt(record, prompt, shape), *_reply(record[response], response, shape))


def _prompt(record: Mapping[str, Any], name: str, shape: Shape) -> tuple[Turn, ...]:
    value = record[name]
    if isinstance(value, str):
        return (*_system(record), Turn("user", clean(value)))
    turns = turns_of(value, shape.all_roles)
    return (*_system(record, turns), *turns)


def _reply(value: Any, name: str, shape: Shape, branch: str | None = None) -> tuple[Turn, ...]:
    if isinstance(value, list):
        return tuple(turns_of(value, shape.all_roles, branch))
    return (Turn("assistant", _string(value, name), branch),)


def _verifiable(record: Mapping[str, Any], form: Form, shape: Shape) -> tuple[Turn, ...]:
    return _prompt(record, form.keys[0], shape)


def _answer(value: Any) -> str:
    """What can be checked: a string, or the JSON of something else."""
    answer = clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    if not answer.strip():
        raise RefusedError("chat.empty_answer", "`answer` is empty")
    return answer


def _preference(record: Mapping[str, Any], form: Form, shape: Shape) -> tuple[Turn, ...]:
    chosen, rejected = (_branch(record, name, shape) for name in form.keys)
    shared, least = 0, min(len(chosen), len(rejected)) - 1
    while shared < least and chosen[shared] == rejected[shared]:
        shared += 1
    if chosen == rejected:
        raise RefusedError("chat.chosen_is_rejected", "both replies are the same")
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        try:
            check_order(turns)
        except RefusedError as error:
            raise RefusedError(error.reason, f"{name}: {error.detail}") from error
    if chosen[shared].role != "assistant" or rejected[shared].role != "assistant":
        raise RefusedError("chat.different_prompts", f"the prompts differ at turn {shared}")
    replies = zip(form.keys, (chosen, rejected), strict=True)
    return (*chosen[:shared], *(turn._replace(branch=name) for name, turns in replies for turn in turns[shared:]))


def _branch(record: Mapping[str, Any], name: str, shape: Shape) -> tuple[Turn, ...]:
    """The whole conversation of a branch: a list that begins with system or user is one, anything else a reply."""
    reply = _reply(record[name], name, shape)
    if reply and reply[0].role in ("system", "user"):
        return (*_system(record, reply), *reply)
    if record.get("prompt") is None:
        raise RefusedError("chat.no_prompt", f"`{name}` is a reply, and there is no `prompt`")
    return (*_prompt(record, "prompt", shape), *reply)


_READ = {
    "messages": _messages,
    "sharegpt": _messages,
    "alpaca": _alpaca,
    "prompt_response": _prompt_response,
    "preference": _preference,
    "verifiable": _verifiable,
}
