"""What happens to every request: its id, the token, the log line, the numbers."""

from __future__ import annotations

import hmac
import re
import uuid
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlloop.clock import Clock
from controlloop.errors import InputError, Problem
from controlloop.rest.bodies import RefusedError, refusal

REQUEST_ID: Final = "X-Request-ID"
# Probes carry no token, and the description of the commands is no secret.
OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
# What probes and scrapers ask every few seconds would drown the log.
QUIET_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
LONGEST_PATH: Final = 200
CLIENT_LEFT: Final = 499
_GOOD_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_BUCKETS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class Token:
    """A bearer token in a file, which is read again when it changes.

    Raises:
        InputError: the file cannot be read, or is empty.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = b""
        try:
            self._refresh()
        except OSError as error:
            raise InputError(
                [Problem("", f"cannot be read: {error.strerror}")], f"token file {path}"
            ) from error
        if not self._token:
            raise InputError([Problem("", "must not be empty")], f"token file {path}")

    def allows(self, authorization: str) -> bool:
        """Whether the header `authorization` carries the token."""
        # While a secret is being replaced, the last one holds.
        with suppress(OSError):
            self._refresh()
        scheme, _, given = authorization.partition(" ")
        # Compared first, so that the time does not tell which of the two was wrong.
        same = hmac.compare_digest(given.strip().encode(errors="replace"), self._token)
        return same and scheme.lower() == "bearer"

    def _refresh(self) -> None:
        status = self._path.stat()
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen != self._seen:
            self._token = self._path.read_bytes().strip() or self._token
            self._seen = seen


class RestMetrics:
    """The server's own metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "controlloop_rest_requests",
            "Requests by command and HTTP status",
            ["command", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "controlloop_rest_request_seconds",
            "Time from a request to the end of its answer",
            ["command"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.under_way = Gauge(
            "controlloop_rest_requests_under_way",
            "Requests that are being answered",
            registry=self.registry,
        )


class Access:
    """ASGI middleware around the whole application.

    Args:
        app: the application.
        token: what every request must carry, but those to `OPEN_PATHS`; None lets all in.
        metrics: where requests are counted.
        clock: measures the time that they take.

    """

    def __init__(
        self, app: ASGIApp, token: Token | None, metrics: RestMetrics, clock: Clock
    ) -> None:
        self._app = app
        self._token = token
        self._metrics = metrics
        self._clock = clock
        self._log = structlog.get_logger("controlloop.rest")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if _GOOD_ID.fullmatch(given) else uuid.uuid4().hex
        status = CLIENT_LEFT
        started = self._clock.monotonic()

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            with self._metrics.under_way.track_inprogress():
                await self._answer(scope, receive, send_marked, headers)
            self._record(scope, status, self._clock.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        if not self._may_enter(scope["path"], headers):
            response = refusal(RefusedError(HTTPStatus.UNAUTHORIZED, "a bearer token is needed"))
            response.headers["WWW-Authenticate"] = "Bearer"
            await response(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            pass
        except Exception as error:  # noqa: BLE001 - whatever fails, the client gets an answer
            self._log.exception("request-failed")
            await refusal(error)(scope, receive, send)

    def _may_enter(self, path: str, headers: Headers) -> bool:
        if self._token is None or path in OPEN_PATHS:
            return True
        return self._token.allows(headers.get("authorization", ""))

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        command = getattr(route, "path_format", "other")
        self._metrics.requests.labels(command, str(status)).inc()
        self._metrics.seconds.labels(command).observe(seconds)
        client = scope.get("client")
        log = self._log.debug if command in QUIET_PATHS else self._log.info
        log(
            "request",
            method=scope["method"],
            path=scope["path"][:LONGEST_PATH],
            status=status,
            milliseconds=round(seconds * 1000, 1),
            client=client[0] if client else "",
        )
