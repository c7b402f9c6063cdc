"""What tracks values through a template's run: pieces, guards, and expressions of values that hold tracked ones."""

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import markupsafe

#: Whose a piece is, where it is not a turn's: the template's, the tools', several turns' or partly the template's.
LITERAL, TOOLS, MIXED = -2, -1, -3
#: Longest expression, in characters.
MOST_SOURCE = 20_000


class Untracked(Exception):
    """What a template does with a content, and is not tracked."""


class Piece(NamedTuple):
    """A stretch of a string.

    Attributes:
        value: the string.
        source: Python expression that gives it; "" where it is the template's own.
        turn: whose content or field it is, or LITERAL, TOOLS, MIXED.
        generated: printed within {% generation %}.
    """

    value: str
    source: str = ""
    turn: int = LITERAL
    generated: bool = False


class Trace:
    """Guards of one run: expression → answer, in order of observation."""

    def __init__(self) -> None:
        self.guards: dict[str, Hashable] = {}

    def observe(self, source: str, value: Any) -> Any:
        """Write an answer down, and give it."""
        if len(source) > MOST_SOURCE:
            raise Untracked("an expression too long")
        self.guards.setdefault(source, value)
        return value


class Symbol:
    """A value made of contents.

    Attributes:
        trace: of the run.
        source: Python expression of the value.
        value: str, int, list, tuple or dict.
        turn: whose it is.
    """

    __slots__ = ("source", "trace", "turn", "value")

    def __init__(self, trace: Trace, source: str, value: Any, turn: int) -> None:
        self.trace, self.source, self.value, self.turn = trace, source, value, turn

    def __str__(self) -> str:
        raise Untracked(f"a {type(self.value).__name__} made of contents is turned into a string by other code")

    __repr__ = __str__

    def __hash__(self) -> int:  # no TypeError, which Jinja takes for a missing item
        raise Untracked(f"a {type(self.value).__name__} made of contents is looked up")

    def __format__(self, form: str) -> str:
        return str(self)


def escaped(value: str) -> str:
    """A string as HTML shows it."""
    return str(markupsafe.escape(value))


def cut(parts: tuple[str, ...], method: str, args: tuple[str, ...], index: int) -> tuple[str, ...]:
    """Of strings that are one text the share that each has of a part of that text.

    Args:
        parts: in order.
        method: of strings, that gives the text's parts: split or rsplit with a separator, partition or rpartition.
        args: of the method.
        index: of the part.
    """
    found = getattr("".join(parts), method)(*args)
    index %= len(found)
    between = 0 if "partition" in method else len(args[0])
    begin = sum(map(len, found[:index])) + between * index
    end, at, shares = begin + len(found[index]), 0, []
    for part in parts:
        shares.append(part[max(begin - at, 0) : max(end - at, 0)])
        at += len(part)
    return tuple(shares)


def _symbols(value: Any) -> Iterator[Symbol]:
    if isinstance(value, Symbol):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _symbols(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _symbols(item)


def holds_symbol(value: Any) -> bool:
    """Whether a value is made of contents, or holds one that is."""
    return next(_symbols(value), None) is not None


def turn_of(value: Any) -> int:
    """Whose the contents in a value are."""
    turns = {symbol.turn for symbol in _symbols(value)}
    return turns.pop() if len(turns) == 1 else MIXED if turns else LITERAL


def plain(value: Any) -> Any:
    """The value without what tracks it."""
    if isinstance(value, Symbol):
        return value.value
    if isinstance(value, list | tuple):
        return type(value)([plain(item) for item in value])
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def source_of(value: Any) -> str:
    """A Python expression that gives the value."""
    if isinstance(value, Symbol):
        return value.source
    if type(value) in (str, int, float, bool, type(None)):
        return repr(value)
    if type(value) is list:
        return f"[{', '.join(map(source_of, value))}]"
    if type(value) is tuple:
        return f"({''.join(f'{source_of(item)}, ' for item in value)})"
    if type(value) is dict:
        return f"{{{', '.join(f'{source_of(key)}: {source_of(item)}' for key, item in value.items())}}}"
    raise Untracked(f"a {type(value).__name__} meets a content")
