"""A benchmark's command line, and its figures as `python -m tests.bench` reads them."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

AT_LEAST, AT_MOST = DIRECTIONS = ("at_least", "at_most")


@dataclass(frozen=True)
class Figure:
    """One number of a benchmark; `bar` is None where nothing was asked for."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    direction: str = AT_LEAST

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.direction == AT_MOST else self.value >= self.bar

    def to_json(self) -> dict[str, Any]:
        """Its keys; what is as by default is left out."""
        value: dict[str, Any] = {"name": self.name, "value": self.value, "unit": self.unit}
        if self.bar is not None:
            value["bar"] = self.bar
        if self.direction != AT_LEAST:
            value["direction"] = self.direction
        return value


def figures_line(bench: str, figures: Sequence[Figure]) -> str:
    """The last line that benchmark `bench` prints."""
    return json.dumps({"bench": bench, "figures": [figure.to_json() for figure in figures]})


def arguments(doc: str | None, quick: str) -> argparse.ArgumentParser:
    """The parser that every benchmark starts from; `quick` says what --quick makes of it."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser
