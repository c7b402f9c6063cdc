"""Lists and dicts of a template's run that know what they were made of; see `symbolic`."""

from collections.abc import Callable, Iterator
from typing import Any

from tokenmill.pipeline.chat.symbolic import Value, tracked
from tokenmill.pipeline.chat.tracing import Trace, Untracked, plain


class Structure(Value):
    """A list or dict of JSON, of fields or tools."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        if not isinstance(self.value, dict):
            return (self._item(at) for at in range(len(self)))
        return iter(self.trace.observe(f"tuple({self.source})", tuple(self.value)))

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(self.value, dict):
            return super().__getitem__(key)
        if key not in self:
            raise KeyError(key)
        return self._item(plain(key))

    def _item(self, key: Any) -> Any:
        return json_value(self.trace, f"{self.source}[{key!r}]", self.value[key], self.turn)

    def method(self, name: str) -> Callable[..., Any]:
        """One of a dict's methods that change nothing."""
        if isinstance(self.value, dict):
            if name == "items":
                return lambda: [(key, self._item(key)) for key in self]
            if name == "keys":
                return lambda: list(self)
            if name == "values":
                return lambda: [self._item(key) for key in self]
            if name == "get":
                return lambda key, default=None: self._item(key) if key in self else default
        raise Untracked(f"method {name} of a {type(self.value).__name__} made of contents")


def json_value(trace: Trace, source: str, value: Any, turn: int) -> Any:
    """A value of JSON that `source` gives; its type is observed."""
    kind = trace.observe(f"kind({source})", type(value).__name__)
    if kind in ("list", "dict"):
        return Structure(trace, source, value, turn)
    if kind in ("str", "int"):
        return tracked(trace, source, value, turn)
    return trace.observe(source, value)
