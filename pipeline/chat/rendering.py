"""Conversation → what its template prints, piece by piece; the template itself runs once for each way through it.

Conversations of one *shape* (roles in order, names of the other fields, tools or none) share a tree: inner nodes ask a
guard of the run that made them (see `symbolic`), leaves are what those runs printed. A conversation whose way ends at a
leaf is rendered without Jinja, exactly as Jinja would; one whose way leaves the tree runs the template and adds a leaf.
A shape keeps MOST_LEAVES; beyond, and beyond MOST_SHAPES, the template runs for each conversation: the result is the
same.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jinja2

from tokenmill.pipeline.chat.conversation import Conversation, Turn, message_of
from tokenmill.pipeline.chat.limits import EndlessError
from tokenmill.pipeline.chat.sandbox import PURE, MissingDateError, dumps
from tokenmill.pipeline.chat.structures import json_value
from tokenmill.pipeline.chat.symbolic import Text
from tokenmill.pipeline.chat.template import MOST_REASON, ChatTemplate
from tokenmill.pipeline.chat.tracing import TOOLS, Piece, Trace, Untracked, cut, escaped, holds_symbol

MOST_LEAVES, MOST_SHAPES = 256, 20_000
Leaf = TypeVar("Leaf")
#: What expressions are made of, besides `c` (contents), `f` (fields), `t` (tools) and the methods of strings.
_NAMES: dict[str, Any] = {
    "__builtins__": {"bool": bool, "len": len, "str": str, "tuple": tuple, "True": True, "False": False, "None": None},
    "kind": lambda value: type(value).__name__,
    "dumps": dumps,
    "cut": cut,
    "escape": escaped,
    "inf": float("inf"),
    "nan": float("nan"),
    **{f"filter_{name}": function for name, function in PURE.items()},
}


#: What a template prints of all conversations that go one way through it; no two literals of one kind side by side.
Skeleton = tuple[Piece, ...]


def expression(source: str) -> Callable[[Any, Any, Any], Any]:
    """A function of contents, fields and tools. Raises Untracked where Python finds it too deep."""
    try:
        found: Callable[[Any, Any, Any], Any] = eval(f"lambda c, f, t: {source}", _NAMES)
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise Untracked(f"an expression that Python does not take: {error}") from None
    return found


def skeleton(
    template: ChatTemplate, conversation: Conversation, trace: Trace, add_generation_prompt: bool = False
) -> Skeleton:
    """What the template prints, and in `trace` the guards. Raises what the template raises, and Untracked."""
    messages = []
    for number, turn in enumerate(conversation.turns):
        content = Text(trace, (Piece(turn.content, f"c[{number}]", number),))
        message: dict[str, Any] = {"role": turn.role, "content": content}
        for name, value in message_of(turn).items():
            if name not in message:
                message[name] = json_value(trace, f"f[{number}][{name!r}]", value, number)
        messages.append(message)
    tools = None if conversation.tools is None else json_value(trace, "t", conversation.tools, TOOLS)
    printed = template.run(messages, tools, trace, add_generation_prompt)
    return _merged(printed)


def _merged(printed: Sequence[Any]) -> Skeleton:
    pieces: list[Piece] = []
    for part in printed:
        for piece in part.pieces if isinstance(part, Text) else (Piece(part),):
            last = pieces[-1] if pieces else None
            if last and not last.source and not piece.source and last.generated == piece.generated:
                pieces[-1] = last._replace(value=last.value + piece.value)
            elif piece.source or piece.value:
                pieces.append(piece)
    return tuple(pieces)


class _Guard:
    """A node of a tree: what is asked, and where each answer leads."""

    __slots__ = ("answer", "next", "source")

    def __init__(self, source: str) -> None:
        self.source, self.answer = source, expression(source)
        self.next: dict[Hashable, Any] = {}


class Renderer(Generic[Leaf]):
    """Finds what a template prints of conversations.

    Leaves are what `finish` makes of a skeleton, and reasons (str) why the template takes none of the conversations.

    Attributes:
        template: as given.
        runs: how often the template ran.
    """

    def __init__(
        self,
        template: ChatTemplate,
        finish: Callable[[Skeleton, tuple[str, ...]], Leaf],
        most_leaves: int = MOST_LEAVES,
        add_generation_prompt: bool = False,
    ) -> None:
        """`finish` is called with a skeleton and the roles of its turns; it may raise Untracked."""
        self._prompts = add_generation_prompt
        self.template, self.runs = template, 0
        self._finish, self._most_leaves = finish, most_leaves
        self._shapes: dict[Any, Any] = {}
        self._leaves: dict[Any, int] = {}

    def find(self, conversation: Conversation) -> Leaf | str:
        """The leaf of a conversation, or the reason why it cannot be rendered."""
        roles, contents, _, fields = zip(*conversation.turns, strict=True)
        tools = conversation.tools
        shape: Any = roles
        if tools is not None or any(fields):
            shape = (roles, tools is None, tuple([_names(one) for one in fields]))
        node = self._shapes.get(shape)
        try:
            while type(node) is _Guard:
                node = node.next.get(node.answer(contents, fields, tools))
        except Exception:  # as the template would, most likely: it runs and says so
            node = None
        if node is None:
            node = self._run(shape, conversation)
        found: Leaf | str = node
        return found

    def only_leaf(self, roles: tuple[str, ...]) -> Leaf | None:
        """The leaf of all conversations of these roles, without other fields and tools; None: not known, or several.

        One that was found stands: its template looks at no content.
        """
        node = self._shapes.get(roles)
        return None if node is None or isinstance(node, str | _Guard) else node

    def _run(self, shape: Any, conversation: Conversation) -> Leaf | str:
        self.runs += 1
        trace = Trace()
        leaf: Leaf | str
        try:
            roles = tuple(turn.role for turn in conversation.turns)
            leaf = self._finish(skeleton(self.template, conversation, trace, self._prompts), roles)
        except (MissingDateError, MemoryError):
            raise
        except Exception as error:  # whatever a stranger's program may raise
            refused = self.template.refusal(conversation, self._prompts)
            leaf = f"template_untracked: {str(error)[:MOST_REASON]}" if refused is None else refused
            told = isinstance(error, jinja2.TemplateError) and not holds_symbol(error.message)
            if not told and not (isinstance(error, EndlessError) and leaf == "template_endless"):
                return leaf
        count = self._leaves.get(shape, 0)
        if count < self._most_leaves and (count or len(self._leaves) < MOST_SHAPES):
            self._leaves[shape] = count + 1
            self._add(shape, list(trace.guards.items()), leaf)
        return leaf

    def _add(self, shape: Any, guards: list[tuple[str, Hashable]], leaf: Leaf | str) -> None:
        node, place, at = self._shapes.get(shape), (self._shapes, shape), 0
        while type(node) is _Guard and at < len(guards):
            assert node.source == guards[at][0], "a template took two ways after the same answers"
            place = (node.next, guards[at][1])
            node, at = node.next.get(guards[at][1]), at + 1
        if node is not None:  # this run ended early: what it raised, no guard foretells
            return
        for source, answer in reversed(guards[at:]):
            guard = _Guard(source)
            guard.next[answer] = leaf
            leaf = guard  # type: ignore[assignment]
        place[0][place[1]] = leaf


def _names(fields: Any) -> tuple[str, ...]:
    return tuple([name for name, value in fields.items() if value is not None]) if fields else ()


class Marks(NamedTuple):
    """What stands around answers, where a template has no {% generation %}.

    Attributes:
        prompt: what `add_generation_prompt` adds behind a user's turn; "" where that is not told apart.
        tail: what the template prints behind a last answer.
        between: what it prints between an answer and a user's next turn.
    """

    prompt: str
    tail: str
    between: str


def marks_of(template: ChatTemplate) -> Marks:
    """Marks, found by rendering small conversations; "" each that cannot be. Raises MissingDateError."""
    first, answer, user = Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")
    prompt = tail = between = ""
    for head in ((first,), (Turn("system", "d"), first)):
        asked, answered = Conversation(head), Conversation((*head, answer))
        if template.refusal(asked) is None and template.refusal(answered) is None and not (prompt or tail):
            before, behind = template.render(asked), template.render(asked, add_generation_prompt=True)
            prompt = behind[len(before) :] if behind.startswith(before) else ""
            tail = _literal_behind(template, answered, len(head))
            between = _literal_behind(template, Conversation((*head, answer, user, answer)), len(head))
    return Marks(prompt, tail, between)


def _literal_behind(template: ChatTemplate, conversation: Conversation, turn: int) -> str:
    """The literal behind a turn's last piece; "" where there is none, or the conversation is not taken."""
    if template.refusal(conversation) is not None:
        return ""
    try:
        pieces = skeleton(template, conversation, Trace())
    except Untracked:
        return ""
    places = [at for at, piece in enumerate(pieces) if piece.turn == turn]
    behind = pieces[places[-1] + 1 : places[-1] + 2] if places else ()
    return "".join([piece.value for piece in behind if not piece.source])
