"""The optimizer's REST server as an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from controlloop import __version__
from controlloop.api.verdict import Verdict
from controlloop.clock import Clock
from controlloop.errors import ControlLoopError
from controlloop.rest import openapi
from controlloop.rest.access import Access, RestMetrics, Token
from controlloop.rest.bodies import RefusedError, answer, read_body, refusal
from controlloop.rest.commands import COMMANDS, Command
from controlloop.rest.docs_page import docs_page
from controlloop.rest.endpoints import verdict_answer
from controlloop.rest.explaining import Wanted
from controlloop.rest.names import one_name, two_names
from controlloop.rest.solving import Runner

_STATELESS: Final = (
    "this server is stateless: it has /optimizeOne, and every /get... for the data of the last "
    "one; start it with -F (controlloop serve -F) for all commands"
)
_WITHOUT_SCRIPTS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"
}


@dataclass(frozen=True, slots=True)
class AppParts:
    """What the application is made of.

    `ready` tells whether changes can be kept; `token` None lets everybody in.
    """

    runner: Runner
    full: bool
    max_body_bytes: int
    token: Token | None
    ready: Callable[[], Verdict]
    clock: Clock


def optimizer_app(parts: AppParts) -> FastAPI:
    """The application that serves all commands, its own description, health and metrics."""
    metrics = RestMetrics()
    app = FastAPI(
        title="controlloop optimizer",
        version=__version__,
        description="Allocates accelerators, replicas and batch sizes to inference servers. "
        f"This server is {'stateful' if parts.full else 'stateless'}. Keys of bodies are read "
        "without regard to case; unknown keys are ignored.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Access, token=parts.token, metrics=metrics, clock=parts.clock)
    for error in (ControlLoopError, HTTPException):
        app.add_exception_handler(error, _refuse)
    for command in COMMANDS:
        app.add_api_route(
            command.path.replace("}", ":path}"),
            _endpoint(command, parts),
            methods=[command.verb],
            name=command.name,
            operation_id=command.name,
            summary=command.name,
            description=command.summary,
            response_class=Response,
            openapi_extra=openapi.operation(command),
        )
    description = openapi.document(app, with_token=parts.token is not None)
    _add_own(app, parts, metrics, description)
    return app


def _endpoint(command: Command, parts: AppParts) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if command.needs_full and not parts.full:
            raise RefusedError(HTTPStatus.CONFLICT, _STATELESS)
        text = b""
        if command.body is not None:
            text = await read_body(request, parts.max_body_bytes)
        wanted = Wanted.of(request.query_params) if command.optimizes else Wanted()
        argument = partial(_argument, command, request, text)
        result = await parts.runner.run(command, argument, wanted)
        return await run_in_threadpool(answer, result)

    return endpoint


def _argument(command: Command, request: Request, text: bytes) -> Any:
    if command.body is not None:
        return command.body.read(text)
    if not command.parameters:
        return None
    # The path as it was sent: decoded, a `/` within a name looks like one between names.
    prefix = f"/{command.name}/"
    raw = request.scope.get("raw_path", b"").decode("ascii", errors="replace")
    names = raw.removeprefix(prefix) if raw.startswith(prefix) else ""
    if not names:
        names = request.scope["path"].removeprefix(prefix)
    return one_name(names) if len(command.parameters) == 1 else two_names(names)


def _add_own(
    app: FastAPI, parts: AppParts, metrics: RestMetrics, description: dict[str, Any]
) -> None:
    page = docs_page(description)

    @app.get("/openapi.json")
    def openapi_document() -> dict[str, Any]:
        return description

    @app.get("/docs")
    def docs() -> HTMLResponse:
        return HTMLResponse(page, headers=_WITHOUT_SCRIPTS)

    @app.get("/healthz")
    async def healthz() -> Response:
        return verdict_answer(Verdict())

    @app.get("/readyz")
    async def readyz() -> Response:
        return verdict_answer(parts.ready())

    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        verb, path = request.method, request.url.path
        if error.status_code == HTTPStatus.NOT_FOUND:
            error.detail = f"there is no command {verb} {path}; /docs lists them"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            error.detail = f"{path} does not take {verb}; /docs lists what does"
    return refusal(error)
