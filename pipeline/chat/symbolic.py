"""Strings of a template's run that know what they were made of.

A template is run with contents that are a `Text`: the concrete string, and a Python expression for it over the names
`c` (contents, one a turn), `f` (the turns' other fields) and `t` (tools). What makes a string of it (strip, split, a
slice, `+`) gives a Text with a longer expression; what looks at it (`in`, `==`, truth, a length) is answered from the
concrete string, and expression and answer are written down as a *guard*. For another conversation whose guards have the
same answers the run would take the same way, so what it prints is the same but for the values of the expressions.

None of these is a `str`: what Python or Jinja would do with one behind our back (join it in C, look it up in a dict,
`isinstance`) raises instead, and `Untracked` says what it was. That is what makes replays exact.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tokenmill.pipeline.chat.string_methods import METHODS, OF_ANY_ARGUMENT
from tokenmill.pipeline.chat.tracing import (
    MIXED,
    MOST_SOURCE,
    Piece,
    Symbol,
    Trace,
    Untracked,
    cut,
    escaped,
    holds_symbol,
    plain,
    source_of,
    turn_of,
)

_MOST_PIECES = 100_000
_COMPARED = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt}
_COMPARED |= {">=": operator.ge}
_RECKONED = {"+": operator.add, "-": operator.sub, "*": operator.mul, "%": operator.mod}


class Value(Symbol):
    """A Symbol that can be looked at."""

    __slots__ = ()
    __hash__ = Symbol.__hash__

    def __bool__(self) -> bool:
        return bool(self.trace.observe(f"bool({self.source})", bool(self.value)))

    def _compared(self, sign: str, other: Any) -> Any:
        if not isinstance(plain(other), int | float if isinstance(self.value, int) else type(self.value)):
            return sign == "!=" if sign in ("==", "!=") else NotImplemented
        answer = _COMPARED[sign](self.value, plain(other))
        return self.trace.observe(f"({self.source} {sign} {source_of(other)})", answer)

    def __eq__(self, other: object) -> Any:
        return self._compared("==", other)

    def __ne__(self, other: object) -> Any:
        return self._compared("!=", other)

    def __lt__(self, other: Any) -> Any:
        return self._compared("<", other)

    def __le__(self, other: Any) -> Any:
        return self._compared("<=", other)

    def __gt__(self, other: Any) -> Any:
        return self._compared(">", other)

    def __ge__(self, other: Any) -> Any:
        return self._compared(">=", other)

    def __contains__(self, item: Any) -> bool:
        return bool(self.trace.observe(f"({source_of(item)} in {self.source})", plain(item) in self.value))

    def __len__(self) -> int:
        return int(self.trace.observe(f"len({self.source})", len(self.value)))

    def length(self) -> "Number":
        """Its length, to be compared."""
        return Number(self.trace, f"len({self.source})", len(self.value), self.turn)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            if isinstance(key.step, Symbol):
                raise Untracked("a slice whose step is made of contents")
            parts = ":".join("" if part is None else source_of(part) for part in (key.start, key.stop, key.step))
            value = self.value[slice(*map(plain, (key.start, key.stop, key.step)))]
            turn = turn_of((self, key.start, key.stop))
            return (tracked if isinstance(value, str) else type(self))(
                self.trace, f"{self.source}[{parts}]", value, turn
            )
        at = operator.index(key)
        enough = at + 1 if at >= 0 else -at
        if not self.trace.observe(f"(len({self.source}) >= {enough})", len(self.value) >= enough):
            raise IndexError(f"no item {at}")
        return self._item(at)

    def _item(self, key: Any) -> Any:
        return tracked(self.trace, f"{self.source}[{key!r}]", self.value[key], self.turn)


class Number(Value):
    """An int made of contents, such as a length or where something was found."""

    __slots__ = ()

    def __index__(self) -> int:
        return int(self.trace.observe(self.source, self.value))

    def _reckoned(self, sign: str, left: Any, right: Any) -> Any:
        if not (isinstance(plain(left), int) and isinstance(plain(right), int)):
            return NotImplemented
        source = f"({source_of(left)} {sign} {source_of(right)})"
        return Number(self.trace, source, _RECKONED[sign](plain(left), plain(right)), turn_of((left, right)))

    def __add__(self, other: Any) -> Any:
        return self._reckoned("+", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._reckoned("+", other, self)

    def __sub__(self, other: Any) -> Any:
        return self._reckoned("-", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._reckoned("-", other, self)

    def __mod__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Symbol) else self._reckoned("%", self, other)


class Strings(Value):
    """A list or tuple of strings made of a content, such as split() gives."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return (self._item(at) for at in range(len(self)))

    def method(self, name: str) -> Callable[..., Any]:
        """None is tracked."""
        raise Untracked(f"method {name} of a list made of a content")


class Parts(Strings):
    """Strings that are never none: what split(separator) and partition() give.

    Attributes:
        origin: the text that has several pieces, of each of which a part has its share; the method; its arguments.
    """

    __slots__ = ("origin",)

    def __init__(
        self,
        trace: Trace,
        source: str,
        value: Any,
        turn: int,
        origin: "tuple[Text, str, tuple[str, ...]] | None" = None,
    ) -> None:
        super().__init__(trace, source, value, turn)
        self.origin = origin

    def _item(self, key: Any) -> Any:
        if self.origin is None:
            return super()._item(key)
        text, name, args = self.origin
        found = cut(tuple(piece.value for piece in text.pieces), name, args, key)
        sources = "".join(f"{piece.source or repr(piece.value)}, " for piece in text.pieces)
        source = f"cut(({sources}), {name!r}, {args!r}, {key})"
        pieces = []
        for at, (piece, value) in enumerate(zip(text.pieces, found, strict=True)):
            own = f"{source}[{at}]"
            if piece.source:
                pieces.append(tracked(self.trace, own, value, piece.turn))
            else:  # the template's own: it stands or falls, the same for all that go this way
                pieces.append(self.trace.observe(own, value))
        return joined(self.trace, pieces)

    def __getitem__(self, key: Any) -> Any:
        if type(key) is int and key in (0, -1):
            return self._item(key)
        found = super().__getitem__(key)
        return Strings(found.trace, found.source, found.value, found.turn) if isinstance(found, Parts) else found


