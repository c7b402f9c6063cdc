"""Jinja2 as `transformers` sets it up for chat templates, with contents tracked and steps counted.

Templates come from strangers. They run in Jinja's sandbox, and no longer than MOST_STEPS: each block of statements,
each number of a range and each 64 characters or items that a filter or a call gives are a step, so the same template
ends at the same place on every machine. What is random is not there, and today's date is the one given.
"""

import datetime
import json
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, cast

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import _PassArg

from tokenmill.pipeline.chat.limits import (
    MOST_PRINTED,
    MOST_SIZE,
    MOST_STEPS,
    EndlessError,
    check_operator,
    check_width,
)
from tokenmill.pipeline.chat.structures import Structure
from tokenmill.pipeline.chat.symbolic import Number, Strings, Text, joined, tracked
from tokenmill.pipeline.chat.template_code import Generation, TemplateDict, TemplateNamespace, TrackingCode
from tokenmill.pipeline.chat.tracing import Symbol, Trace, Untracked, holds_symbol, plain, source_of, turn_of

#: Filters of lists that look at what is in them in ways that are tracked.
_THROUGH = {"default", "d", "first", "last", "length", "count", "list", "map", "select", "selectattr"}
_THROUGH |= {"reject", "rejectattr", "reverse"}
#: Filters of one string that are functions of it and of plain arguments: what they give is tracked.
PURE = {name: jinja2.filters.FILTERS[name] for name in ("capitalize", "title", "indent", "striptags")}
#: Tests that ask for the type alone.
_OF_TYPE = {"boolean", "callable", "defined", "escaped", "false", "float", "integer", "iterable", "mapping", "none"}
_OF_TYPE |= {"number", "sequence", "string", "true", "undefined"}
#: Tests that compare, as operators do.
_COMPARING = {
    "==",
    "eq",
    "equalto",
    "!=",
    "ne",
    ">",
    "gt",
    "greaterthan",
    ">=",
    "ge",
    "<",
    "lt",
    "lessthan",
    "<=",
    "le",
}
_COMPARING |= {"in", "divisibleby", "odd", "even"}


class RefusedError(jinja2.TemplateError):
    """What `raise_exception` of a template raises."""


class MissingDateError(ValueError):
    """A template that prints today's date, and no date is given."""


