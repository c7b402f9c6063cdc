"""A document to look at, as people see it: why it was dropped, where it is from, its text with nothing hidden."""

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tokenmill.pipeline.chat.conversation import Conversation

#: The reason of a document that no bound dropped.
KEPT = "kept"
_FAILED_TEXT = "(a record that failed has no text; `tokenmill where RUN {name} --raw` shows the record)"
#: Characters that are shown of each turn, however many there are.
_LEAST = 40
_GATED_TEXT = "(its text was not kept: a gated row keeps its place; `gates: {sample_fraction: …}` keeps a few)"
_ERASED_TEXT = "(its text was erased after a takedown; `tokenmill why` says when)"


@dataclass(frozen=True)
class Seen:
    """A document to look at.

    Attributes:
        part: its part's key; with `row`, its identity.
        row: its row in the part.
        reason: why it was dropped; None when it was kept.
        signal: what its bound is about, such as "gopher_quality.words"; None when it was kept or failed.
        value: the signal's value; None where it was not kept.
        bound: the bound, a number, a list or a percentile's `Cut`.
        place: raw_file, raw_offset, and url, repository, path where it has them.
        text: as the rule that decided read it, after the edits before it; None where it was not kept.
        conversation: the turns of that text, where it has any.
        beside: other signals that say what the value is about, such as benchmark and item.
    """

    part: str
    row: int
    reason: str | None
    signal: str | None
    value: Any
    bound: Any
    place: Mapping[str, Any]
    text: str | None
    conversation: Conversation | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)


def described(seen: Seen, limit: int) -> str:
    """A document for people: why, where from, and its text, shortened, every character visible."""
    names = " ".join(str(seen.place[name]) for name in ("url", "repository", "path") if name in seen.place)
    raw = f"{seen.place['raw_file']} at {seen.place['raw_offset']}"
    place = f"{names}  ({raw})" if names else raw
    lines = [f"── {seen.part}:{seen.row}  {explained(seen)}", f"   {visible(place, 400)}"]
    if seen.text is None:
        kind = (seen.reason or KEPT).split(".")[0]
        why = {"failed": _FAILED_TEXT.format(name=f"{seen.part}:{seen.row}"), "gates": _GATED_TEXT}
        lines.append(f"   {why.get(kind, _ERASED_TEXT)}")
    elif seen.conversation is not None:
        lines += [f"   │ {line}" for line in _said(seen.conversation, limit)]
    else:
        lines += [f"   │ {line}" for line in visible(seen.text, limit).split("\n")]
    return "\n".join(lines)


def by_turns(conversation: Conversation) -> str:
    """A conversation's text with who says what, for a page that shows texts."""
    return "\n".join(f"{label}: {value}" for label, value in _told(conversation))


def _said(conversation: Conversation, limit: int) -> Iterator[str]:
    """Lines of a conversation, turn by turn, each with a share of the characters."""
    share = max(_LEAST, limit // len(conversation.turns))
    for label, value in _told(conversation):
        yield from f"{label}: {visible(value, share)}".split("\n")


def _told(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """All that is in a conversation, with what it is."""
    for turn in conversation.turns:
        yield turn.role if turn.branch is None else f"{turn.role} ({turn.branch})", turn.content
        for name, value in (turn.fields or {}).items():
            yield f"  {name}", json.dumps(value, ensure_ascii=False)
    if conversation.tools is not None:
        yield "tools", json.dumps(conversation.tools, ensure_ascii=False)
    if conversation.answer is not None:
        checker = f" (checker {visible(conversation.checker, 40)})" if conversation.checker else ""
        yield f"answer{checker}", conversation.answer


def explained(seen: Seen) -> str:
    """Its reason, with the signal's value and the bound."""
    if seen.reason is None or seen.reason.startswith("failed."):
        return seen.reason or KEPT
    value = "its value was not kept" if seen.value is None else f"{seen.signal} is {seen.value}"
    bound = ", ".join(map(str, seen.bound)) if isinstance(seen.bound, tuple) else seen.bound
    beside = ", ".join(f"{name} {said}" for name, said in seen.beside.items())
    return f"{seen.reason}: {value}, the bound is {bound}" + (f"; {beside}" if beside else "")


def as_json(seen: Seen, limit: int) -> dict[str, Any]:
    """A document as plain values; `text` is its first `limit` characters, `characters` says how many it has."""
    value = {**asdict(seen), "text": seen.text and seen.text[:limit], "characters": seen.text and len(seen.text)}
    conversation = value.pop("conversation")
    if conversation is not None:
        turns = [turn._replace(content=turn.content[:limit])._asdict() for turn in conversation.turns]
        value["conversation"] = {**conversation._asdict(), "turns": turns}
    return value


def visible(text: str, limit: int) -> str:
    r"""At most about `limit` characters of a text, from both its ends, with every character to be seen.

    A line end is ⏎ and a new line; what shows nothing or moves the cursor (control and format characters, odd spaces)
    is its escape, such as \x1b or \u200b.
    """
    if len(text) <= limit:
        return _shown(text)
    tail = limit // 4
    left_out = len(text) - limit
    return f"{_shown(text[: limit - tail])} […{left_out:,} characters…] {_shown(text[len(text) - tail :])}"


def _shown(text: str) -> str:
    return "".join(
        "⏎\n" if char == "\n" else char.encode("unicode_escape").decode() if _is_hidden(char) else char for char in text
    )


def _is_hidden(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or (category[0] == "Z" and char not in " \u3000")
