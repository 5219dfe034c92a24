"""Laws of queueing theory that the model must obey, whatever its numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.replicas import Analysis, FloatArray, Replicas
from controlloop.queueing import models

MODEL = models.queue_models().create("state-dependent")


@st.composite
def replicas(draw: st.DrawFn, most: int = 300) -> Replicas:
    """One pair, from tiny to 4096 in service, fast and slow, with and without prefill."""
    batch = draw(st.one_of(st.integers(1, most), st.integers(most, 4096)))
    return models.replicas(
        max_batch=batch,
        max_queue=draw(st.one_of(st.just(10 * batch), st.integers(0, 50))),
        input_tokens=draw(st.sampled_from([0.0, 16.0, 512.0, 4096.0])),
        output_tokens=draw(st.sampled_from([2.0, 30.5, 1024.0])),
        parameters=[
            draw(st.floats(1.0, 200.0)),
            draw(st.floats(1e-3, 20.0)),
            draw(st.floats(0.0, 1000.0)),
            draw(st.floats(0.0, 1.0)),
        ],
    )


def repeated(replica: Replicas, times: int) -> Replicas:
    return replica.take(np.zeros(times, dtype=np.int64))


def full_rps(replica: Replicas) -> float:
    return float(MODEL.rate_range_rps(replica)[1][0] / 0.999)


def rounding(replica: Replicas) -> float:
    """What sums of as many terms as there are states may be off by, relative."""
    return 1e-12 + 1e-14 * float(replica.max_batch[0])


def never_falls(values: FloatArray, off: float = 1e-12) -> bool:
    return bool(np.all(np.diff(values) >= -off * np.abs(values[1:])))


@given(st.integers(0, 200), st.floats(1e-3, 5.0), st.floats(1.0, 1e4))
def test_a_batch_of_one_is_the_queue_m_m_1_k(queue: int, load: float, service_ms: float) -> None:
    replica = models.replicas(1, 0, 2, [service_ms, 0, 0, 0], queue)
    found = MODEL.analyze(replica, np.array([load * 1000 / service_ms]))
    share = load ** np.arange(queue + 2)
    share /= share.sum()
    accepted = share[:-1].sum()
    waiting = (np.arange(queue + 1) * share[1:]).sum()
    assert found.throughput_rps[0] == pytest.approx(load * accepted * 1000 / service_ms, rel=1e-9)
    assert found.utilization[0] == pytest.approx(1 - share[0], rel=1e-9)
    assert found.waiting[0] == pytest.approx(waiting, rel=1e-9)
    assert found.wait_ms[0] == pytest.approx(waiting * service_ms / (load * accepted), rel=1e-9)


@given(st.integers(1, 60), st.integers(0, 120), st.floats(0.01, 3.0), st.floats(1.0, 1e4))
def test_service_that_does_not_slow_down_is_the_queue_m_m_c_k(
    batch: int, queue: int, load: float, service_ms: float
) -> None:
    replica = models.replicas(batch, 0, 2, [service_ms, 0, 0, 0], queue)
    offered = load * batch
    found = MODEL.analyze(replica, np.array([offered * 1000 / service_ms]))
    state = np.arange(batch + queue + 1)
    served = np.minimum(state, batch)
    log_share = state * math.log(offered) - np.cumsum(np.log(np.maximum(served, 1)))
    share = np.exp(log_share - log_share.max())
    share /= share.sum()
    assert found.in_service[0] == pytest.approx((served * share).sum(), rel=1e-9)
    assert found.waiting[0] == pytest.approx(((state - served) * share).sum(), rel=1e-9)
    assert found.throughput_rps[0] == pytest.approx(
        offered * share[:-1].sum() * 1000 / service_ms, rel=1e-9
    )
    assert found.itl_ms[0] == service_ms


def erlang_c(servers: int, offered: float) -> float:
    blocked = 1.0
    for server in range(1, servers + 1):
        blocked = offered * blocked / (server + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


@pytest.mark.parametrize(("servers", "offered"), [(1, 0.7), (5, 4.0), (20, 16.0), (500, 480.0)])
def test_a_long_queue_waits_as_erlang_c_says(servers: int, offered: float) -> None:
    replica = models.replicas(servers, 0, 2, [100.0, 0, 0, 0], 20000)
    found = MODEL.analyze(replica, np.array([offered * 10]))
    wait_ms = erlang_c(servers, offered) * 100.0 / (servers - offered)
    assert found.wait_ms[0] == pytest.approx(wait_ms, rel=1e-9)


@given(replicas(), st.floats(1e-3, 10.0))
def test_littles_law(replica: Replicas, load: float) -> None:
    found = MODEL.analyze(replica, np.array([load * full_rps(replica)]))
    throughput_per_ms = found.throughput_rps / 1000
    assert found.in_system == pytest.approx(throughput_per_ms * found.response_ms, rel=1e-12)
    assert found.waiting == pytest.approx(throughput_per_ms * found.wait_ms, rel=1e-12)
    decode_ms = (replica.output_tokens - 1) * found.itl_ms
    assert found.in_service == pytest.approx(
        throughput_per_ms * (found.prefill_ms + decode_ms), rel=1e-12
    )
    assert 0 < found.utilization[0] <= 1 + rounding(replica)
    assert found.waiting[0] <= replica.max_queue[0] * (1 + 1e-12)


@given(replicas())
def test_more_arrivals_make_nothing_better(replica: Replicas) -> None:
    rate = full_rps(replica) * np.concatenate(
        [np.geomspace(1e-4, 0.9, 30), np.linspace(0.9, 2, 60)]
    )
    found = MODEL.analyze(repeated(replica, len(rate)), rate)
    for values in (
        found.ttft_ms,
        found.itl_ms,
        found.prefill_ms,
        found.wait_ms,
        found.in_service,
        found.waiting,
        found.throughput_rps,
    ):
        assert never_falls(values, rounding(replica))
    assert np.all(found.throughput_rps <= rate * (1 + 1e-12))
    most_rps = full_rps(replica) * (1 + rounding(replica))
    assert np.all(found.throughput_rps <= most_rps)


@given(replicas())
def test_nothing_jumps_at_saturation(replica: Replicas) -> None:
    near = np.array([1 - 1e-9, 1 - 1e-13, 1.0, 1 + 1e-13, 1 + 1e-9])
    found = MODEL.analyze(repeated(replica, len(near)), full_rps(replica) * near)
    # With all queue lengths up to Q equally likely their mean, Q/2, grows by Q**2/12 of what the
    # logarithm of the rate does: Q/6 of itself.
    growth = 1 + float(replica.max_queue[0])
    for values in (found.ttft_ms, found.itl_ms, found.in_system, found.throughput_rps):
        assert np.ptp(values) <= (1e-5 + 1e-9 * growth) * values[2]
        assert np.ptp(values[1:4]) <= (1e-9 + 1e-13 * growth) * values[2]


@given(replicas())
def test_an_idle_replica_serves_each_request_alone(replica: Replicas) -> None:
    found = MODEL.analyze(replica, np.array([0.0]))
    alpha, beta, gamma, delta = replica.parameters[0]
    tokens = replica.input_tokens[0]
    assert found.throughput_rps[0] == found.wait_ms[0] == found.in_system[0] == 0
    assert found.itl_ms[0] == pytest.approx(alpha + beta)
    assert found.prefill_ms[0] == pytest.approx(gamma + delta * tokens if tokens else 0)


@given(replicas())
def test_far_beyond_saturation_all_places_are_taken(replica: Replicas) -> None:
    found = MODEL.analyze(replica, np.array([1e12 * full_rps(replica)]))
    assert found.throughput_rps[0] == pytest.approx(full_rps(replica), rel=1e-9)
    assert found.utilization[0] == pytest.approx(1, rel=1e-9)
    assert found.waiting[0] == pytest.approx(replica.max_queue[0], rel=1e-9)


@given(st.floats(0.01, 0.5), st.floats(5.0, 100.0), st.floats(0.01, 1.0))
def test_a_batch_that_never_fills_holds_rate_times_time(
    load: float, alpha_ms: float, beta_ms: float
) -> None:
    # Arrivals see time averages: n - 1 = lambda s(n), with s(n) = alpha + beta n.
    replica = models.replicas(4096, 0, 2, [alpha_ms, beta_ms, 0, 0])
    per_ms = load * full_rps(replica) / 1000
    batch = (1 + per_ms * alpha_ms) / (1 - per_ms * beta_ms)
    found: Analysis = MODEL.analyze(replica, np.array([per_ms * 1000]))
    assert found.itl_ms[0] == pytest.approx(alpha_ms + beta_ms * batch, rel=1e-10)