def dumps(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """JSON as `transformers` has it in templates: nothing escaped for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one template; runs one at a time.

    Attributes:
        trace: of the run, None where nothing is tracked.
    """

    code_generator_class = TrackingCode
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, date: datetime.date | None) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
        self.trace: Trace | None = None
        self._steps = 0
        self._date = date
        self.filters["tojson"] = dumps
        for name in ("random", "pprint"):
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters = {name: self._filter(name, function) for name, function in self.filters.items()}
        tests: dict[str, Any] = self.tests
        self.tests = {name: _test(name, function) for name, function in tests.items()}
        self.globals |= {"raise_exception": _refuse, "strftime_now": self._now, "range": self._range}
        self.globals |= {"dict": TemplateDict(), "namespace": TemplateNamespace}

    def run(self, template: jinja2.Template, values: Mapping[str, Any], trace: Trace | None) -> list[Any]:
        """What the template prints: strings and Texts in order."""
        self.trace, self._steps = trace, 0
        printed: list[Any] = []
        size, parts = 0, cast("Iterable[Any]", template.root_render_func(template.new_context(dict(values))))
        for part in parts:
            size += len(part) if isinstance(part, str) else 0
            if size > MOST_PRINTED:
                raise EndlessError(f"it printed more than {MOST_PRINTED:,} characters")
            printed.append(part)
        return printed

    def step(self, count: int = 1) -> None:
        """Count steps; EndlessError when they are too many."""
        self._steps += count
        if self._steps > MOST_STEPS:
            raise EndlessError(f"it took more than {MOST_STEPS:,} steps")

    def concat(self, parts: Any) -> Any:
        """Strings and Texts as one."""
        parts = list(parts)
        if self.trace is None or not any(isinstance(part, Text) for part in parts):
            if sum(map(len, parts)) > MOST_SIZE:
                raise EndlessError(f"a string of more than {MOST_SIZE:,} characters")
            return "".join(parts)
        return joined(self.trace, parts)

    def shown(self, value: Any) -> Any:
        """What is printed of a value."""
        if not isinstance(value, Symbol):
            return str(value)
        if isinstance(value, Text):
            return value
        return tracked(value.trace, f"str({value.source})", str(value.value), value.turn)

    def holds(self, item: Any, container: Any) -> bool:
        """`item in container`."""
        if isinstance(item, Text) and isinstance(container, str):
            return bool(item.trace.observe(f"({item.source} in {container!r})", item.value in container))
        return item in container

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`, a method first."""
        if not isinstance(obj, Symbol):
            return super().getattr(obj, attribute)
        if attribute.startswith("_") or not hasattr(obj.value, attribute):
            return self._item(obj, attribute)
        if isinstance(obj, Text | Structure | Strings):
            return obj.method(attribute)
        raise Untracked(f"attribute {attribute} of a number")

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`, an item first."""
        if not isinstance(obj, Symbol):
            return super().getitem(obj, argument)
        found = self._item(obj, argument)
        if isinstance(found, jinja2.Undefined) and isinstance(argument, str) and hasattr(obj.value, argument):
            return self.getattr(obj, argument)
        return found

    def _item(self, obj: Any, key: Any) -> Any:
        try:
            return obj[key]
        except (TypeError, LookupError):
            return self.undefined(obj=obj, name=key)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`function(…)`."""
        check_width(getattr(function, "__name__", ""), args, kwargs)
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str) and function.__name__ == "join" and len(args) == 1:
            return self._join(args[0], owner)
        return self._counted(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operator that can make large things."""
        if not (isinstance(left, Symbol) or isinstance(right, Symbol)):
            check_operator(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def _counted(self, value: Any) -> Any:
        if isinstance(value, str | list | tuple):
            self.step(1 + len(value) // 64)
        return value

    def _range(self, *args: Any) -> range:
        numbers = range(*args)
        self.step(len(numbers))
        return numbers

    def _now(self, form: str) -> str:
        if self._date is None:
            raise MissingDateError(
                "the chat template prints today's date (strftime_now), so its output would differ from day to day; "
                "give the date that it is to print"
            )
        return datetime.datetime.combine(self._date, datetime.time()).strftime(form)

    def _filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that tracks contents, or says that it doesn't."""
        begin = 0 if _PassArg.from_obj(function) is None else 1

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            check_width(name, args[begin + 1 :], kwargs)
            if name == "join" and self.trace is not None and args[begin + 2 :] == () and not kwargs:
                return self._join(*args[begin:])
            if self.trace is None or not _may_hold_symbol((args[begin:], kwargs)):
                return self._counted(function(*args, **kwargs))
            return self._tracked(name, function, args, begin, kwargs)

        return call

    def _tracked(self, name: str, function: Any, args: tuple[Any, ...], begin: int, kwargs: dict[str, Any]) -> Any:
        value, rest = args[begin], args[begin + 1 :]
        if name == "tojson" and self.trace is not None:
            options = "".join(f", {source_of(option)}" for option in rest)
            options += "".join(f", {key}={source_of(option)}" for key, option in kwargs.items())
            shown = dumps(plain(value), *plain(rest), **plain(kwargs))
            return tracked(self.trace, f"dumps({source_of(value)}{options})", shown, turn_of(value))
        if name in ("length", "count") and isinstance(value, Text | Structure | Strings):
            return value.length()
        if name == "items" and isinstance(value, Structure):
            return value.method("items")()
        if name == "dictsort" and not rest and kwargs.keys() <= {"case_sensitive", "reverse"}:  # by keys, that is
            return function(dict(value.method("items")()) if isinstance(value, Structure) else value, **kwargs)
        if name == "string" and isinstance(value, Symbol):
            return self.shown(value)
        if isinstance(value, Text):
            if name == "safe":
                return Text(value.trace, value.pieces, safe=True)
            if name in ("trim", "lower", "upper", "replace"):
                return value.method("strip" if name == "trim" else name)(*rest, **kwargs)
            if name in ("first", "last"):
                return self.getitem(value, 0 if name == "first" else -1)
            if name in ("default", "d"):
                return function(*args, **kwargs)
            if name in PURE and not holds_symbol((rest, kwargs)):
                value.changed()
                options = "".join(f", {source_of(option)}" for option in rest)
                options += "".join(f", {key}={source_of(option)}" for key, option in kwargs.items())
                made = function(value.value, *rest, **kwargs)
                return tracked(value.trace, f"filter_{name}({value.source}{options})", made, value.turn)
            raise Untracked(f"filter {name} of a content")
        if name in ("min", "max") and not rest and not kwargs:
            numbers = list(value)
            if all(isinstance(one, int | Number) for one in numbers):
                return function(*args[:begin], numbers)
        if name in _THROUGH and not holds_symbol((rest, kwargs)):
            return function(*args, **kwargs)
        raise Untracked(f"filter {name} of what is made of contents")

    def _join(self, parts: Any, between: Any = "") -> Any:
        """`join`, where a part may be a Text."""
        found: list[Any] = []
        for part in parts:
            found += [between, self.shown(part)] if found else [self.shown(part)]
        return self.concat(found)


def _may_hold_symbol(value: Any) -> bool:
    """Whether a value is made of contents; an iterator may be."""
    if isinstance(value, list | tuple):
        return any(map(_may_hold_symbol, value))
    if isinstance(value, dict):
        return any(map(_may_hold_symbol, value.values()))
    return not isinstance(value, str | int | float | range | jinja2.Undefined | None)


def _test(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A test that tracks contents, or says that it doesn't."""
    begin = 0 if _PassArg.from_obj(function) is None else 1

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if isinstance(args[begin], Symbol) and name in _OF_TYPE:
            return function(*plain(args), **kwargs)
        if name in _COMPARING or not any(isinstance(arg, Symbol) for arg in args):
            return function(*args, **kwargs)
        raise Untracked(f"test {name} of a content")

    return call


def _refuse(message: Any) -> None:
    raise RefusedError(message)
