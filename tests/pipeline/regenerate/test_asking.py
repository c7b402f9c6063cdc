"""Asking many at once: what is in hand is kept, whatever ends it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tokenmill.pipeline.recipe.regenerate import Regenerate
from tokenmill.pipeline.regenerate.asking import Ask, ask_all
from tokenmill.pipeline.regenerate.endpoint import EndpointError, Outcome

SETTINGS = Regenerate(endpoint="http://x/v1", model="m", concurrency=4)


class SlowLedger:
    """Writes slowly, and notes what it wrote together."""

    def __init__(self, pause_s: float = 0.01) -> None:
        self.pause_s = pause_s
        self.batches: list[list[int]] = []
        self.folded = False

    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        time.sleep(self.pause_s)
        self.batches.append([row["sample"] for row in rows])

    def fold(self) -> None:
        self.folded = True


class TellingEndpoint:
    """Does with each sample what it is told to: answer, fail, be refused, or end it all after a pause."""

    def __init__(self, told: Mapping[int, str]) -> None:
        self.told = told
        self.asked: list[int] = []

    async def __aenter__(self) -> "TellingEndpoint":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def ask(self, request: bytes, body: Mapping[str, Any]) -> Outcome:
        number = body["number"]
        self.asked.append(number)
        what = self.told.get(number, "answer")
        if what == "end":
            await asyncio.sleep(0.05)
            raise EndpointError("enough")
        if what == "answer":
            return Outcome(1, message="{}", completion_tokens=3)
        return Outcome(1, failure="timeout", detail="slow", is_refusal=what == "refuse")


def ask(count: int, told: Mapping[int, str], settings: Regenerate = SETTINGS) -> tuple[SlowLedger, TellingEndpoint]:
    ledger, endpoint = SlowLedger(), TellingEndpoint(told)
    asks = ([Ask(bytes(16), "p:0", number, {"number": number})] for number in range(count))
    try:
        ask_all(settings, endpoint, ledger, asks, lambda pace: None)  # type: ignore[arg-type]
    finally:
        assert ledger.folded
        done = [number for batch in ledger.batches for number in batch]
        assert len(done) == len(set(done))
    return ledger, endpoint


def test_answers_that_come_while_others_are_written_are_written_together():
    ledger, endpoint = ask(9, {})
    assert sorted(number for batch in ledger.batches for number in batch) == list(range(9)) == sorted(endpoint.asked)
    assert len(ledger.batches) < 9


def test_what_is_answered_when_it_ends_is_entered():
    ledger, endpoint = SlowLedger(pause_s=0.3), TellingEndpoint({3: "end"})
    asks = iter([[Ask(bytes(16), "p:0", number, {"number": number}) for number in range(9)]])
    with pytest.raises(EndpointError, match="enough"):  # while 0 is written, 1 and 2 wait, and 3 ends it
        ask_all(SETTINGS, endpoint, ledger, asks, lambda pace: None)  # type: ignore[arg-type]
    assert sorted(number for batch in ledger.batches for number in batch) == [0, 1, 2]
    assert endpoint.asked == [0, 1, 2, 3]


@pytest.mark.parametrize(("what", "limit", "message"), [("fail", 5, "5 requests in a row"), ("refuse", 32, "first 32")])
def test_it_ends_when_nothing_is_answered(what: str, limit: int, message: str):
    with pytest.raises(EndpointError, match=message):
        ask(60, dict.fromkeys(range(60), what))
    ask(limit - 1, dict.fromkeys(range(60), what))


def test_answers_in_between_let_it_go_on():
    failing = {number: "fail" for number in range(60) if number % 4}
    ask(24, failing, SETTINGS.model_copy(update={"concurrency": 1}))
    ask(80, {number: "refuse" for number in range(1, 80)}, SETTINGS.model_copy(update={"concurrency": 8}))


def test_a_ledger_that_cannot_be_written_ends_it():
    class Full(SlowLedger):
        def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
            raise OSError(28, "No space left on device")

    asks = iter([[Ask(bytes(16), "p:0", number, {"number": number}) for number in range(9)]])
    with pytest.raises(OSError, match="No space left"):
        ask_all(SETTINGS, TellingEndpoint({}), Full(), asks, lambda pace: None)  # type: ignore[arg-type]
