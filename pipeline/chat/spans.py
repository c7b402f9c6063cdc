r"""Which stretches of a rendered conversation are answers.

An assistant's answer is what the model gives by itself and is trained on:

- where the template has {% generation %}, what it prints within;
- else from behind the generation prompt (what `add_generation_prompt` adds; "<|im_start|>assistant\n") where that
  stands right before the turn, or from the turn's first own character; over all that lies between the turn's own
  strings, such as "\n</think>\n\n"; up to the control token that ends the turn, that token included. This token is the
  first that the template prints behind a last answer, or the one that it prints in its place before a user's next turn;
  where it prints the same others right behind it in both places, they belong to it. What follows ("\n") is the
  template's again. A template that prints none behind a last answer has none.

A turn's own strings are its content and its other fields, a tool call's name and arguments.
"""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from tokenmill.pipeline.chat.rendering import Skeleton
from tokenmill.pipeline.chat.tracing import LITERAL, MIXED, TOOLS, Piece, Untracked


def ends_of(tail: str, between: str, controls: "re.Pattern[str]") -> tuple[str, ...]:
    """What ends an assistant's turn: control tokens, one or some without anything between.

    Args:
        tail: what the template prints behind a last answer.
        between: what it prints between an answer and a user's next turn: an end and a header; one control token alone
            is of the header.
        controls: finds control tokens.
    """
    last, inner = _first_run(tail, controls), _first_run(between, controls)
    if not last:
        return ()
    alike = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(last, inner, strict=False))]
    others = inner[:1] if len(controls.findall(between)) > 1 else []
    return tuple(dict.fromkeys(["".join(alike or last[:1]), *last[:1], *others]))


def _first_run(text: str, controls: "re.Pattern[str]") -> list[str]:
    """The first control token of a text, and those that stand right behind it."""
    found, end = [], None
    for match in controls.finditer(text):
        if end is not None and match.start() != end:
            break
        found.append(match[0])
        end = match.end()
    return found


class Stretch(NamedTuple):
    """A stretch of a rendering.

    Attributes:
        piece: a turn's, or a literal.
        answers: of a literal one for each of its characters, of a turn's piece one.
    """

    piece: Piece
    answers: tuple[bool, ...]


def stretches(
    skeleton: Skeleton, roles: Sequence[str], prompt: str, ends: Sequence[str], generation: bool
) -> list[Stretch]:
    """The pieces in order, literals joined, and which of them are answers.

    Args:
        skeleton: what the template prints.
        roles: of the turns.
        prompt: the generation prompt; "" where there is none.
        ends: what ends an assistant's turn; of several at one place the longest.
        generation: the template has {% generation %}.

    Raises:
        Untracked: a piece is partly one turn's and partly another's or the template's.
    """
    found: list[Stretch] = []
    for piece in skeleton:
        if piece.turn == MIXED:
            raise Untracked(f"it prints what is made of several strings: {piece.source[:200]}")
        answer = piece.generated if generation else piece.turn >= 0 and roles[piece.turn] == "assistant"
        flags = (answer,) * (1 if piece.source else len(piece.value))
        last = found[-1] if found else None
        if last and not last.piece.source and not piece.source:
            found[-1] = Stretch(last.piece._replace(value=last.piece.value + piece.value), last.answers + flags)
        else:
            found.append(Stretch(piece, flags))
    if not generation:
        for at, stretch in enumerate(found):
            if not stretch.piece.source:
                before, behind = _answering(found, at - 1), _answering(found, at + 1)
                found[at] = Stretch(stretch.piece, _answers(stretch.piece.value, before, behind, prompt, ends))
    return found


def _answering(found: Sequence[Stretch], at: int) -> int:
    """The assistant's turn whose piece this is; LITERAL: none."""
    return found[at].piece.turn if 0 <= at < len(found) and found[at].answers[0] else LITERAL


def _answers(literal: str, before: int, behind: int, prompt: str, ends: Sequence[str]) -> tuple[bool, ...]:
    """Which characters of a literal are an answer's, between pieces of two turns."""
    if before == behind != LITERAL:
        return (True,) * len(literal)
    stop, start = 0, len(literal)
    if before != LITERAL and (found := [(place, -len(end)) for end in ends if (place := literal.find(end)) >= 0]):
        stop = min(found)[0] - min(found)[1]
    if behind != LITERAL and prompt and (place := literal.rfind(prompt, stop)) >= 0:
        start = place + len(prompt)
    return tuple([place < stop or place >= start for place in range(len(literal))])


def role_of(turn: int, roles: Sequence[str]) -> str | None:
    """Whose a piece of a turn is; None: the template's."""
    return "system" if turn == TOOLS else None if turn == LITERAL else roles[turn]
