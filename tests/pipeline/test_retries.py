"""What is tried again, how often, and what is said in the end."""

import errno
from http.client import IncompleteRead

import pytest
from aiohttp import ClientPayloadError
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from s3fs.errors import translate_boto_error

from tokenmill.pipeline import retries
from tokenmill.pipeline.retries import ShortAnswerError, is_past_end, is_transient, pause_seconds, retried


def answer(status: int, code: str) -> OSError:
    """What s3fs raises for an answer of a store."""
    return translate_boto_error(
        ClientError({"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Get")
    )


@pytest.mark.parametrize(
    "error",
    [
        *(answer(500, "InternalError"), answer(503, "SlowDown"), answer(429, "TooMany"), answer(408, "Slow")),
        *(answer(400, "RequestTimeout"), TimeoutError(), ConnectionResetError(), BrokenPipeError(), EOFError()),
        *(ShortAnswerError(), IncompleteRead(b""), ClientPayloadError()),
        *(ReadTimeoutError(endpoint_url="u"), ConnectTimeoutError(endpoint_url="u")),
        *(EndpointConnectionError(endpoint_url="u"), OSError(errno.ESTALE, "stale"), OSError(errno.EIO, "disk")),
    ],
    ids=repr,
)
def test_what_passes(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        *(answer(404, "NoSuchKey"), answer(403, "AccessDenied"), answer(416, "InvalidRange"), answer(400, "BadDigest")),
        *(FileNotFoundError(), PermissionError(), IsADirectoryError(), NoCredentialsError(), ValueError(), KeyError()),
        *(OSError(errno.ENOSPC, "full"), OSError("no route")),
    ],
    ids=repr,
)
def test_what_stays(error):
    assert not is_transient(error)
    assert is_past_end(error) == ("InvalidRange" in repr(error.__cause__))


def failing(times: int, error: Exception):
    tries = []

    def call() -> int:
        tries.append(1)
        if len(tries) <= times:
            raise error
        return len(tries)

    return call, tries


def test_a_call_succeeds_at_a_later_try():
    pauses: list[float] = []
    call, _ = failing(3, TimeoutError("slow"))
    assert retried(call, "reading", pauses.append) == 4
    assert pauses == [pause_seconds("reading", attempt) for attempt in (1, 2, 3)]


def test_the_last_try_says_what_and_why():
    call, tries = failing(99, TimeoutError("slow"))
    with pytest.raises(OSError, match=r"^reading x failed 5 times, the last time with TimeoutError: slow$") as raised:
        retried(call, "reading x", lambda _: None)
    assert len(tries) == retries.TRIES == 5
    assert isinstance(raised.value.__cause__, TimeoutError)


def test_what_stays_is_raised_at_once():
    call, tries = failing(99, PermissionError("no"))
    with pytest.raises(PermissionError, match=r"^no$"):
        retried(call, "reading", lambda _: None)
    assert len(tries) == 1


def test_a_pause_may_end_it():
    def closed(_: float) -> None:
        raise KeyboardInterrupt

    call, tries = failing(99, TimeoutError())
    with pytest.raises(KeyboardInterrupt):
        retried(call, "reading", closed)
    assert len(tries) == 1


def test_pauses_double_and_differ_from_one_to_another_and_not_from_run_to_run():
    for attempt in range(1, 5):
        most = retries.FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
        pauses = [pause_seconds(f"file {number}", attempt) for number in range(200)]
        assert all(most / 2 < pause <= most for pause in pauses)
        assert len(set(pauses)) == 200
    assert pause_seconds("reading", 1) == pause_seconds("reading", 1)
