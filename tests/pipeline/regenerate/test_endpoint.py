"""One request to an endpoint that behaves badly."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.pipeline.regenerate.endpoint_server import EndpointServer, serving, well
from tokenmill.pipeline.recipe.regenerate import Regenerate
from tokenmill.pipeline.regenerate import endpoint as endpoint_module
from tokenmill.pipeline.regenerate.endpoint import Endpoint, EndpointError, Outcome

BODY = {"model": "m", "messages": [{"role": "user", "content": "Why 1?"}]}


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_PAUSE_S", 0.001)


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with serving() as found:
        yield found


def asked(url: str, environ: Mapping[str, str] | None = None, **settings: Any) -> Outcome:
    told = Regenerate.model_validate({"endpoint": url, "model": "m", "retries": 2, **settings})

    async def go() -> Outcome:
        async with Endpoint(told, environ or {}) as found:
            return await found.ask(b"\0" * 16, BODY)

    return asyncio.run(go())


def first(fault: str, times: int) -> Callable[[Any, int], Any]:
    return lambda body, count: fault if count <= times else well(body, count)


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("drop", "connection"),
        ("half", "half_body"),
        ("garbage", "bad_http"),
        ("no json", "bad_json"),
        ("no choice", "bad_answer"),
        ("500", "http_500"),
        ("503", "http_503"),
        ("429:0", "http_429"),
        ("hang", "timeout"),
    ],
)
def test_what_passes_is_tried_again_and_what_does_not_is_a_failure(server: EndpointServer, fault: str, failure: str):
    timeout = 0.3 if fault == "hang" else 20
    server.behaviour = first(fault, 2)
    outcome = asked(server.url, timeout_s=timeout)
    assert (outcome.failure, outcome.tries, server.requests) == (None, 3, 3)
    assert json.loads(outcome.message or "") == {"role": "assistant", "content": well(BODY, 1)["message"]["content"]}
    assert (outcome.finish_reason, outcome.model) == ("stop", "served")
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (7, 5)
    server.counts.clear()
    server.behaviour = first(fault, 9)
    outcome = asked(server.url, timeout_s=timeout)
    assert (outcome.failure, outcome.tries, server.requests) == (failure, 3, 3)
    assert outcome.message is None
    assert not outcome.is_refusal


def test_an_endpoint_that_is_not_there():
    with serving() as server:
        url = server.url
    outcome = asked(url)
    assert (outcome.failure, outcome.tries) == ("connection", 3)
    assert "Connect" in str(outcome.detail)


def test_retry_after_is_heeded_up_to_the_time_limit(server: EndpointServer):
    server.behaviour = first("429:1", 1)
    started = time.monotonic()
    assert asked(server.url).failure is None
    assert time.monotonic() - started >= 1
    server.counts.clear()
    server.behaviour = first("429:99999", 1)
    assert asked(server.url, timeout_s=0.5).failure is None


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(None, 0), ("3", 3), ("soon", 0), ("9" * 40, 0), ("-1", 0), ("Sun, 99 Nov 9999 99:99:99 GMT", 0)],
)
def test_what_retry_after_says(told: str | None, seconds: float):
    assert endpoint_module._seconds(told) == seconds


def test_retry_after_may_be_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 95 < endpoint_module._seconds(date) <= 100


def test_a_prompt_that_is_refused_is_not_asked_again(server: EndpointServer):
    server.behaviour = first("400", 9)
    outcome = asked(server.url)
    assert (outcome.failure, outcome.tries, outcome.is_refusal) == ("http_400", 1, True)
    assert outcome.detail == "status 400, no key"


@pytest.mark.parametrize("fault", ["401", "404", "redirect"])
def test_an_endpoint_that_will_have_nothing_ends_it(server: EndpointServer, fault: str):
    server.behaviour = first(fault, 9)
    with pytest.raises(EndpointError, match="check `endpoint`, `model` and `api_key_env`") as error:
        asked(server.url)
    assert f"answers {fault.replace('redirect', '307')} to model 'm'" in str(error.value)
    assert server.requests == 1


def test_the_key_is_sent_and_said_to_nobody(server: EndpointServer):
    settings = {"api_key_env": "MY_KEY", "retries": 0}
    asked(server.url, {"MY_KEY": "sk-secret"}, **settings)
    assert server.headers["Authorization"] == "Bearer sk-secret"
    for fault in ("400", "500"):
        server.behaviour = first(fault, 9)
        assert asked(server.url, {"MY_KEY": "sk-secret"}, **settings).detail == f"status {fault}, Bearer …"
    server.behaviour = first("401", 9)
    with pytest.raises(EndpointError, match="Bearer …") as error:
        asked(server.url, {"MY_KEY": "sk-secret"}, **settings)
    assert "sk-secret" not in str(error.value)
    with pytest.raises(EndpointError, match=r"should be in \$MY_KEY, which is not set"):
        asked(server.url, {}, **settings)


def test_what_an_answer_may_hold(server: EndpointServer):
    message = {"role": "assistant", "content": "a\ud800b\0", "reasoning_content": "r", "tool_calls": [], "audio": None}
    server.behaviour = lambda body, count: {"message": message, "finish_reason": None}
    outcome = asked(server.url)
    assert json.loads(outcome.message or "")["reasoning_content"] == "r"
    assert outcome.finish_reason is None
    (outcome.message or "").encode()
    for wrong in ({"message": {"content": 7}}, {"message": None}, {"text": "old"}, {"message": {"tool_calls": "x"}}):
        server.behaviour = lambda body, count, wrong=wrong: wrong
        assert asked(server.url, retries=0).failure == "bad_answer"


def test_a_body_without_end_is_not_held(server: EndpointServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(endpoint_module, "_MAX_BODY_BYTES", 100)
    server.behaviour = lambda body, count: {"message": {"content": "x" * 1000}}
    outcome = asked(server.url)
    assert (outcome.failure, outcome.tries) == ("long_body", 1)
