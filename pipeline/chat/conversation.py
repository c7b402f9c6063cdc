"""A conversation, as every later step sees it, whatever shape it was kept in."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Turn(NamedTuple):
    """One message.

    Attributes:
        role: "system", "user", "assistant" or "tool".
        content: its text; reasoning stands at its head, in <think> … </think>.
        branch: "chosen" or "rejected" of a preference pair, None of what both share and of any other conversation.
        fields: the message's other fields (tool_calls, name, tool_call_id); None where it has none.
    """

    role: str
    content: str
    branch: str | None = None
    fields: Mapping[str, Any] | None = None


class Conversation(NamedTuple):
    """A conversation.

    Attributes:
        turns: in order; of a preference pair what both share, then the chosen, then the rejected turns.
        tools: schemas of the tools that may be called; None where there are none.
        kind: "conversation", "preference" or "verifiable" (a prompt whose answer can be checked).
        answer: of a verifiable prompt.
        checker: how its answer is checked ("exact", "number", "math", "code", …), as the data says.
    """

    turns: tuple[Turn, ...]
    tools: list[Any] | None = None
    kind: str = "conversation"
    answer: str | None = None
    checker: str | None = None


def message_of(turn: Turn) -> dict[str, Any]:
    """What a Jinja template sees of a turn."""
    return {"role": turn.role, "content": turn.content, **(turn.fields or {})}
