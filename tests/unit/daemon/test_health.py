from __future__ import annotations

from controlloop.api.observation import Observation
from controlloop.api.report import CycleReport, Failure, Stage
from controlloop.daemon.health import Heartbeat
from controlloop.rest.endpoints import verdict_answer

DONE = CycleReport(0.0, ())
FAILED = CycleReport(0.0, (), failure=Failure(Stage.OBSERVE, "ClusterError", "API down"))
BLIND = CycleReport(0.0, (), observation=Observation(0.0, metrics_problem="refused"))


def test_a_maintenance_is_said_and_leaves_the_daemon_ready() -> None:
    heartbeat = Heartbeat(60.0, 45.0, 0.0)
    heartbeat.end(1.0, CycleReport(1.0, (), maintenance="Lease: cables"))
    verdict = heartbeat.ready(None, standby=False)
    assert verdict.ok
    assert verdict.remarks == ("maintenance, nothing is written: Lease: cables",)
    assert verdict_answer(verdict).status_code == 200


def heartbeat(period_s: float = 60.0) -> Heartbeat:
    return Heartbeat(period_s, deadline_s=45.0, started=0.0)


def test_a_cycle_that_returned_is_progress_whatever_its_outcome() -> None:
    for report in (DONE, FAILED, BLIND):
        beat = heartbeat()
        beat.begin(1000.0)
        beat.end(1010.0, report)
        assert beat.alive(1010.0 + 209.0).ok
        assert not beat.alive(1010.0 + 211.0).ok


def test_a_stuck_cycle_is_not_alive_past_twice_its_deadline() -> None:
    beat = heartbeat()
    beat.begin(1000.0)
    assert beat.alive(1090.0).ok
    assert beat.overdue_s(1090.0) == 0
    assert beat.alive(1091.0).reasons == ("the cycle under way has exceeded twice its deadline",)
    assert beat.overdue_s(1091.0) == 1


def test_a_standby_is_healthy_and_ready() -> None:
    beat = heartbeat()
    beat.stand_by(5000.0)
    assert beat.alive(5100.0).ok
    assert beat.ready(None, standby=True).ok


def test_a_daemon_on_demand_is_healthy_without_cycles() -> None:
    beat = heartbeat(period_s=0.0)
    assert beat.alive(1e6).ok
    assert beat.ready(None, standby=False).ok


def test_readiness_names_every_reason_and_an_outage_of_metrics_never_kills() -> None:
    beat = heartbeat()
    assert beat.ready(None, standby=False).reasons == ("no cycle has run yet",)
    beat.begin(10.0)
    beat.end(11.0, BLIND)
    verdict = beat.ready("capacity-data.json: count[0].count: must be >= 0", standby=False)
    assert verdict.reasons == (
        "data: capacity-data.json: count[0].count: must be >= 0",
        "metrics: refused",
    )
    assert beat.alive(12.0).ok
    beat.begin(20.0)
    beat.end(21.0, FAILED)
    assert "API down" in beat.ready(None, standby=False).reasons[0]
    beat.begin(30.0)
    beat.end(31.0, DONE)
    assert beat.ready(None, standby=False).ok
