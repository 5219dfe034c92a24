"""What `simulate` says at its end: tables for people, one document for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from controlloop.cli.demo_report import run_document
from controlloop.cli.demo_words import clock_time, dollars
from controlloop.cli.tables import plain_table
from controlloop.simulator.fleet_run import Run
from controlloop.simulator.simulation import Course


def tables(run: Run, course: Course | None) -> Iterator[RenderableType]:
    """The run from the whole to the parts; without a course nobody controlled it."""
    score = run.score
    changes = "left alone" if course is None else f"{len(course.changes)} changes"
    yield Text(
        f"{score.hours:g} h, {score.overall.requests:,.0f} requests, "
        f"{score.overall.within_both:.2%} within both objectives; "
        f"{dollars(score.cost)}, {score.card_hours:,.1f} card hours; {changes}"
    )
    table = plain_table(
        "Server",
        "On",
        "Replicas",
        "Requests",
        "TTFT p50",
        "p95",
        "ITL p50",
        "p95 ",
        "Within both",
        right=("Replicas", "Requests", "TTFT p50", "p95", "ITL p50", "p95 ", "Within both"),
    )
    for server, one in zip(run.history.servers, score.servers, strict=True):
        table.add_row(
            server.name,
            server.accelerator,
            f"{one.least_replicas} .. {one.most_replicas}",
            f"{one.attainment.requests:,.0f}",
            *(_ms(value) for value in (*one.ttft_ms[:2], *one.itl_ms[:2])),
            f"{one.attainment.within_both:.2%}",
        )
    yield table
    if course is not None and course.failures:
        time, failure = course.failures[0]
        yield Text(
            f"{len(course.failures)} cycles failed, the first at {clock_time(time)} in its "
            f"{failure.stage} stage: {failure.message}",
            style="red",
        )


def document(run: Run, course: Course | None) -> dict[str, Any]:
    """The run as a JSON document; costs in cents, times in seconds, shares from 0 to 1."""
    changes = [] if course is None else course.changes
    return {
        "hours": run.score.hours,
        "controlled": course is not None,
        "failedCycles": 0 if course is None else len(course.failures),
        **run_document(run),
        "changes": [
            {
                "time": change.time,
                "server": change.decision.server,
                "action": str(change.decision.action),
                "replicasBefore": change.decision.current.replicas,
                "replicas": change.decision.desired.replicas,
                "reason": change.decision.reason,
            }
            for change in changes
        ],
    }


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value < 1e7 else "never"
