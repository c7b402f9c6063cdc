"""A conversation as everything here sees it, whatever shape it was found in."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = get_args(Role)


class Turn(NamedTuple):
    """One message.

    Attributes:
        role: one of ROLES.
        content: its text; reasoning stands in front of an answer, within <think> and </think>.
        branch: "chosen" or "rejected" of a preference pair; None of what both share and of any other conversation.
        fields: the message's other fields, as JSON has them: tool_calls, name, tool_call_id.
    """

    role: str
    content: str
    branch: str | None = None
    fields: Mapping[str, Any] | None = None


class Conversation(NamedTuple):
    """Turns in order.

    Attributes:
        turns: at least one; of a preference pair what both share, then the chosen, then the rejected turns.
        tools: JSON schemas of the tools offered; None where there are none.
        kind: "conversation", "preference" or "verifiable" (a prompt whose answer can be checked).
        answer: of a verifiable prompt: what can be checked.
        checker: how, such as "exact", "number", "math" or "code".
    """

    turns: tuple[Turn, ...]
    tools: list[Any] | None = None
    kind: str = "conversation"
    answer: str | None = None
    checker: str | None = None


def message_of(turn: Turn) -> dict[str, Any]:
    """What a chat template sees of a turn: "role", "content" and its fields, but for those that are None."""
    fields = {} if turn.fields is None else {name: value for name, value in turn.fields.items() if value is not None}
    return {"role": turn.role, "content": turn.content} | fields | {"role": turn.role, "content": turn.content}
