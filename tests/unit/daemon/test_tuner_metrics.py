from __future__ import annotations

import json

from prometheus_client import generate_latest

from controlloop.api.decision import Estimate
from controlloop.api.estimates import Comparison, Origin, PairEstimate, Trust
from controlloop.api.report import CycleReport
from controlloop.daemon.recorder import Recorder
from controlloop.telemetry import Metrics

PAIR = PairEstimate(
    model="m",
    accelerator="a",
    queue_model="state-dependent",
    parameter_names=("alpha_ms", "beta_ms"),
    parameters=(12.0, 0.3),
    standard_errors=(0.01, 0.05),
    trust=Trust.DOUBTFUL,
    reason="5 of the last 6 observations rejected as outliers",
    origin=Origin.LAST_TRUSTED,
    accepted=40,
    rejected={"outlier": 5},
    last=Comparison(60.0, None, 900.0, 21.0, 20.0, 1.5),
)


def recorded(*estimates: Estimate) -> tuple[str, list[str]]:
    metrics = Metrics()
    lines: list[str] = []
    recorder = Recorder(metrics, lines.append)
    for estimate in estimates:
        recorder.record(CycleReport(60.0, (), estimate=estimate), "timer")
    return generate_latest(metrics.registry).decode(), lines


def test_what_was_learned_is_shown_as_metrics() -> None:
    shown, _ = recorded(Estimate((), pairs=(PAIR,), unknown={("m", "b"): 3}))
    labels = 'accelerator="a",model="m"'
    for line in (
        f'controlloop_tuner_parameter{{{labels},parameter="alpha_ms"}} 12.0',
        f'controlloop_tuner_parameter_standard_error{{{labels},parameter="beta_ms"}} 0.05',
        f'controlloop_tuner_trust{{{labels},trust="doubtful"}} 1.0',
        f"controlloop_tuner_nis{{{labels}}} 1.5",
        f'controlloop_tuner_observations{{{labels},outcome="accepted"}} 40.0',
        f'controlloop_tuner_observations{{{labels},outcome="outlier"}} 5.0',
        'controlloop_tuner_observations{accelerator="b",model="m",outcome="unknown-pair"} 3.0',
        'latency="itl",model="m",which="predicted"} 21.0',
        'latency="ttft",model="m",which="observed"} 900.0',
    ):
        assert line in shown
    # What was not predicted is not shown as 0.
    assert 'latency="ttft",model="m",which="predicted"' not in shown


def test_a_pair_that_is_gone_keeps_no_value() -> None:
    shown, _ = recorded(Estimate((), pairs=(PAIR,)), Estimate(()))
    assert "alpha_ms" not in shown


def test_what_was_learned_stands_in_the_report() -> None:
    _, lines = recorded(Estimate((), pairs=(PAIR,)))
    (found,) = json.loads(lines[0])["estimates"]
    assert found["parameters"] == {"alpha_ms": 12.0, "beta_ms": 0.3}
    assert found["trust"] == "doubtful"
    assert found["plannedWith"] == "last-trusted"
    assert found["rejected"] == {"outlier": 5}
    assert found["last"]["predictedTtft"] is None
