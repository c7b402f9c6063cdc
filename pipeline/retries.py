"""Trying again what fails for the moment: time-outs, dropped connections, a store's 5xx and throttling, short answers.

Pauses grow from a quarter of a second, doubled each time, and are shortened by up to a half, by a hash of what is read
and of the number of the try: a thousand ranks that fail together do not come back together, and a run is as it was.
The libraries below try again by themselves, some seconds long; this stands above them and outlasts them.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import xxhash

T = TypeVar("T")
TRIES = 5
FIRST_PAUSE_SECONDS = 0.25
#: What file systems, networked ones too, answer for a while.
_ERRNOS = {
    *(errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH),
}
#: What a store says in words: throttling comes as 400 from some.
_CODES = {"RequestTimeout", "RequestLimitExceeded", "SlowDown", "Throttling", "ThrottlingException"}
#: Errors of botocore, aiohttp and http.client that no common class of the standard library stands above.
_CLASSES = {
    *("ConnectionError", "HTTPClientError", "IncompleteRead", "IncompleteReadError", "ResponseParserError"),
    *("ClientConnectionError", "ClientPayloadError"),
}

_log = logging.getLogger(__name__)


class ShortAnswerError(OSError):
    """A store sent fewer bytes than were asked for, and the file has them."""


def retried(call: Callable[[], T], what: str, pause: Callable[[float], object] = time.sleep) -> T:
    """What `call` returns, at the first try or one of the next.

    Args:
        call: is repeated while it fails with what `is_transient`; other errors are raised as they are.
        what: names the thing in the error and in the log, such as "reading bytes 0 … 99 of s3://a/b".
        pause: waits so many seconds; it may raise, and so end the waiting.

    Raises:
        OSError: after the last try; says what, how many tries and the last cause.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            cause = f"{type(error).__name__}: {error}"
            if attempt == TRIES:
                raise OSError(f"{what} failed {TRIES} times, the last time with {cause}") from error
            seconds = pause_seconds(what, attempt)
            _log.info("%s failed (try %d of %d), again in %.2f s: %s", what, attempt, TRIES, seconds, cause)
        pause(seconds)
    raise AssertionError("the last try returns or raises")


def pause_seconds(what: str, attempt: int, first: float = FIRST_PAUSE_SECONDS) -> float:
    """How long to wait after the `attempt`-th try, counted from 1; after the first, `first` at most."""
    jitter = xxhash.xxh3_64_intdigest(f"{attempt} {what}".encode()) / 2**64
    return float(first * 2 ** (attempt - 1) * (1 - jitter / 2))


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later. What a store answered decides, where it did answer."""
    for cause in _causes(error):
        status = _status(cause)
        if status is not None:
            return status[0] >= 500 or status[0] in (408, 429) or status[1] in _CODES
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    if isinstance(error, TimeoutError | ConnectionError | EOFError | ShortAnswerError):
        return True
    if _CLASSES & {base.__name__ for base in type(error).__mro__}:
        return True
    return isinstance(error, OSError) and error.errno in _ERRNOS


def is_past_end(error: BaseException) -> bool:
    """Whether a store refused a range because the file ends before it."""
    return any(status is not None and status[0] == 416 for status in map(_status, _causes(error)))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those it was raised from."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _status(error: BaseException) -> tuple[int, str] | None:
    """HTTP status and code of an answer that botocore made an error of."""
    answer = getattr(error, "response", None)
    if not isinstance(answer, dict):
        return None
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return int(status), str(answer.get("Error", {}).get("Code", ""))
