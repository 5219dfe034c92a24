"""Benchmark runs in the limits in which they are a stationary queue, or plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.replicas import FloatArray
from controlloop.queueing import models
from controlloop.queueing.benchmark_runs import (
    RunKind,
    RunPrediction,
    Runs,
    in_service_during,
    predict_runs,
    run_percentiles,
)
from controlloop.queueing.iteration_time import IterationTime
from controlloop.queueing.roofline import Roofline
from controlloop.queueing.state_dependent import StateDependent

pytestmark = pytest.mark.slow

CARD = [7.0, 0.02, 4e-5, 0.025, 6.8, 0.06, 4.5e5]


def runs(
    kind: RunKind, rate_rps: float | FloatArray = 1.0, seconds: float = 1e5, clients: float = 64
) -> Runs:
    rate = np.atleast_1d(np.asarray(rate_rps, dtype=np.float64))
    one = np.ones(len(rate))
    return Runs(np.full(len(rate), kind, dtype=np.int64), rate, seconds * one, clients * one)


def roofline(tokens_in: float, tokens_out: float, run: Runs, batch: int = 512) -> RunPrediction:
    pairs = models.replicas(np.full(len(run.kind), batch), tokens_in, tokens_out, CARD)
    return predict_runs(Roofline().times(pairs), run)


@given(st.sampled_from([0.0, 64.0, 4096.0]), st.sampled_from([2.0, 64.0, 4096.0]))
def test_one_request_at_a_time_is_an_idle_replica(tokens_in: float, tokens_out: float) -> None:
    for model, parameters in (
        (Roofline(), CARD),
        (IterationTime(), [7.0, 0.02, 4e-5]),
        (StateDependent(), [7.0, 0.05, 15.0, 0.001]),
    ):
        pair = models.replicas(64, tokens_in, tokens_out, parameters)
        found = predict_runs(model.times(pair), runs(RunKind.SYNCHRONOUS), connect_ms=50.0)
        idle = model.analyze(pair, np.zeros(1))
        assert found.ttft_ms[0] == pytest.approx(idle.ttft_ms[0], rel=1e-12)
        assert found.itl_ms[0] == pytest.approx(idle.itl_ms[0], rel=1e-12)


@given(st.floats(0.05, 0.9))
def test_a_long_run_holds_as_many_as_arrive_in_a_service_time(load: float) -> None:
    alpha, beta, tokens_out = 7.0, 0.05, 101.0
    pair = models.replicas(400, 0, tokens_out, [alpha, beta, 0, 0])
    times = StateDependent().times(pair)
    rate = load * 1000 * 400 / (100 * (alpha + beta * 400))
    found = in_service_during(times, runs(RunKind.CONSTANT, rate))
    # n = rate s(n) with s(n) = 100 (alpha + beta n).
    each = rate / 1000 * 100
    assert found[0] == pytest.approx(each * alpha / (1 - each * beta), rel=1e-3)


def test_a_short_run_ends_before_the_batch_is_full() -> None:
    rate = 1.0
    seconds = np.array([20.0, 60.0, 200.0, 2000.0])
    found = [
        float(roofline(256, 4096, runs(RunKind.CONSTANT, rate, each)).in_service[0])
        for each in seconds
    ]
    assert np.all(np.diff(found) > 0)
    # While nobody has finished, as many are in service as have come.
    assert found[0] < 20


def test_more_load_shows_in_every_latency() -> None:
    rate = np.linspace(0.5, 30.0, 60)
    found = roofline(1024, 64, runs(RunKind.CONSTANT, rate, 360))
    for values in (found.ttft_ms, found.itl_ms, found.in_service):
        assert np.all(np.diff(values) > 0)


def test_connections_are_opened_at_low_rates_only() -> None:
    run = runs(RunKind.CONSTANT, np.array([0.01, 2.0, 50.0]))
    times = Roofline().times(models.replicas([512] * 3, 64, 64, CARD))
    with_, without = (predict_runs(times, run, each) for each in (10.0, 0.0))
    assert with_.ttft_ms - without.ttft_ms == pytest.approx(
        10 * np.exp(-0.5 * run.rate_rps), abs=1e-9
    )
    assert np.array_equal(with_.itl_ms, without.itl_ms)


def test_a_closed_loop_within_the_slots_waits_for_none() -> None:
    few = roofline(128, 256, runs(RunKind.CLOSED, clients=8))
    assert few.in_service[0] == 8
    many = roofline(128, 256, runs(RunKind.CLOSED, clients=512), batch=64)
    assert many.in_service[0] == 64
    # In steady state the others wait for a place: (M - n)/X.
    per_ms = 64 / float(Roofline().times(models.replicas(64, 128, 256, CARD)).evenly_spaced()
                        .service_ms(np.array([64.0]))[0])  # fmt: skip
    assert many.ttft_ms[0] == pytest.approx((512 - 64) / per_ms, rel=0.02)


def test_a_short_closed_run_shows_its_first_wave() -> None:
    long, short = (
        roofline(4096, 4096, runs(RunKind.CLOSED, 1.0, seconds, 512)) for seconds in (1e6, 360)
    )
    assert short.ttft_ms[0] < long.ttft_ms[0] / 5
    # More prompts fit than answers can grow beside: the surplus is preempted.
    assert short.itl_ms[0] > long.itl_ms[0]


@given(st.floats(0.05, 0.95), st.sampled_from([(64.0, 64.0), (1024.0, 64.0), (256.0, 4096.0)]))
def test_percentiles_rise_and_lie_around_the_mean(load: float, shape: tuple[float, float]) -> None:
    pair = models.replicas(512, *shape, CARD)
    times = Roofline().times(pair)
    run = runs(RunKind.CONSTANT, load * float(Roofline().rate_range_rps(pair)[1][0]), 360)
    mean = predict_runs(times, run, 8.0)
    found = run_percentiles(times, run, (0.1, 0.5, 0.9, 0.99), output_cv=0.29, connect_ms=8.0)
    for values, middle in ((found.ttft_ms, mean.ttft_ms), (found.itl_ms, mean.itl_ms)):
        assert np.all(np.diff(values[:, 0]) >= 0)
        assert values[0, 0] <= middle[0] <= values[3, 0]


def test_other_runs_have_no_percentiles() -> None:
    pair = models.replicas(512, 64, 64, CARD)
    found = run_percentiles(Roofline().times(pair), runs(RunKind.CLOSED), (0.5,), output_cv=0.29)
    assert np.isnan(found.ttft_ms).all()
