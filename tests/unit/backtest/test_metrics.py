from __future__ import annotations

import math

import numpy as np
import pytest

from controlloop.backtest.building import build
from controlloop.backtest.case import Case
from controlloop.backtest.controllers import Move
from controlloop.backtest.metrics import document, measure, percentiles
from controlloop.backtest.run import Run, Served
from controlloop.backtest.scenario import Scenario
from controlloop.queueing.models import queue_models

STEP_S = 60.0


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Three servers, five minutes of warm-up, six minutes that count."""
    return build(Case("steady", hours=0.1), queue_models().create)


def run_of(scenario: Scenario, **changes: object) -> Run:
    steps = round(scenario.to_s / STEP_S)
    shape = (steps, len(scenario.servers))
    nobody = np.zeros(0)
    given: dict[str, object] = {
        "scenario": scenario,
        "step_s": STEP_S,
        "times": STEP_S * np.arange(1, steps + 1),
        "arrived": np.zeros(shape),
        "waiting": np.zeros(shape),
        "ready": np.ones(shape, dtype=np.int64),
        "held": np.ones(shape, dtype=np.int64),
        "served": Served(nobody.astype(np.int64), nobody, nobody, nobody, nobody),
        "moves": (),
        "outlooks": (),
        "failures": (),
    }
    return Run(**(given | changes))  # type: ignore[arg-type]


def test_requests_count_by_their_own_latencies_and_the_warm_up_does_not(
    scenario: Scenario,
) -> None:
    # chat-8b is Premium: 500 ms to the first token, 25 ms between tokens.
    served = Served(
        server=np.zeros(5, dtype=np.int64),
        weight=np.array([1.0, 1.0, 1.0, 1.0, 100.0]),
        ttft_ms=np.array([400.0, 600.0, 400.0, math.inf, 9000.0]),
        itl_ms=np.array([20.0, 20.0, 30.0, math.inf, 90.0]),
        time=np.array([700.0, 710.0, 720.0, 730.0, 30.0]),
    )

    metrics = measure(run_of(scenario, served=served))

    assert metrics.overall.requests == 4
    assert metrics.overall.within_ttft == 0.5
    assert metrics.overall.within_itl == 0.5
    assert metrics.attainment == 0.25
    premium = metrics.classes[0]
    assert (premium.name, premium.within_both) == ("Premium", 0.25)
    assert premium.ttft_ms[0] == 400.0
    assert math.isinf(premium.ttft_ms[-1])
    assert document(metrics)["ttftMs"] == {"p50": 400.0, "p90": None, "p95": None, "p99": None}


def test_replicas_that_hold_cards_are_paid_for(scenario: Scenario) -> None:
    metrics = measure(run_of(scenario))

    # An A100 at 250 cents, another for the other model, an L4 at 50, for six minutes.
    assert metrics.cost == pytest.approx(55.0)
    assert metrics.card_hours == pytest.approx(0.3)


def test_changes_and_queues_and_overload(scenario: Scenario) -> None:
    run = run_of(scenario)
    run.waiting[3, 0] = 50.0  # in the warm-up
    run.waiting[8, 1] = 7.0
    run.arrived[6:9, 2] = 1.2 * scenario.capability[2].most_rps * STEP_S
    moves = (
        Move(60.0, "chat-8b", 1, 2),
        *(Move(400.0 + 60 * k, "chat-8b", 1, 2) for k in range(3)),
        Move(500.0, "trial-8b", 1, 2),
    )

    metrics = measure(run_of(scenario, waiting=run.waiting, arrived=run.arrived, moves=moves))

    assert metrics.worst_queue == 7.0
    assert metrics.changes_per_hour == pytest.approx(4 / 0.1 / 3)
    assert metrics.most_changes == 3
    assert metrics.overload == pytest.approx(3 / 18)


def test_percentiles_weigh() -> None:
    values, weight = np.array([30.0, 10.0, 20.0]), np.array([1.0, 98.0, 1.0])
    assert percentiles(values, weight, (0.5, 0.98, 0.99, 0.995)).tolist() == [10, 10, 20, 30]
    assert percentiles(np.zeros(0), np.zeros(0), (0.5,)).tolist() == [0.0]
