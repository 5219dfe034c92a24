from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import generate_latest

from controlloop.api.decision import Action, Decision, Decisions, Forecast, Situation
from controlloop.api.observation import (
    Observation,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.predictions import Prediction
from controlloop.api.readings import Missing, Present
from controlloop.api.report import CycleReport
from controlloop.api.report_document import report_document
from controlloop.api.shadow import MeanError, ShadowScore
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    PerfParameters,
    Server,
    ServiceClass,
    System,
    Target,
)
from controlloop.daemon.recorder import Recorder
from controlloop.optimizer.present import predict_present
from controlloop.shadow import Shadow
from controlloop.telemetry import Metrics

SYSTEM = System(
    accelerators=(Accelerator("A100", "A100", 1, 40.0),),
    capacity={"A100": 16},
    perf=(PerfParameters("m", "A100", (10.0, 0.1, 5.0, 0.01), 32, 512),),
    classes=(ServiceClass("Premium", 1, (Target("m", 40.0, 1000.0, tps=9000.0),)),),
)
SOLUTION = Solution({}, (), SolveStatus.FEASIBLE, "test", 0.0)


class Day:
    """A dry run: four replicas serve, two would."""

    def __init__(self) -> None:
        self.shadow = Shadow(predict_present)
        self.now = 1000.0

    def cycle(
        self,
        rate_rps: float | None = 2.0,
        *,
        expected_rps: float = 2.0,
        horizon_s: float | None = None,
        ready: int = 4,
        itl_ms: float = 12.0,
    ) -> ShadowScore:
        known = Missing("gone") if rate_rps is None else Present(rate_rps)
        signals = Signals(
            arrival_rate_rps=known, input_tokens=Present(100.0), output_tokens=Present(200.0),
            itl_ms=Present(itl_ms), ttft_ms=Present(50.0),
        )  # fmt: skip
        workload = Workload(
            WorkloadRef("ns", "chat"), "chat", "m", "Premium", "A100", 32, 4, ready_replicas=ready
        )
        load = Load(expected_rps * 1.2, 100.0, 200.0)
        current = Allocation("A100", 4, 32, 160.0, load=load)
        server = Server("chat", "m", "Premium", current=current, backlog_rps=3.0)
        seen = Observation(self.now, (ServerObservation(workload, signals),))
        situation = Situation(self.now, 0.0, replace(SYSTEM, servers=(server,)), {}, seen)
        desired = replace(current, replicas=2, cost_per_hour=80.0)
        decided = Decision("chat", Action.SCALE_DOWN, current, desired, "less")
        predictions = (
            {}
            if horizon_s is None
            else {"chat": Prediction(horizon_s, "trend", expected_rps, {0.95: load.rate_rps})}
        )
        score = self.shadow.score(
            situation,
            Forecast({"chat": load}, predictions=predictions),
            Decisions((decided,), SOLUTION),
        )
        self.now += 60.0
        return score


def test_latencies_are_predicted_for_what_serves_and_the_load_that_came() -> None:
    (server,) = Day().cycle(4.0, itl_ms=12.0).servers
    busy = Day().cycle(40.0).servers[0]
    assert server.predicted_itl_ms == pytest.approx(10.2, abs=0.2)
    assert server.observed_itl_ms == 12.0
    # Prefill alone is 5 ms, and 1 ms more for each request in the batch.
    assert server.predicted_ttft_ms == pytest.approx(8.0, abs=1.0)
    assert busy.predicted_itl_ms is not None
    assert busy.predicted_itl_ms > 10.5
    error = Day().cycle(4.0, itl_ms=12.0).errors["itl"]
    assert error == MeanError(pytest.approx(0.15, abs=0.02), 1)  # type: ignore[arg-type]


def test_what_is_not_known_is_not_compared() -> None:
    for score in (Day().cycle(None), Day().cycle(ready=0)):
        assert score.servers[0].predicted_itl_ms is None
        assert score.errors == {}
        assert score.exceeded_share is None


def test_a_forecast_is_compared_when_its_time_has_come() -> None:
    day = Day()
    for _ in range(2):
        assert "rate" not in day.cycle(2.0, expected_rps=5.0, horizon_s=120.0).errors
    scored = day.cycle(4.0, expected_rps=9.0, horizon_s=120.0)
    (server,) = scored.servers
    assert (server.expected_rps, server.sized_rps, server.measured_rps) == (5.0, 6.0, 4.0)
    assert scored.errors["rate"] == MeanError(0.25, 1)
    assert scored.exceeded_share == 0.0
    over = day.cycle(8.0, expected_rps=9.0, horizon_s=120.0)
    assert over.exceeded_share == 0.5


def test_without_a_prediction_the_load_sized_for_is_expected_of_the_next_cycle() -> None:
    day = Day()
    day.cycle(2.0, expected_rps=2.0)
    server = day.cycle(3.0).servers[0]
    assert server.expected_rps == pytest.approx(2.4)
    assert server.measured_rps == 3.0


def test_the_cost_that_would_have_been_saved_adds_up_over_time() -> None:
    day = Day()
    assert day.cycle().saved_cents == 0.0
    assert day.cycle().saved_cents == pytest.approx(80.0 / 60)
    day.now += 540.0
    assert day.cycle().saved_cents == pytest.approx(80.0 * 11 / 60)


def test_it_is_in_the_report_and_in_the_metrics() -> None:
    day = Day()
    day.cycle()
    score = day.cycle(4.0)
    report = CycleReport(1060.0, (), shadow=score)
    document = report_document(report)["shadow"]
    assert document["servers"][0]["arrivalRate"]["measured"] == pytest.approx(240.0)
    assert document["servers"][0]["cost"] == {"actual": 160.0, "desired": 80.0}
    assert document["relativeErrors"]["rate"]["count"] == 1
    assert "shadow" not in report_document(CycleReport(0.0, ()))
    metrics = Metrics()
    Recorder(metrics).record(report, "timer")
    shown = generate_latest(metrics.registry).decode()
    assert (
        'controlloop_shadow_latency_milliseconds{latency="itl",server="chat",which="observed"} 12.0'
        in shown
    )
    assert 'controlloop_shadow_arrival_rate_rps{server="chat",which="measured"} 4.0' in shown
    assert "controlloop_shadow_saved_cents 1.33" in shown
    assert "controlloop_shadow_exceeded_share 1.0" in shown
