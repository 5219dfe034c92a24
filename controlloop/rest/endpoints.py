"""The daemon's endpoints: a cycle now, health, readiness, metrics."""

from __future__ import annotations

import threading
from typing import Any, Final, Protocol

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from controlloop import __version__
from controlloop.api.report import CycleReport
from controlloop.api.report_document import report_document
from controlloop.api.verdict import Verdict
from controlloop.errors import NotLeaderError

MOST_INVOKED: Final = 2
"""A cycle under way and one that waits for it: a third would see nothing more than that one."""


class DaemonView(Protocol):
    """What the endpoints show of the daemon."""

    def run_cycle(self, trigger: str) -> CycleReport:
        """Run one cycle now (NotLeaderError on a standby)."""
        ...

    def last_report(self) -> CycleReport | None:
        """The report of the last cycle of this process; None before there is one."""
        ...

    def alive(self) -> Verdict:
        """Whether the loop moves."""
        ...

    def ready(self) -> Verdict:
        """Whether decisions are made on what is true now."""
        ...


def daemon_app(view: DaemonView, registry: CollectorRegistry) -> FastAPI:
    """The application that serves `/invoke`, `/report`, `/healthz`, `/readyz` and `/metrics`."""
    app = FastAPI(title="controlloop", version=__version__, docs_url=None, redoc_url=None)
    places = threading.BoundedSemaphore(MOST_INVOKED)

    @app.post(
        "/invoke",
        responses={
            429: {"description": "a cycle is asked for already"},
            503: {"description": "not the leader"},
        },
    )
    @app.get("/invoke", include_in_schema=False)
    def invoke() -> JSONResponse:
        """Run one cycle now and answer with its report."""
        if not places.acquire(blocking=False):
            message = "a cycle that was asked for is waiting already: it will see what is now"
            return JSONResponse({"message": message}, status_code=429)
        try:
            report = view.run_cycle("invoke")
        except NotLeaderError as error:
            return JSONResponse({"message": str(error)}, status_code=503)
        finally:
            places.release()
        return JSONResponse(report_document(report), status_code=200 if report.succeeded else 500)

    @app.get("/report", responses={404: {"description": "no cycle was run yet"}})
    def report() -> JSONResponse:
        """The report of the last cycle, whatever its outcome."""
        last = view.last_report()
        if last is None:
            message = "this process has run no cycle yet; a standby runs none"
            return JSONResponse({"message": message}, status_code=404)
        return JSONResponse(report_document(last))

    # Probes are answered on the loop itself: cycles that were asked for may hold every thread.
    @app.get("/healthz", responses={503: {"description": "the loop does not move"}})
    async def healthz() -> JSONResponse:
        """Whether the loop moves; if not, the process is to be restarted."""
        return verdict_answer(view.alive())

    @app.get("/readyz", responses={503: {"description": "decisions rest on old facts"}})
    async def readyz() -> JSONResponse:
        """Whether decisions are made on what is true now; if not, why."""
        return verdict_answer(view.ready())

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """The daemon's own metrics in Prometheus' text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return app


def verdict_answer(verdict: Verdict) -> JSONResponse:
    """`verdict` as an answer: 200, or 503 with the reasons."""
    body: dict[str, Any] = {"ok": verdict.ok, "reasons": list(verdict.reasons)}
    if verdict.remarks:
        body["remarks"] = list(verdict.remarks)
    return JSONResponse(body, status_code=200 if verdict.ok else 503)
