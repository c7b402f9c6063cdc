"""Ask what the ledger lacks: a bounded number of requests at once, each at rest before the next takes its place.

Answers that come while others are being written are written together, so a fast endpoint does not wait for the disk.
When as many requests in a row as are under way at once found no answer, after all tries, the endpoint is held to be
gone, and the command ends; so it does when the first 32, and at least twice that number, are refused, before any
answer: then it is the request that is wrong, not the prompts.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tokenmill.manifests.receipts import canonical_json
from tokenmill.pipeline.recipe.regenerate import Regenerate
from tokenmill.pipeline.regenerate.endpoint import Endpoint, EndpointError, Outcome
from tokenmill.pipeline.regenerate.ledger import Ledger

_LEAST_IN_A_ROW = 5
_LEAST_REFUSED = 32


class Ask(NamedTuple):
    """A request to be sent.

    Attributes:
        request: its hash.
        document: "part:row".
        sample: its number.
        body: its JSON.
    """

    request: bytes
    document: str
    sample: int
    body: Mapping[str, Any]


class Pace(NamedTuple):
    """How far asking is."""

    done: int
    failed: int
    running: int
    tokens_per_s: float


def ask_all(
    settings: Regenerate, endpoint: Endpoint, ledger: Ledger, asks: Iterator[list[Ask]], told: Callable[[Pace], None]
) -> None:
    """Send requests, and enter into the ledger what came of them.

    Args:
        settings: for their number at once.
        endpoint: not entered yet.
        ledger: that lacks them.
        asks: some at a time; read in another thread, as they are needed.
        told: called when something was entered.

    Raises:
        EndpointError: the endpoint is gone, or will have no request.
    """
    asking = _Asking(settings, endpoint, ledger, asks, told)
    try:
        asyncio.run(asking.go())
    except ExceptionGroup as group:
        raise _first(group) from group
    finally:
        asking.finish()


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The first error in a group, or in groups within it."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


class _Asking:
    def __init__(
        self,
        settings: Regenerate,
        endpoint: Endpoint,
        ledger: Ledger,
        asks: Iterator[list[Ask]],
        told: Callable[[Pace], None],
    ) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._recorder = _Recorder(ledger)
        self._asks = asks
        self._ready: list[Ask] = []
        self._reading = asyncio.Lock()
        self._told = told
        self._started = time.monotonic()
        self._running = self._done = self._failed = self._tokens = self._in_a_row = self._refused = 0

    async def go(self) -> None:
        """Ask all."""
        async with self._endpoint, asyncio.TaskGroup() as group:
            for _ in range(self._settings.concurrency):
                group.create_task(self._work())

    def finish(self) -> None:
        """Enter what came and waits to be entered, when nothing runs any more; then tidy up."""
        self._recorder.finish()

    async def _work(self) -> None:
        while (ask := await self._next()) is not None:
            self._running += 1
            outcome = await self._endpoint.ask(ask.request, ask.body)
            await self._recorder.record(_row(ask, outcome))
            self._running -= 1
            self._count(ask, outcome)

    async def _next(self) -> Ask | None:
        async with self._reading:
            while not self._ready:
                more = await asyncio.to_thread(next, self._asks, None)
                if more is None:
                    return None
                self._ready = more[::-1]
            return self._ready.pop()

    def _count(self, ask: Ask, outcome: Outcome) -> None:
        self._done += 1
        if outcome.failure is None:
            self._tokens += outcome.completion_tokens or 0
            self._in_a_row = 0
        else:
            self._failed += 1
            self._refused += outcome.is_refusal
            self._in_a_row += not outcome.is_refusal
        seconds = max(time.monotonic() - self._started, 1e-9)
        self._told(Pace(self._done, self._failed, self._running, self._tokens / seconds))
        answered = self._done - self._failed
        last = f"the last one, for document {ask.document}: {outcome.failure}, {outcome.detail!r}"
        where = f"{self._settings.endpoint}; {answered:,} answers are in the ledger"
        if self._in_a_row >= max(_LEAST_IN_A_ROW, self._settings.concurrency):
            raise EndpointError(
                f"{self._in_a_row} requests in a row found no answer at {where}; {last}; see to the endpoint, and the "
                "same command goes on"
            )
        if not answered and self._refused >= max(_LEAST_REFUSED, 2 * self._settings.concurrency):
            raise EndpointError(
                f"all of the first {self._refused} requests were refused by {where}; {last}; see to `parameters` and "
                "`model`, and run the same command again"
            )


class _Recorder:
    """Enters answers into a ledger in another thread, together those that come meanwhile."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[Mapping[str, Any], asyncio.Future[None]]] = []
        self._writing = asyncio.Lock()

    async def record(self, row: Mapping[str, Any]) -> None:
        """Returns when the row is at rest."""
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, entered))
        async with self._writing:
            if entered.done():
                return
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(self._ledger.record, [row for row, _ in batch])
            for _, each in batch:
                if not each.done():
                    each.set_result(None)

    def finish(self) -> None:
        """Enter what waits, and make parts of all."""
        if self._waiting:
            self._ledger.record([row for row, _ in self._waiting])
        self._ledger.fold()


def _row(ask: Ask, outcome: Outcome) -> dict[str, Any]:
    """A row of ASKED."""
    return {
        "request": ask.request,
        "document": ask.document,
        "sample": ask.sample,
        "body": canonical_json(ask.body),
        "message": outcome.message,
        "finish_reason": outcome.finish_reason,
        "model": outcome.model,
        "prompt_tokens": outcome.prompt_tokens,
        "completion_tokens": outcome.completion_tokens,
        "failure": outcome.failure,
        "detail": outcome.detail,
        "tries": outcome.tries,
        "known": time.time_ns(),
    }
