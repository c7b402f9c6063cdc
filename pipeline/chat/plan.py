"""A skeleton, cut at its control tokens: what is to be done for each conversation of its kind."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.pipeline.chat.conversation import ROLES
from tokenmill.pipeline.chat.rendering import expression
from tokenmill.pipeline.chat.spans import Stretch, role_of
from tokenmill.pipeline.chat.tracing import Piece

I32 = npt.NDArray[np.int32]
#: Role of a token, int8.
TEMPLATE, SYSTEM, USER, ASSISTANT, TOOL = range(5)
CODES: Mapping[str | None, int] = {None: TEMPLATE, **{role: code for code, role in enumerate(ROLES, 1)}}


class Print(NamedTuple):
    """A piece of text that needs no Python: a literal, or a content.

    Attributes:
        turn: whose content; -1: a literal.
        stripped: white space is taken from both ends of the content.
        literal: what is printed, of a literal.
    """

    turn: int
    stripped: bool
    literal: str


class Plan(NamedTuple):
    """What to do for the conversations of one skeleton.

    Attributes:
        items: int32[k, 3], in order: the id of a control token, or -1 for a piece of text; role; 1 for an answer.
        names: the control tokens.
        values: the pieces of text, a function of contents, fields and tools.
        prints: the same, where they are literals and contents alone; None: one is something else.
        places: of each turn, which of these pieces are its own.
        answering: pieces of text that assistants gave.
        silent: a turn has no piece of its own.
        slow: `tokenizers` is to encode the rendering as a whole.
    """

    items: I32
    names: tuple[str, ...]
    values: Callable[[Any, Any, Any], tuple[str, ...]]
    prints: tuple[Print, ...] | None
    places: tuple[tuple[int, ...], ...]
    answering: tuple[int, ...]
    silent: bool
    slow: bool


def finder(names: Sequence[str]) -> "re.Pattern[str]":
    """Finds control tokens from the left, the longest first, as `tokenizers` does; none where there are none."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")


def plan_of(
    stretches: Sequence[Stretch],
    roles: Sequence[str],
    ids: Mapping[str, int],
    controls: "re.Pattern[str]",
    knows: Callable[[Sequence[str]], bool],
) -> Plan:
    """Cut literals at control tokens.

    Args:
        stretches: of the skeleton.
        roles: of the turns.
        ids: of control tokens, by name.
        controls: `finder` of their names.
        knows: whether the texts between such control tokens can be encoded each alone.

    Raises:
        Untracked: Python does not take an expression.
    """
    items: list[tuple[int, int, int]] = []
    sources: list[str] = []
    prints: list[Print | None] = []
    names: list[str] = []
    places: list[list[int]] = [[] for _ in roles]
    for piece, answers in stretches:
        if piece.source:
            if piece.turn >= 0:
                places[piece.turn].append(len(sources))
            sources.append(piece.source)
            prints.append(_content(piece))
            items.append((-1, CODES[role_of(piece.turn, roles)], int(answers[0])))
            continue
        for name, start, end in cut(piece.value, controls):
            if name is not None:
                names.append(name)
                items.append((ids[name], TEMPLATE, int(any(answers[start:end]))))
                continue
            for answer, run in groupby(range(start, end), answers.__getitem__):
                literal = "".join([piece.value[at] for at in run])
                sources.append(repr(literal))
                prints.append(Print(-1, False, literal))
                items.append((-1, TEMPLATE, int(answer)))
    pieces = [item for item in items if item[0] < 0]
    return Plan(
        np.array(items, np.int32).reshape(-1, 3),
        tuple(names),
        expression(f"({''.join(f'{source}, ' for source in sources)})"),
        None if None in prints else tuple(one for one in prints if one is not None),
        tuple(map(tuple, places)),
        tuple(at for at, (_, role, _) in enumerate(pieces) if role == ASSISTANT),
        not all(places),
        not knows(names),
    )


def _content(piece: Piece) -> Print | None:
    """A piece that is a turn's whole content, or its content stripped."""
    whole = f"c[{piece.turn}]"
    return Print(piece.turn, piece.source != whole, "") if piece.source in (whole, f"{whole}.strip()") else None


def cut(text: str, controls: "re.Pattern[str]") -> list[tuple[str | None, int, int]]:
    """Control tokens of a text, by name, and what lies between, None: each with its begin and end."""
    found: list[tuple[str | None, int, int]] = []
    at = 0
    for match in controls.finditer(text):
        if match.start() > at:
            found.append((None, at, match.start()))
        found.append((match.group(), match.start(), match.end()))
        at = match.end()
    if at < len(text):
        found.append((None, at, len(text)))
    return found


def split_answers(
    plan: Plan, values: tuple[str, ...], tokens: "re.Pattern[str]", ids: Mapping[str, int]
) -> tuple[I32, tuple[str, ...]]:
    """Items and pieces of one conversation whose assistants spell tokens that they may.

    Args:
        plan: of its skeleton.
        values: its pieces of text.
        tokens: `finder` of what assistants may spell.
        ids: of these.
    """
    items: list[tuple[int, int, int]] = []
    pieces: list[str] = []
    rest = iter(values)
    for control, role, answer in plan.items.tolist():
        if control >= 0:
            items.append((control, role, answer))
            continue
        value = next(rest)
        for name, start, end in cut(value, tokens) if role == ASSISTANT else [(None, 0, len(value))]:
            items.append((-1 if name is None else ids[name], role, answer))
            if name is None:
                pieces.append(value[start:end])
    return np.array(items, np.int32).reshape(-1, 3), tuple(pieces)
