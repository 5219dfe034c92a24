"""An HTTP proxy before Prometheus or the API server that counts requests and injects faults."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

CHUNK = 1 << 16
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host"})
BODILESS = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Request:
    """One request that came; `path` without the query string, `at` in seconds since the epoch."""

    method: str
    path: str
    query: str
    body: bytes
    at: float

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"


@dataclass(slots=True)
class Fault:
    """What happens to the requests that it matches; the fields add up in this order.

    Attributes:
        matches: which requests; all, unless said.
        times: how many of them before it wears off; None never does.
        before: called first, for instance to delete what the request is about to patch.
        delay_s: wait that long before anything is sent on.
        cut: close the connection without an answer; the request is not sent on.
        status: answer so, with `body` and `headers`; the request is not sent on.
        cut_after: send it on, then close the connection without passing the answer.

    """

    matches: Callable[[Request], bool] = lambda _: True
    times: int | None = None
    before: Callable[[], None] | None = None
    delay_s: float = 0.0
    cut: bool = False
    status: int = 0
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    cut_after: bool = False


class Proxy:
    """Listens, sends on to `upstream` ("http://..." or "https://...").

    `serve_tls` makes it listen on HTTPS. Where `token` is set, who does not show it is refused.
    """

    def __init__(
        self,
        upstream: str,
        ca_file: Path | None = None,
        serve_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.token = ""
        self.serve_tls = serve_tls
        self.upstream: SplitResult = urlsplit(upstream)
        self.tls = ssl.create_default_context(cafile=ca_file) if ca_file else None
        self._requests: list[Request] = []
        self._faults: list[Fault] = []
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = _Server(self)
        scheme = "http" if serve_tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving and cut what is open."""
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self.cut_connections()
        self._server.server_close()

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[Fault]:
        """Inject `fault` inside the block."""
        self.add_fault(fault)
        try:
            yield fault
        finally:
            self.remove_fault(fault)

    def add_fault(self, fault: Fault) -> None:
        """Inject `fault` until it wears off or is removed; an earlier one goes first."""
        with self._lock:
            self._faults.append(fault)

    def remove_fault(self, fault: Fault) -> None:
        """End it; harmless when it wore off."""
        with self._lock:
            self._faults = [other for other in self._faults if other is not fault]

    def requests(self, path: str = "", *, writes: bool = False) -> list[Request]:
        """What came since the last `forget`, by the beginning of its path."""
        with self._lock:
            return [
                request
                for request in self._requests
                if request.path.startswith(path) and (request.writes or not writes)
            ]

    def forget(self) -> None:
        """Count from zero."""
        with self._lock:
            self._requests.clear()

    def cut_connections(self) -> None:
        """Cut every open connection: a watch ends in the middle."""
        with self._lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def note(self, request: Request) -> Fault | None:
        """Count the request; return the fault that befalls it."""
        with self._lock:
            self._requests.append(request)
            for fault in self._faults:
                if fault.times == 0 or not fault.matches(request):
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the test."""
        self._stopping.wait(seconds)

    def opened(self, connection: socket.socket) -> None:
        """A client came."""
        with self._lock:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """It went."""
        with self._lock:
            self._connections.discard(connection)

    def connect(self) -> HTTPConnection:
        """A new connection to the upstream."""
        host, port = str(self.upstream.hostname), self.upstream.port
        if self.upstream.scheme == "https":
            return HTTPSConnection(host, port, context=self.tls)
        return HTTPConnection(host, port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection; its handshake is the handler's, so that nobody waits for another's."""
        connection, address = super().get_request()
        tls = self.proxy.serve_tls
        if tls is None:
            return connection, address
        return tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A cut connection is what a fault is for; all else is reported."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.proxy.opened(self.connection)

    def finish(self) -> None:
        self.server.proxy.closed(self.connection)
        super().finish()

    def _handle(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        fault = proxy.note(Request(self.command, path, query, body, time.time())) or Fault()
        if fault.before:
            fault.before()
        proxy.pause(fault.delay_s)
        shown = self.headers.get("Authorization", "")
        if proxy.token and shown != f"Bearer {proxy.token}":
            self._answer(401, {}, b"who are you?")
        elif fault.cut:
            self.close_connection = True
        elif fault.status:
            self._answer(fault.status, fault.headers, fault.body)
        else:
            self._send_on(body, pass_answer=not fault.cut_after)

    # The names by which http.server calls.
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_on(self, body: bytes, *, pass_answer: bool) -> None:
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP
        }
        upstream = self.server.proxy.connect()
        try:
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            if pass_answer:
                self._pass(answer)
            else:
                answer.read()
                self.close_connection = True
        except (OSError, HTTPException):
            # An upstream that is down looks like one: no answer at all.
            self.close_connection = True
        finally:
            upstream.close()

    def _pass(self, answer: HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        chunked = answer.getheader("Content-Length") is None and answer.status not in BODILESS
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        # Pieces go on as they come: a watch never ends by itself.
        while piece := answer.read1(CHUNK):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """No line for each request."""
