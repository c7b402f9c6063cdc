"""An OpenAI-compatible endpoint on this machine that misbehaves when told to."""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: What a request is answered with: a fault, or the fields of a choice.
Behaviour = Callable[[Mapping[str, Any], int], str | Mapping[str, Any]]


def reply(body: Mapping[str, Any]) -> str:
    """An answer that follows from the request alone."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return f"Answer {digest[:12]} to: {body['messages'][-1]['content'][:40]}"


def well(body: Mapping[str, Any], count: int) -> Mapping[str, Any]:
    """Answers at once."""
    return {"message": {"role": "assistant", "content": reply(body)}, "finish_reason": "stop"}


class EndpointServer:
    """Listens on 127.0.0.1; `behaviour(body, count)` says what befalls the count-th request of that body.

    Faults: "hang", "drop", "half", "garbage", "no json", "no choice", "redirect", "401", "400", "500", "503", or
    "429:<Retry-After>"; a mapping is a choice, and "delay_s" in it a pause before it is sent.

    Attributes:
        counts: requests by body (JSON).
        answered: whole answers sent by body.
        headers: of the last request.
        at_once: the most that were under way together.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.counts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.headers: Mapping[str, str] = {}
        self.at_once = self.under_way = 0
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = False
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        """Base of the endpoint."""
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    @property
    def requests(self) -> int:
        """How many came."""
        return sum(self.counts.values())

    def stop(self) -> None:
        """End it; what hangs is let go."""
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that was killed is no news."""


def _handler(owner: EndpointServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 0.5  # an idle connection does not hold the server's end up

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"])).decode()
            with owner.lock:
                owner.counts[data] += 1
                owner.headers = dict(self.headers)
                owner.under_way += 1
                owner.at_once = max(owner.at_once, owner.under_way)
                count = owner.counts[data]
            try:
                self._answer(data, owner.behaviour(json.loads(data), count))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with owner.lock:
                    owner.under_way -= 1

        def _answer(self, data: str, told: str | Mapping[str, Any]) -> None:
            if isinstance(told, Mapping):
                choice = dict(told)
                time.sleep(choice.pop("delay_s", 0))
                usage = {"prompt_tokens": 7, "completion_tokens": 5}
                value = {"model": "served", "choices": [choice], "usage": usage}
                self._send(200, json.dumps(value).encode())
                with owner.lock:
                    owner.answered[data] += 1
            elif told == "hang":
                owner.released.wait(20)
                self.close_connection = True
            elif told == "drop":
                self.close_connection = True
            elif told == "half":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices": [{"message"')
                self.close_connection = True
            elif told == "garbage":
                self.wfile.write(b"\x00\x01 this is not HTTP\r\n\r\n")
                self.close_connection = True
            elif told == "no json":
                self._send(200, b"<html>busy</html>")
            elif told == "no choice":
                self._send(200, b'{"choices": []}')
            elif told == "redirect":
                self._send(307, b"", {"Location": "http://127.0.0.1:1/v1"})
            else:
                status, _, after = told.partition(":")
                said = f"status {status}, {self.headers.get('Authorization', 'no key')}"
                self._send(int(status), said.encode(), {"Retry-After": after} if after else {})

        def _send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(behaviour: Behaviour = well) -> Iterator[EndpointServer]:
    """A server while the block runs."""
    server = EndpointServer(behaviour)
    try:
        yield server
    finally:
        server.stop()


def number_in(body: Mapping[str, Any]) -> int:
    """The first number in the last message."""
    found = re.search(r"\d+", body["messages"][-1]["content"])
    assert found is not None
    return int(found[0])
