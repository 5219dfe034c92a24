from __future__ import annotations

import numpy as np
import pytest

from controlloop.protocols import QueueModel
from controlloop.queueing.models import queue_models, replicas
from controlloop.queueing.state_dependent import StateDependent
from controlloop.tuner.expectation import ITL, THROUGHPUT, TTFT, Table, expect, expected_values
from controlloop.tuner.measurement import Measurement
from controlloop.tuner.sweep_fit import PRIORS

PARAMETERS = np.array([12.0, 0.3, 25.0, 0.002])


def measurement(rate_rps: float = 1.0, **changes: object) -> Measurement:
    values: dict[str, object] = {
        "time": 0.0,
        "rate_rps": rate_rps,
        "input_tokens": 500.0,
        "output_tokens": 200.0,
        "max_batch": 64,
        "itl_ms": 20.0,
        "ttft_ms": 60.0,
        "requests": 50.0,
    }
    return Measurement(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["state-dependent", "iteration-time", "mm1k", "roofline"])
@pytest.mark.parametrize("load", [0.1, 0.6, 0.9])
def test_slopes_are_those_of_fourth_order_differences(name: str, load: float) -> None:
    model: QueueModel = queue_models().create(name)
    values = np.array([PRIORS[name][one] for one in model.parameter_names])
    pair = replicas(64, 500.0, 200.0, values)
    rate = load * float(model.rate_range_rps(pair)[1][0])
    table = Table.of([measurement(rate)])
    at = np.log(values)[np.newaxis]
    slopes = expect(model, at, table).slopes[0, :2]
    step = 3e-3
    for number in range(len(values)):
        direction = np.zeros((1, len(values)))
        direction[0, number] = step
        value = {
            k: expected_values(model, at + k * direction, table)[0, :2] for k in (-2, -1, 1, 2)
        }
        precise = (value[-2] - 8 * value[-1] + 8 * value[1] - value[2]) / (12 * step)
        np.testing.assert_allclose(slopes[:, number], precise, rtol=1e-5, atol=1e-7)


def test_slopes_of_a_full_batch_are_the_analytic_ones() -> None:
    one = measurement(5.0, queue_seen=True, throughput_rps=2.0, running=64.0)
    found = expect(StateDependent(), np.log(PARAMETERS)[np.newaxis], Table.of([one]))
    alpha, beta, gamma, delta = PARAMETERS
    itl = alpha + beta * 64
    service = gamma + delta * 500 * 64 + 199 * itl
    assert np.exp(found.log_values[0, ITL]) == pytest.approx(itl, rel=1e-6)
    assert np.exp(found.log_values[0, THROUGHPUT]) == pytest.approx(1000 * 64 / service, rel=1e-6)
    np.testing.assert_allclose(
        found.slopes[0, ITL], [alpha / itl, beta * 64 / itl, 0, 0], rtol=1e-5, atol=1e-6
    )
    shares = np.array([199 * alpha, 199 * beta * 64, gamma, delta * 500 * 64]) / service
    np.testing.assert_allclose(found.slopes[0, THROUGHPUT], -shares, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.by_rate[0, ITL], 0.0, atol=1e-9)


def test_a_replica_with_a_queue_works_with_all_that_runs_whatever_arrives() -> None:
    def expected(rate_rps: float, running: float) -> float:
        one = measurement(rate_rps, queue_seen=True, throughput_rps=2.0, running=running)
        found = expected_values(StateDependent(), np.log(PARAMETERS)[np.newaxis], Table.of([one]))
        return float(np.exp(found[0, ITL]))

    assert expected(0.0, 64.0) == pytest.approx(expected(50.0, 64.0))
    # The KV cache may hold fewer than the batch.
    assert expected(5.0, 40.0) == pytest.approx(12.0 + 0.3 * 40, rel=1e-6)


def test_a_steady_replica_shows_ttft_and_itl_and_one_with_a_queue_itl_and_throughput() -> None:
    steady = measurement(throughput_rps=1.0)
    queued = measurement(queue_seen=True, throughput_rps=1.0)
    known = Table.of([steady, queued]).known
    assert known.tolist() == [[True, True, False], [False, True, True]]


def test_a_queue_is_seen_in_the_latencies_alone() -> None:
    # 1 request/s for 70 s each is more than 64 at once, and 50 s is not.
    assert measurement(1.0, ttft_ms=50_000.0, itl_ms=100.0).queued
    assert not measurement(1.0, ttft_ms=30_000.0, itl_ms=100.0).queued


def test_arrivals_beyond_what_can_be_served_are_recognised() -> None:
    model, at = StateDependent(), np.log(PARAMETERS)[np.newaxis]
    most = float(model.rate_range_rps(replicas(64, 500.0, 200.0, PARAMETERS))[1][0])
    for share, saturated in ((0.9, False), (1.1, True)):
        found = expect(model, at, Table.of([measurement(share * most)]))
        assert found.saturated.tolist() == [saturated]
        assert np.isfinite(found.log_values[0, TTFT])
