"""A proxy in front of an S3 server that answers some range reads badly."""

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_ERROR = b'<?xml version="1.0"?><Error><Code>%s</Code><Message>made</Message></Error>'
#: Name of a fault, and the status and code of the answer.
ANSWERS = {
    "500": (500, b"InternalError"),
    "503": (503, b"SlowDown"),
    "404": (404, b"NoSuchKey"),
    "403": (403, b"AccessDenied"),
}


class FaultyS3:
    """Forwards to `server` ("host:port"); `fault(path, count)` names what befalls the count-th range read of a path.

    Faults: "500", "503", "404", "403"; "slow": a pause before the answer; "drop": no answer; "cut": the connection
    ends within the answer; "short": an answer with fewer bytes than asked. None: nothing.
    """

    def __init__(self, server: str, fault: Callable[[str, int], str | None]) -> None:
        self.counts: dict[str, int] = {}
        self.fault = fault
        proxy = self
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fault = None
                if "Range" in self.headers:
                    with lock:
                        proxy.counts[self.path] = count = proxy.counts.get(self.path, 0) + 1
                    fault = proxy.fault(self.path, count)
                if fault in ANSWERS:
                    status, code = ANSWERS[fault]
                    self._send(status, {}, _ERROR % code)
                elif fault == "drop":
                    self.close_connection = True
                else:
                    if fault == "slow":
                        time.sleep(0.3)
                    self._forward(fault)

            do_HEAD = do_GET

            def _forward(self, fault: str | None) -> None:
                upstream = http.client.HTTPConnection(server, timeout=60)
                try:
                    upstream.request(self.command, self.path, headers=dict(self.headers))
                    answer = upstream.getresponse()
                    body = answer.read()
                    headers = dict(answer.getheaders())
                finally:
                    upstream.close()
                if fault == "short":
                    body = body[: len(body) // 2]
                self._send(answer.status, headers, body, cut=fault == "cut")

            def _send(self, status: int, headers: dict[str, str], body: bytes, cut: bool = False) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "connection", "server", "date", "transfer-encoding"):
                        self.send_header(name, value)
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = self.close_connection or cut

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
