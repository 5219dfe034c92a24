"""The model against the design's formulas word for word: state by state, in 50 digits."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from controlloop.api.replicas import Analysis
from controlloop.queueing import models


@dataclass(frozen=True)
class Exact:
    empty: float
    throughput_rps: float
    response_ms: float
    wait_ms: float
    in_service: float
    waiting: float
    prefill_ms: float
    itl_ms: float
    utilization: float


@dataclass(frozen=True)
class Pair:
    max_batch: int
    max_queue: int
    input_tokens: float
    output_tokens: float
    alpha_ms: float
    beta_ms: float
    gamma_ms: float
    delta_ms: float

    @property
    def parameters(self) -> list[float]:
        return [self.alpha_ms, self.beta_ms, self.gamma_ms, self.delta_ms]

    @property
    def full_rps(self) -> float:
        return 1000 * self.max_batch / self.service_ms(self.max_batch)

    def service_ms(self, batch: int) -> float:
        prefill = self.gamma_ms + self.delta_ms * self.input_tokens * batch
        return (prefill if self.input_tokens else 0.0) + (self.output_tokens - 1) * (
            self.alpha_ms + self.beta_ms * batch
        )


def exact_state(pair: Pair, rate_rps: float) -> Exact:
    with localcontext() as context:
        context.prec = 50
        tokens_in, tokens_out = Decimal(pair.input_tokens), Decimal(pair.output_tokens)
        alpha, beta, gamma, delta = (Decimal(each) for each in pair.parameters)
        steps = tokens_out - 1
        if not tokens_in:
            gamma = Decimal(0)
        base, slope = gamma + alpha * steps, delta * tokens_in + beta * steps
        rate = Decimal(rate_rps) / 1000
        batch, last = pair.max_batch, pair.max_batch + pair.max_queue
        weight = total = Decimal(1)
        busy = waiting = Decimal(0)
        for state in range(1, last + 1):
            served = min(state, batch)
            weight *= rate * (base + slope * served) / served
            total += weight
            busy += served * weight
            waiting += (state - served) * weight
        throughput = rate * (1 - weight / total)
        service, wait = busy / total / throughput, waiting / total / throughput
        seen = Decimal(0)
        if slope:
            seen = min(max((service - base) / slope, Decimal(0)), Decimal(batch))
        return Exact(
            empty=float(1 / total),
            throughput_rps=float(throughput * 1000),
            response_ms=float(service + wait),
            wait_ms=float(wait),
            in_service=float(busy / total),
            waiting=float(waiting / total),
            prefill_ms=float(gamma + delta * tokens_in * seen),
            itl_ms=float(alpha + beta * seen),
            utilization=float(busy / total / batch),
        )


def analyzed(pair: Pair, rate_rps: float) -> Analysis:
    replica = models.replicas(
        pair.max_batch, pair.input_tokens, pair.output_tokens, pair.parameters, pair.max_queue
    )
    return models.analyze(replica, rate_rps)


def assert_equal(found: Analysis, wanted: Exact, tolerance: float) -> None:
    for field in fields(Exact):
        if field.name != "empty":
            value = getattr(found, field.name)[0]
            assert value == pytest.approx(getattr(wanted, field.name), rel=tolerance), field.name


times = st.floats(1e-3, 1e3)
rarely_zero = st.one_of(st.just(0.0), st.floats(1e-6, 1e2))
pairs = st.builds(
    Pair,
    max_batch=st.integers(1, 40),
    max_queue=st.integers(0, 80),
    input_tokens=st.sampled_from([0.0, 1.0, 128.0, 4096.0]),
    output_tokens=st.sampled_from([1.0, 1.5, 2.0, 256.0]),
    alpha_ms=times,
    beta_ms=rarely_zero,
    gamma_ms=times,
    delta_ms=rarely_zero,
)


@given(pairs, st.floats(1e-4, 4.0))
def test_agrees_with_the_sum_over_all_states(pair: Pair, load: float) -> None:
    assume(pair.service_ms(1) > 0)
    rate = load * pair.full_rps
    assert_equal(analyzed(pair, rate), exact_state(pair, rate), 1e-11)


@pytest.mark.parametrize("load", [0.3, 0.97, 0.999, 1.0, 1.02, 3.0])
@pytest.mark.parametrize("batch", [256, 4096])
def test_agrees_for_large_batches(batch: int, load: float) -> None:
    pair = Pair(batch, 10 * batch, 512, 256, 12.0, 0.05, 60.0, 0.02)
    rate = load * pair.full_rps
    assert_equal(analyzed(pair, rate), exact_state(pair, rate), 1e-10)


@pytest.mark.parametrize("distance", [-1e-3, -1e-7, -1e-12, 0.0, 1e-14, 1e-9, 1e-4])
def test_agrees_where_the_tail_is_nearly_flat(distance: float) -> None:
    pair = Pair(8, 5000, 128, 64, 20.0, 1.0, 30.0, 0.1)
    rate = pair.full_rps * (1 + distance)
    assert_equal(analyzed(pair, rate), exact_state(pair, rate), 1e-10)


def test_service_that_hardly_depends_on_the_batch_keeps_its_precision() -> None:
    pair = Pair(16, 160, 0, 512, 200.0, 1e-9, 0.0, 0.0)
    rate = 0.8 * pair.full_rps
    found, wanted = analyzed(pair, rate), exact_state(pair, rate)
    assert found.itl_ms[0] - 200.0 == pytest.approx(wanted.itl_ms - 200.0, rel=1e-4)


def test_published_case_of_a_batch_of_32() -> None:
    pair = Pair(32, 320, 0, 1025, 19.0, 1.0, 0.0, 0.0)
    exact = exact_state(pair, 30 / 60)
    assert exact.empty == pytest.approx(5.7982e-7, rel=1e-4)
    found = analyzed(pair, 30 / 60)
    assert_equal(found, exact, 1e-12)
    assert found.in_system[0] == pytest.approx(21.24, abs=0.005)
    assert found.in_service[0] == pytest.approx(20.90, abs=0.005)
    assert found.wait_ms[0] == pytest.approx(674, abs=0.5)
    assert found.itl_ms[0] == pytest.approx(40.8, abs=0.05)


def test_published_cases_of_a_batch_of_48() -> None:
    replicas = models.replicas(48, 0, [1025, 1025], [19.0, 1.0, 0.0, 0.0])
    sizing = models.size(replicas, models.targets(itl_ms=[50, 0], ttft_ms=[0, 1000]))
    assert np.allclose(sizing.rate_rps * 60, [35.2, 36.613], rtol=2e-5)
    assert sizing.at.wait_ms == pytest.approx([333, 1000], abs=0.5)
    assert sizing.at.itl_ms == pytest.approx([50, 53.1], abs=0.05)
