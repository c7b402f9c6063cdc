"""The balance: records in = documents out + dropped, by reason + failed, by reason; at every step, always."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any


class BalanceError(ValueError):
    """A step lost or invented records."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Documents (or records), bytes and tokens. A step counts bytes, tokens or both, by one measure throughout."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.documents + other.documents, self.bytes + other.bytes, self.tokens + other.tokens)


@dataclass(slots=True)
class Balance:
    """One step's books.

    Attributes:
        taken: what came in.
        out: what went on.
        dropped: what a bound, a gate or deduplication took away, by reason.
        failed: what could not be read or parsed, by reason.
    """

    taken: Tally = field(default_factory=Tally)
    out: Tally = field(default_factory=Tally)
    dropped: dict[str, Tally] = field(default_factory=dict)
    failed: dict[str, Tally] = field(default_factory=dict)

    def drop(self, reason: str, tally: Tally) -> None:
        """Book a drop."""
        self.dropped[reason] = self.dropped.get(reason, Tally()) + tally

    def fail(self, reason: str, tally: Tally) -> None:
        """Book a failure."""
        self.failed[reason] = self.failed.get(reason, Tally()) + tally

    def check(self, where: str) -> None:
        """Raise BalanceError, naming `where` and the numbers, unless the books balance."""
        spent = sum_tallies([self.out, *self.dropped.values(), *self.failed.values()])
        if spent != self.taken:
            raise BalanceError(f"{where}: took in {self.taken}, but out + dropped + failed is {spent}: {self}")

    def __add__(self, other: "Balance") -> "Balance":
        total = Balance(self.taken + other.taken, self.out + other.out, dict(self.dropped), dict(self.failed))
        for reason, tally in other.dropped.items():
            total.drop(reason, tally)
        for reason, tally in other.failed.items():
            total.fail(reason, tally)
        return total

    def to_json(self) -> dict[str, Any]:
        """Plain values: each tally is [documents, bytes, tokens]."""
        return {
            "taken": _plain(self.taken),
            "out": _plain(self.out),
            "dropped": {reason: _plain(tally) for reason, tally in sorted(self.dropped.items())},
            "failed": {reason: _plain(tally) for reason, tally in sorted(self.failed.items())},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Balance":
        """Read `to_json` back."""
        return cls(
            Tally(*value["taken"]),
            Tally(*value["out"]),
            {intern(reason): Tally(*tally) for reason, tally in value["dropped"].items()},
            {intern(reason): Tally(*tally) for reason, tally in value["failed"].items()},
        )


def sum_tallies(tallies: Iterable[Tally]) -> Tally:
    """Their sum."""
    return sum(tallies, Tally())


def _plain(tally: Tally) -> list[int]:
    return [tally.documents, tally.bytes, tally.tokens]
