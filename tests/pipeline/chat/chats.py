"""Random conversations, the same for a seed."""

import random
from typing import Any

from tokenmill.pipeline.chat.conversation import Conversation, Turn

WORDS = ["the", "a", "mask", "token", "think", "12", "345", "=", "y", ",", ".", "!", "naïve", "数学", "привет", "😀"]
WORDS += ["don't", "I'LL", "<b>", "##", "\n", "\n\n", "\t", ""]
ODD = [
    "",
    " ",
    "\n",
    "  a ",
    "\n\nb\n",
    "<think>",
    "</think>",
    "<tool_response>",
    "</tool_response>",
    "▁",
    "é",
    "e\u0301",
]


def text(rng: random.Random, most: int = 30) -> str:
    """Words and odd strings, with white space around them at times; not empty."""
    words = [rng.choice(WORDS) if rng.random() < 0.9 else rng.choice(ODD) for _ in range(rng.randint(1, most))]
    found = rng.choice(["", "", " ", "\n", "\n\n "]) + rng.choice([" ", " ", ""]).join(words)
    found += rng.choice(["", "", "", " ", "\n", "😀"])
    return found if found.strip() else found + "word"


def reasoned(rng: random.Random) -> str:
    """An answer that may begin with reasoning."""
    kind = rng.random()
    if kind < 0.4:
        return text(rng)
    return f"<think>\n{text(rng)}\n</think>\n\n{text(rng)}" if kind < 0.8 else f"{text(rng)}</think>{text(rng)}"


def conversation(
    rng: random.Random, *, reasoning: bool = False, tools: bool = False, plain: bool = False
) -> Conversation:
    """System prompt or none, then users and assistants in turn.

    Args:
        rng: draws.
        reasoning: answers may have reasoning.
        tools: tools may be offered and called.
        plain: contents spell no control token: <think> neither.
    """
    turns = [Turn("system", text(rng))] if rng.random() < 0.4 else []
    offered: list[Any] | None = None
    if tools and rng.random() < 0.5:
        offered = [schema(rng) for _ in range(rng.randint(1, 2))]
    for _ in range(rng.randint(1, 4)):
        turns.append(Turn("user", text(rng)))
        if offered and rng.random() < 0.5:
            calls = [call(rng) for _ in range(rng.randint(1, 2))]
            turns.append(Turn("assistant", rng.choice(["", text(rng)]), None, {"tool_calls": calls}))
            turns += [Turn("tool", text(rng), None, {"name": one["function"]["name"]}) for one in calls]
        turns.append(Turn("assistant", reasoned(rng) if reasoning else text(rng)))
    if plain:
        turns = [turn._replace(content=without_control(turn.content)) for turn in turns]
    return Conversation(tuple(turns), offered)


def without_control(content: str) -> str:
    for name in ODD[5:9]:
        content = content.replace(name, "[]")
    return content


def schema(rng: random.Random) -> dict[str, Any]:
    return {"type": "function", "function": {"name": rng.choice(["find", "add"]), "description": text(rng, 5)}}


def call(rng: random.Random) -> dict[str, Any]:
    arguments: Any = {"q": text(rng, 4), "n": rng.randint(0, 5), "deep": [None, True, {"x": 0.5}]}
    if rng.random() < 0.3:
        arguments = text(rng, 4)
    return {"type": "function", "function": {"name": rng.choice(["find", "add"]), "arguments": arguments}}


def messages(conversation: Conversation) -> list[dict[str, Any]]:
    """As `transformers` takes them."""
    return [{"role": turn.role, "content": turn.content, **(turn.fields or {})} for turn in conversation.turns]