class Text(Value):
    """A string made of contents: pieces, one after the other.

    Attributes:
        pieces: at least one of them a content's, or generated.
        safe: filter `safe` marked it, which tells when something is added.
    """

    __slots__ = ("pieces", "safe")

    def __init__(self, trace: Trace, pieces: tuple[Piece, ...], safe: bool = False) -> None:
        if len(pieces) > _MOST_PIECES:
            raise Untracked("a string of too many pieces")
        sources = [piece.source or repr(piece.value) for piece in pieces]
        source = sources[0] if len(pieces) == 1 else f"''.join(({', '.join(sources)},))"
        turns = {piece.turn for piece in pieces if piece.source or piece.value}
        turn = turns.pop() if len(turns) == 1 else MIXED
        super().__init__(trace, source, "".join([piece.value for piece in pieces]), turn)
        self.pieces, self.safe = pieces, safe

    def __iter__(self) -> Iterator[Any]:
        raise Untracked("a loop over a content's characters")

    def __add__(self, other: Any) -> Any:
        return _added(self, other, self.trace) if isinstance(other, str | Text) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return _added(other, self, self.trace) if isinstance(other, str) else NotImplemented

    def __bool__(self) -> bool:
        return any(piece.value for piece in self.pieces if not piece.source) or super().__bool__()

    def __getitem__(self, key: Any) -> Any:
        self.changed()
        return super().__getitem__(key)

    def changed(self) -> None:
        """Say that a string is made of this one that is not simply a longer one."""
        if any(piece.generated for piece in self.pieces):
            raise Untracked("what is printed within {% generation %} is changed")
        if self.safe:
            raise Untracked("what is marked safe is changed")

    def method(self, name: str) -> Callable[..., Any]:
        """One of a string's methods."""
        if name not in METHODS and not name.startswith("is"):
            raise Untracked(f"method {name} of a content")

        def call(*args: Any, **kwargs: Any) -> Any:
            self.changed()
            if name not in OF_ANY_ARGUMENT and holds_symbol((args, kwargs)):  # split raises where a separator is empty
                raise Untracked(f"method {name} of a content with another")
            if name in ("strip", "lstrip", "rstrip") and len(self.pieces) > 1:
                return _stripped(self, name, *args)
            parts = [source_of(arg) for arg in args] + [f"{key}={source_of(arg)}" for key, arg in kwargs.items()]
            value = getattr(self.value, name)(*plain(args), **plain(kwargs))
            source = f"{self.source}.{name}({', '.join(parts)})"
            turn = turn_of((self, args, kwargs))
            if "partition" in name or ("split" in name and args and args[0] is not None):
                several = len(self.pieces) > 1 and not kwargs and all(type(arg) is str for arg in args)
                return Parts(self.trace, source, value, turn, (self, name, args) if several else None)
            return tracked(self.trace, source, value, turn)

        return call


def _added(left: Any, right: Any, trace: Trace) -> "Text":
    """One behind the other; what is not marked safe is escaped beside what is, as markupsafe does."""
    texts = [
        one if isinstance(one, Text) else Text(trace, (Piece(str(one)),), hasattr(one, "__html__"))
        for one in (left, right)
    ]
    safe = any(one.safe for one in texts)
    pieces = [piece if one.safe or not safe else _escaped(piece) for one in texts for piece in one.pieces]
    return Text(trace, tuple(pieces), safe)


def _escaped(piece: Piece) -> Piece:
    return piece._replace(value=escaped(piece.value), source=piece.source and f"escape({piece.source})")


def tracked(trace: Trace, source: str, value: Any, turn: int) -> Any:
    """A value that `source` gives, as what tracks it; True, False and None are observed at once."""
    if len(source) > MOST_SOURCE:
        raise Untracked("an expression too long")
    if isinstance(value, str):
        return Text(trace, (Piece(value, source, turn),))
    if isinstance(value, list | tuple):
        return Strings(trace, source, value, turn)
    if isinstance(value, int) and not isinstance(value, bool):
        return Number(trace, source, value, turn)
    return trace.observe(source, value)


def joined(trace: Trace, parts: Iterable[Any]) -> Any:
    """Strings and Texts in order, as one string: a Text where one is among them."""
    pieces = [piece for part in parts for piece in (part.pieces if isinstance(part, Text) else (Piece(part),))]
    if all(not piece.source and not piece.generated for piece in pieces):
        return "".join([piece.value for piece in pieces])
    return Text(trace, tuple(pieces))


def _stripped(text: Text, name: str, chars: str | None = None) -> Any:
    """A Text of several pieces, stripped: what may vanish is looked at, piece by piece from the end."""
    pieces = list(text.pieces)
    for side, step in (("lstrip", 1), ("rstrip", -1)):
        if name in ("strip", side):
            for at in range(len(pieces))[::step]:
                value = getattr(pieces[at].value, side)(chars)
                source = pieces[at].source and f"{pieces[at].source}.{side}({chars!r})"
                pieces[at] = pieces[at]._replace(value=value, source=source)
                if text.trace.observe(f"({source} != '')", value != "") if source else value:
                    break
    return joined(text.trace, [Text(text.trace, (piece,)) if piece.source else piece.value for piece in pieces])
