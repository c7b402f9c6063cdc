"""What a template may ask for: how much it may print, and how large a thing it may make at once."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

MOST_STEPS = 2_000_000
MOST_PRINTED = 1 << 26
#: Longest string or list that `+` and `*` may make, and largest number that says how wide something is to be.
MOST_SIZE = 1 << 24
#: Filters and methods with such a number.
_WIDE = {"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "wordwrap", "truncate", "batch", "slice"}
_WIDE |= {"tojson"}
#: A form of `%` that is wide, or takes its width from what is shown.
_WIDE_FORM = re.compile(r"%[^a-zA-Z%]*(\d{7}|\*)")


class EndlessError(Exception):
    """A template that takes too many steps, or asks for too large a thing."""


def check_width(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise EndlessError where a filter or method is to make something too wide."""
    if name in _WIDE and any(isinstance(value, int) and abs(value) > MOST_SIZE for value in (*args, *kwargs.values())):
        raise EndlessError(f"{name} is to make something too large")


def check_operator(operator: str, left: Any, right: Any) -> None:
    """Raise EndlessError where `left operator right` makes something too large."""
    if operator == "%":
        size = MOST_SIZE + 1 if isinstance(left, str) and _WIDE_FORM.search(left) else 0
    elif isinstance(left, int) and isinstance(right, int):  # in bits
        size = 0 if operator == "+" else left.bit_length() * (right if operator == "**" else 1) + right.bit_length()
    elif operator == "+":
        size = sum(len(side) for side in (left, right) if isinstance(side, str | list | tuple))
    else:
        size = len(left) * right if isinstance(right, int) and isinstance(left, str | list | tuple) else 0
        size = len(right) * left if isinstance(left, int) and isinstance(right, str | list | tuple) else size
    if size > MOST_SIZE:
        raise EndlessError(f"{operator} makes something too large")
