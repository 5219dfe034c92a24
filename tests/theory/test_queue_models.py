"""Limits in which each queue model is one that is known in closed form, or another model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.replicas import Analysis, FloatArray, SizingStatus
from controlloop.queueing import models
from controlloop.queueing.roofline import Roofline

# weights, sequence, context, token, request, stream, kv_tokens
CARD = [7.0, 0.02, 4e-5, 0.025, 6.8, 0.06, 4.5e5]


def roofline(**changed: float) -> list[float]:
    named = dict(zip(Roofline().parameter_names, CARD, strict=True))
    return list((named | changed).values())


def single_server(load: float, places: int) -> tuple[float, float, float]:
    """Share of time empty, share of arrivals accepted, mean waiting of M/M/1/K."""
    share = load ** np.arange(places + 1)
    share /= share.sum()
    return float(share[0]), float(share[:-1].sum()), float((np.arange(places) * share[1:]).sum())


def erlang(servers: int, queue: int, offered: float) -> FloatArray:
    """State probabilities of M/M/c/K."""
    state = np.arange(servers + queue + 1)
    served = np.minimum(state, servers)
    log_share = state * math.log(offered) - np.cumsum(np.log(np.maximum(served, 1)))
    share = np.exp(log_share - log_share.max())
    return np.asarray(share / share.sum())


@given(
    st.integers(1, 200),
    st.integers(0, 300),
    st.floats(0.01, 3.0),
    st.floats(1.0, 50.0),
    st.floats(0.0, 1.0),
)
def test_mm1k_is_the_textbooks(
    batch: int, queue: int, load: float, alpha: float, beta: float
) -> None:
    tokens_in, tokens_out, gamma, delta = 100.0, 65.0, 20.0, 0.01
    prefill_ms, itl_ms = gamma + delta * tokens_in * batch, alpha + beta * batch
    service_ms = prefill_ms + (tokens_out - 1) * itl_ms
    full_rps = 1000 * batch / service_ms
    pair = models.replicas(batch, tokens_in, tokens_out, [alpha, beta, gamma, delta], queue)
    found = models.analyze(pair, load * full_rps, model="mm1k")
    empty, accepted, waiting = single_server(load, queue + 1)
    assert found.throughput_rps[0] == pytest.approx(load * accepted * full_rps, rel=1e-9)
    assert found.utilization[0] == pytest.approx(1 - empty, rel=1e-9)
    assert found.waiting[0] == pytest.approx(waiting, rel=1e-9)
    wait_ms = 1000 * waiting / (load * accepted * full_rps)
    assert found.ttft_ms[0] == pytest.approx(wait_ms + prefill_ms, rel=1e-9)
    assert found.itl_ms[0] == pytest.approx(itl_ms, rel=1e-12)
    assert found.max_rate_rps[0] == pytest.approx(0.999 * full_rps, rel=1e-12)


@given(st.integers(1, 100), st.floats(0.01, 0.98))
def test_mm1k_never_promises_more_than_the_batch_that_fills(batch: int, load: float) -> None:
    pair = models.replicas(batch, 256, 128, [10.0, 0.5, 30.0, 0.02])
    rate = load * float(models.size(pair, models.targets()).rate_rps[0])
    cautious, usual = (
        models.analyze(pair, rate, model=name) for name in ("mm1k", "state-dependent")
    )
    assert cautious.itl_ms[0] >= usual.itl_ms[0] * (1 - 1e-12)
    assert cautious.ttft_ms[0] >= usual.ttft_ms[0] * (1 - 1e-12)
    assert cautious.max_rate_rps[0] == pytest.approx(usual.max_rate_rps[0], rel=1e-12)


@given(st.integers(1, 100), st.floats(0.01, 2.0), st.floats(1.0, 50.0), st.floats(0.0, 2.0))
def test_iterations_without_prompts_and_reads_are_state_dependent(
    batch: int, load: float, alpha: float, beta: float
) -> None:
    own = models.replicas(batch, 0, 50, [alpha, beta, 0.0])
    usual = models.replicas(batch, 0, 50, [alpha, beta, 0.0, 0.0])
    rate = load * 1000 * batch / (49 * (alpha + beta * batch))
    assert_same(
        models.analyze(own, rate, model="iteration-time"), models.analyze(usual, rate), 1e-9
    )


def assert_same(one: Analysis, other: Analysis, tolerance: float) -> None:
    for name in ("throughput_rps", "response_ms", "wait_ms", "in_service", "itl_ms", "prefill_ms"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=tolerance, abs=1e-9)


@given(st.integers(1, 64), st.sampled_from([0, 1, 512, 8192, 8193, 30000]), st.floats(1.0, 2000.0))
def test_iterations_cost_what_the_tokens_in_them_cost(
    batch: int, tokens_in: int, tokens_out: float
) -> None:
    alpha, beta, gamma = 7.0, 0.02, 5e-5
    if tokens_in == 0 and tokens_out < 2:
        return
    pair = models.replicas(batch, tokens_in, tokens_out, [alpha, beta, gamma])
    full = models.analyze(pair, 1e9, model="iteration-time")
    chunks = math.ceil(tokens_in / 8192)
    steps = tokens_out - 1
    tokens = beta * (tokens_in + steps)
    read = gamma * (tokens_in * (chunks + 1) / 2 + steps * (tokens_in + tokens_out / 2))
    # A full batch gives up one request each time it has paid its tokens and its part of alpha.
    departure_ms = alpha * (chunks + steps) / batch + tokens + read
    assert full.throughput_rps[0] == pytest.approx(1000 / departure_ms, rel=1e-9)


@given(st.integers(1, 60), st.integers(0, 120), st.floats(0.01, 3.0))
def test_a_roofline_of_weights_alone_is_the_queue_m_m_c_k(
    batch: int, queue: int, load: float
) -> None:
    parameters = roofline(sequence_ms=0, context_ms=0, token_ms=0, stream_ms=0, kv_tokens=1e12)
    pair = models.replicas(batch, 100, 50, parameters, queue)
    rate = load * 1000 * batch / (50 * 7.0)
    found = models.analyze(pair, rate, model="roofline")
    share = erlang(batch, queue, load * batch)
    served = np.minimum(np.arange(len(share)), batch)
    assert found.in_service[0] == pytest.approx((served * share).sum(), rel=1e-9)
    assert found.waiting[0] == pytest.approx(
        ((np.arange(len(share)) - served) * share).sum(), rel=1e-9
    )
    assert found.itl_ms[0] == 7.0
    # Its own iteration, and half of one under way unless the replica is empty.
    empty = share[0] / share[:-1].sum() if batch > 1 else 1.0
    assert found.prefill_ms[0] == pytest.approx(6.8 + 7.0 + 3.5 * (1 - empty), rel=1e-9)


@given(st.integers(1, 100), st.floats(0.01, 2.0), st.floats(0.0, 1.0), st.floats(0.0, 1e-3))
def test_a_roofline_that_computes_for_nothing_is_state_dependent(
    batch: int, load: float, sequence: float, context: float
) -> None:
    parameters = roofline(
        sequence_ms=sequence, context_ms=context, token_ms=0, stream_ms=0, kv_tokens=1e12
    )
    beta = sequence + context * (100 + 0.5 * 50 * (1 + Roofline().output_cv ** 2))
    rate = load * 1000 * batch / (50 * (7.0 + beta * batch))
    found = models.analyze(models.replicas(batch, 100, 50, parameters), rate, model="roofline")
    usual = models.analyze(models.replicas(batch, 0, 51, [7.0, beta, 0.0, 0.0]), rate)
    for name in ("throughput_rps", "wait_ms", "in_service", "itl_ms"):
        assert getattr(found, name) == pytest.approx(getattr(usual, name), rel=1e-9, abs=1e-12)


@given(st.integers(1, 60), st.integers(0, 120), st.floats(0.01, 3.0))
def test_a_roofline_that_only_computes_serves_at_one_speed(
    batch: int, queue: int, load: float
) -> None:
    tokens_in, tokens_out, token_ms = 700.0, 50.0, 0.02
    parameters = roofline(weights_ms=0, sequence_ms=0, context_ms=0, token_ms=token_ms)
    pair = models.replicas(batch, tokens_in, tokens_out, parameters, queue)
    full_rps = 1000 / (token_ms * (tokens_in + tokens_out))
    found = models.analyze(pair, load * full_rps, model="roofline")
    _, accepted, _ = single_server(load, batch + queue)
    assert found.throughput_rps[0] == pytest.approx(load * accepted * full_rps, rel=1e-6)


def test_a_lone_request_costs_its_prompt_and_its_tokens() -> None:
    found = models.analyze(models.replicas(64, 1000, 20, CARD), 0.0, model="roofline")
    context = 1000 + 0.5 * 20 * (1 + Roofline().output_cv ** 2)
    assert found.prefill_ms[0] == pytest.approx(6.8 + math.hypot(7.0, 0.025 * 1000))
    assert found.itl_ms[0] == pytest.approx(math.hypot(7.0, 0.025) + 0.02 + 4e-5 * context)


def test_the_kv_cache_limits_what_runs() -> None:
    context = 4096 + 0.5 * 1024 * (1 + Roofline().output_cv ** 2)
    roomy = models.replicas(64, 4096, 1024, roofline(kv_tokens=1e9))
    small = models.replicas(64, 4096, 1024, roofline(kv_tokens=10.5 * context))
    beyond = models.analyze(small, 100.0, model="roofline")
    assert beyond.in_service[0] == pytest.approx(10.5, rel=1e-6)
    assert beyond.max_rate_rps[0] < models.analyze(roomy, 1.0, model="roofline").max_rate_rps[0]
    assert beyond.throughput_rps[0] == pytest.approx(beyond.max_rate_rps[0] / 0.999, rel=1e-6)


def test_a_request_that_the_kv_cache_cannot_hold_makes_the_pair_invalid() -> None:
    pairs = models.replicas(64, [4096, 100], 1024, roofline(kv_tokens=4000))
    found = models.size(pairs, models.targets(), "roofline")
    assert list(found.status) == [SizingStatus.INVALID, SizingStatus.OK]


@given(st.floats(0.5, 1.2))
def test_nothing_jumps_where_the_kv_cache_holds_one_more(load: float) -> None:
    context = 4096 + 0.5 * 1024 * (1 + Roofline().output_cv ** 2)
    near = np.array([1 - 1e-9, 1.0, 1 + 1e-9])
    kv_tokens = 12 * context * near
    table = np.array([roofline(kv_tokens=each) for each in kv_tokens])
    pairs = models.replicas(64, 4096, 1024, table, 200)
    rate = load * models.size(pairs, models.targets(), "roofline").rate_rps[1]
    found = models.analyze(pairs, rate, model="roofline")
    for values in (found.ttft_ms, found.itl_ms, found.in_service, found.throughput_rps):
        assert np.ptp(values) <= 1e-6 * values[1]


@given(
    st.sampled_from([0.0, 16.0, 512.0, 4096.0, 20000.0]),
    st.sampled_from([1.0, 2.0, 64.0, 1024.0]),
    st.integers(1, 512),
    st.integers(0, 2**32 - 1),
)
def test_more_arrivals_make_no_model_better(
    tokens_in: float, tokens_out: float, batch: int, seed: int
) -> None:
    factors = np.exp(np.random.default_rng(seed).uniform(-1.5, 1.5, len(CARD)))
    kv_tokens = max(CARD[-1] * factors[-1], 2 * (tokens_in + tokens_out))
    parameters = [*(np.array(CARD) * factors)[:-1], kv_tokens]
    pair = models.replicas(batch, tokens_in, tokens_out, parameters)
    full = float(models.size(pair, models.targets(), "roofline").rate_rps[0]) / 0.999
    rate = full * np.concatenate([np.geomspace(1e-4, 0.9, 30), np.linspace(0.9, 2, 60)])
    found = models.analyze(pair.take(np.zeros(len(rate), dtype=np.int64)), rate, model="roofline")
    for values in (found.ttft_ms, found.itl_ms, found.in_service, found.waiting):
        assert np.all(np.diff(values) >= -1e-12 * np.abs(values[1:]))
