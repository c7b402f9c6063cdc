"""One request to an OpenAI-compatible endpoint, tried again while that may help, and what came of it.

| what happens | failure | tried again |
|---|---|---|
| no answer within `timeout_s` | timeout | yes |
| connection refused, reset, closed before an answer | connection | yes |
| body shorter than announced | half_body | yes |
| no HTTP; no JSON; JSON without an answer in it | bad_http, bad_json, bad_answer | yes |
| 408, 429, 5xx | http_429, … | yes |
| 401, 403, 404, 405, a redirect | | no: no request will fare better, `EndpointError` |
| other 4xx | http_400, … | no |
| body over 64 MiB | long_body | no |

Pauses: a second, doubled each time, up to a minute, shortened by up to a half by a hash of the request; `Retry-After`,
in seconds or as a date, where it is longer, up to `timeout_s`.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from tokenmill.pipeline.extraction.encoding import clean
from tokenmill.pipeline.recipe.regenerate import Regenerate
from tokenmill.pipeline.retries import pause_seconds

FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_CONNECT_S = 30.0
_MAX_BODY_BYTES = 64 << 20
_DETAIL_CHARACTERS = 500
#: Statuses that say something about the endpoint, its key or its model, not about a prompt.
_ENDPOINTS = {301, 302, 303, 307, 308, 401, 403, 404, 405}
#: What is kept of an answer's message.
_KEPT = ("content", "reasoning_content", "reasoning", "thinking", "tool_calls", "refusal")


class EndpointError(ValueError):
    """The endpoint answers no request; the message says which, what it said and what to do."""


@dataclass(frozen=True)
class Outcome:
    """What came of a request; either `message` or `failure` is None.

    Attributes:
        tries: how many there were.
        message: JSON of the answer's message.
        finish_reason: as the endpoint says; None: it does not.
        model: as above.
        prompt_tokens: as above.
        completion_tokens: as above.
        failure: short, without spaces.
        detail: of a failure, for people.
        is_refusal: of a failure, whether the endpoint understood the request and would not have it.
    """

    tries: int
    message: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    failure: str | None = None
    detail: str | None = None
    is_refusal: bool = False


class _Trouble(Exception):
    """A try failed; whether another may help, and not before how many seconds."""

    def __init__(self, failure: str, detail: str, again: bool = True, after_s: float = 0.0) -> None:
        super().__init__(failure, detail)
        self.failure = failure
        self.detail = detail
        self.again = again
        self.after_s = after_s


class Endpoint:
    """An endpoint, with connections open while it is entered."""

    def __init__(self, settings: Regenerate, environ: Mapping[str, str] = os.environ) -> None:
        """Take the settings, and the key from the environment.

        Raises:
            EndpointError: the variable that should hold the key is not set.
        """
        self._settings = settings
        self._url = f"{settings.endpoint}/chat/completions"
        self._key = ""
        if settings.api_key_env is not None:
            self._key = environ.get(settings.api_key_env, "")
            if not self._key:
                raise EndpointError(
                    f"the key for {settings.endpoint} should be in ${settings.api_key_env}, which is not set: export it"
                )
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Endpoint":
        timeout = aiohttp.ClientTimeout(
            total=self._settings.timeout_s, sock_connect=min(_CONNECT_S, self._settings.timeout_s)
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._settings.concurrency),
            timeout=timeout,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(self, request: bytes, body: Mapping[str, Any]) -> Outcome:
        """Ask until there is an answer, or no more tries.

        Args:
            request: its hash.
            body: its JSON.

        Raises:
            EndpointError: the endpoint will have no request.
        """
        data = json.dumps(body, ensure_ascii=False).encode()
        tries = 0
        while True:
            tries += 1
            try:
                return self._read(await self._answer(data), tries)
            except _Trouble as trouble:
                if not trouble.again or tries > self._settings.retries:
                    told = self._without_key(trouble.detail)[:_DETAIL_CHARACTERS]
                    return Outcome(tries, failure=trouble.failure, detail=told, is_refusal=not trouble.again)
                pause_s = min(_LONGEST_PAUSE_S, pause_seconds(request.hex(), tries, FIRST_PAUSE_S))
                await asyncio.sleep(max(pause_s, min(trouble.after_s, self._settings.timeout_s)))

    async def _answer(self, data: bytes) -> Any:
        """The JSON that one try brings."""
        assert self._session is not None
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(self._url, data=data, headers=headers, allow_redirects=False) as response:
                text = await _body(response)
                status, after = response.status, response.headers.get("Retry-After")
        except TimeoutError:
            raise _Trouble("timeout", f"no answer within {self._settings.timeout_s:g} s") from None
        except aiohttp.ClientPayloadError as error:
            raise _Trouble("half_body", str(error)) from None
        except aiohttp.ClientConnectionError as error:
            raise _Trouble("connection", f"{type(error).__name__}: {error}") from None
        except aiohttp.ClientError as error:
            raise _Trouble("bad_http", f"{type(error).__name__}: {error}") from None
        if status in _ENDPOINTS:
            said = self._without_key(clean(text.decode(errors="replace")))[:_DETAIL_CHARACTERS]
            raise EndpointError(
                f"{self._url} answers {status} to model {self._settings.model!r}: {said!r}; check `endpoint`, "
                "`model` and `api_key_env` (the variable that holds the key), and run the same command again"
            )
        if status != 200:
            again = status in (408, 429) or status >= 500
            raise _Trouble(f"http_{status}", clean(text.decode(errors="replace")), again, _seconds(after))
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _Trouble("bad_json", f"{type(error).__name__}: {error}") from None

    def _read(self, value: Any, tries: int) -> Outcome:
        try:
            choice = value["choices"][0]
            message = {name: choice["message"][name] for name in _KEPT if choice["message"].get(name) is not None}
            if not isinstance(message.get("content", ""), str) or not isinstance(message.get("tool_calls", []), list):
                raise TypeError("its content is no text, or its tool_calls are no list")
            usage = value.get("usage") or {}
            return Outcome(
                tries,
                clean(json.dumps({"role": "assistant", **message}, ensure_ascii=False)),
                _text(choice.get("finish_reason")),
                _text(value.get("model")),
                _count(usage.get("prompt_tokens")),
                _count(usage.get("completion_tokens")),
            )
        except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise _Trouble("bad_answer", f"{type(error).__name__}: {error}, in {str(value)[:200]!r}") from None

    def _without_key(self, text: str) -> str:
        """What an endpoint says, which may quote the key."""
        return text.replace(self._key, "…") if self._key else text


async def _body(response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_BODY_BYTES:
            response.close()
            raise _Trouble("long_body", f"its body has more than {_MAX_BODY_BYTES:,} bytes", again=False)
    return b"".join(pieces)


def _seconds(after: str | None) -> float:
    """What a Retry-After says: seconds, or a date; 0 where it says nothing."""
    if after is None:
        return 0.0
    if after.strip().isdecimal() and len(after) < 10:
        return float(after)
    try:
        date = parsedate_to_datetime(after)
        return (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0


def _text(value: Any) -> str | None:
    return None if value is None else clean(str(value))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << 31 else None
