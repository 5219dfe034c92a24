"""What a benchmark run shows of one replica, as its service times predict it.

A benchmark is not a stationary queue with Poisson arrivals. Three kinds of run are told apart:

- synchronous: one request at a time;
- constant: evenly spaced arrivals at an offered rate, from an empty replica, for a limited
  time. Long answers may live as long as the run, so the number in service follows the fluid
  n' = rate - X(n), with a life of two exponential stages for answers of little variance, and is
  averaged from one life on;
- closed: a number of clients that all start at once and send again as soon as they are
  answered. A first wave enters as far as prompts have room, a second waits for it, and what
  comes after waits as in steady state; all that counts is completed within the run.

A client opens a connection where none is idle: constant runs at low rates pay `connect_ms` with
the chance exp(-rate IDLE_S). That is the client's time, not the replica's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol, Self

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray, Percentiles
from controlloop.queueing.service import ServiceTimes, restoring
from controlloop.queueing.spread import Spread, latency_percentile, left_after_averaging
from controlloop.units import MILLISECONDS_PER_SECOND

# Connections kept idle for 5 s by ten client processes: fitted freely it comes out as 0.50.
IDLE_S: Final = 0.5

_STEPS: Final = 60
_LIVES: Final = 20
_BISECTIONS: Final = 50
_STAGES: Final = 2
_LEAST: Final = 1e-6


class RunKind(IntEnum):
    """How a benchmark's clients send."""

    SYNCHRONOUS = 0
    CONSTANT = 1
    CLOSED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """n benchmark runs; each array is (n,).

    Attributes:
        kind: a `RunKind`.
        rate_rps: rate that was offered, not completed; counts for constant runs.
        duration_s: how long the run lasted.
        clients: how many send at once; counts for closed runs.

    """

    kind: IntArray
    rate_rps: FloatArray
    duration_s: FloatArray
    clients: FloatArray

    def take(self, rows: IntArray | BoolArray) -> Runs:
        """The runs at `rows`."""
        return Runs(self.kind[rows], self.rate_rps[rows], self.duration_s[rows], self.clients[rows])


class RunTimes(ServiceTimes, Protocol):
    """Service times that can also be asked away from the stationary state."""

    def evenly_spaced(self) -> Self:
        """The same times under evenly spaced arrivals."""
        ...

    def first_token_ms(self, beside: FloatArray, rate_per_ms: FloatArray) -> FloatArray:
        """Mean time to first token at a rate that need not keep the batch: (n,)."""
        ...

    def first_token_variance(self, beside: FloatArray, rate_per_ms: FloatArray) -> FloatArray:
        """Variance of it while the batch stays as it is, in ms^2: (n,)."""
        ...

    def itl_during_ms(self, batch: FloatArray) -> FloatArray:
        """Mean ITL while `batch`, any number above 0, is the average in service: (n,)."""
        ...

    def stay_variance(self, beside: FloatArray, rate_per_ms: FloatArray) -> FloatArray:
        """Variance of a request's mean ITL while the batch stays as it is, in ms^2: (n,)."""
        ...

    def admitted_at_once(self, clients: FloatArray) -> FloatArray:
        """Of `clients` requests that come at once, those whose prompts find room: (n,)."""
        ...

    def prompts_ms(self, count: FloatArray) -> FloatArray:
        """Time until the last of `count` prompts that came at once is computed: (n,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class RunPrediction:
    """Means over the requests that a run completes, each (n,).

    Attributes:
        ttft_ms: time to first token.
        itl_ms: time between tokens.
        in_service: requests in service.

    """

    ttft_ms: FloatArray
    itl_ms: FloatArray
    in_service: FloatArray


def predict_runs(times: RunTimes, runs: Runs, connect_ms: float = 0.0) -> RunPrediction:
    """What each run shows.

    Args:
        times: service times of the n replicas under test.
        runs: the runs.
        connect_ms: what it costs the client to open a connection.

    """
    count = len(runs.kind)
    found = RunPrediction(*(np.full(count, np.nan) for _ in range(3)))
    times = times.evenly_spaced()
    for kind, predict in (
        (RunKind.SYNCHRONOUS, _synchronous),
        (RunKind.CONSTANT, _constant),
        (RunKind.CLOSED, _closed),
    ):
        rows = np.flatnonzero(runs.kind == kind)
        if len(rows):
            part = predict(times.take(rows), runs.take(rows))
            found.ttft_ms[rows], found.itl_ms[rows] = part.ttft_ms, part.itl_ms
            found.in_service[rows] = part.in_service
    return RunPrediction(found.ttft_ms + connect_ms * _cold(runs), found.itl_ms, found.in_service)


def run_percentiles(
    times: RunTimes,
    runs: Runs,
    levels: Sequence[float],
    *,
    output_cv: float,
    connect_ms: float = 0.0,
) -> Percentiles:
    """Percentiles of constant runs, NaN for the others.

    The number in service varies as that of evenly spaced arrivals with lives of `output_cv`
    does, whose variance is output_cv/sqrt(3) of its mean, divided by how fast it returns.

    Args:
        times: service times of the n replicas under test.
        runs: the runs.
        levels: shares between 0 and 1.
        output_cv: coefficient of variation of output tokens.
        connect_ms: what it costs the client to open a connection.

    """
    shape = (len(levels), len(runs.kind))
    found = Percentiles(tuple(levels), np.full(shape, np.nan), np.full(shape, np.nan))
    rows = np.flatnonzero(runs.kind == RunKind.CONSTANT)
    if not len(rows):
        return found
    mine, some = times.evenly_spaced().take(rows), runs.take(rows)
    at = predict_runs(mine, some, connect_ms)
    rate = some.rate_rps / MILLISECONDS_PER_SECOND
    batch = np.maximum(at.in_service, _LEAST)
    step = np.maximum(1e-3 * batch, _LEAST)
    returns = restoring(mine, batch)
    variance = np.minimum(
        batch * output_cv / np.sqrt(3) / returns, batch * np.maximum(mine.slots - batch, 0.0) / 4
    )
    ttft_slope = mine.first_token_ms(batch + step, rate) - mine.first_token_ms(batch, rate)
    itl_slope = mine.itl_during_ms(batch + step) - mine.itl_during_ms(batch)
    cold = _cold(some)
    ttft = Spread(
        at.ttft_ms,
        mine.first_token_variance(batch, rate)
        + variance * (ttft_slope / step) ** 2
        + connect_ms**2 * cold * (1 - cold),
    )
    itl = Spread(
        at.itl_ms,
        variance * (itl_slope / step) ** 2 * left_after_averaging(returns)
        + mine.stay_variance(batch, rate),
    )
    for at_level, level in enumerate(levels):
        found.ttft_ms[at_level, rows] = latency_percentile(ttft, level)
        found.itl_ms[at_level, rows] = latency_percentile(itl, level)
    return found


def _cold(runs: Runs) -> FloatArray:
    """The chance that a request finds no open connection."""
    constant = runs.kind == RunKind.CONSTANT
    return np.where(constant, np.exp(-runs.rate_rps * IDLE_S), 0.0)


def _synchronous(times: RunTimes, runs: Runs) -> RunPrediction:
    alone = np.ones(len(runs.kind))
    return RunPrediction(times.prefill_ms(alone), times.itl_ms(alone), alone)


def _constant(times: RunTimes, runs: Runs) -> RunPrediction:
    batch = in_service_during(times, runs)
    rate = runs.rate_rps / MILLISECONDS_PER_SECOND
    return RunPrediction(times.first_token_ms(batch, rate), times.itl_during_ms(batch), batch)


def _closed(times: RunTimes, runs: Runs) -> RunPrediction:
    clients = runs.clients
    batch = np.minimum(times.slots, clients)
    itl_ms = times.itl_during_ms(batch)
    per_ms = 1 / times.departure_ms(batch)
    ready_ms = times.first_token_ms(batch, per_ms)
    steady_ms = np.maximum(clients - batch, 0.0) / per_ms
    admitted = np.clip(times.admitted_at_once(clients), batch, clients)
    done = np.maximum(per_ms * runs.duration_s * MILLISECONDS_PER_SECOND - batch / 2, 1.0)
    first = np.minimum(admitted, done)
    second = np.clip(done - admitted, 0.0, clients - admitted)
    later = done - first - second
    first_ms = np.maximum(times.prompts_ms(first) / 2, ready_ms)
    second_ms = np.minimum((admitted - batch / 2 + second / 2) / per_ms, steady_ms) + ready_ms
    total_ms = first * first_ms + second * second_ms + later * (steady_ms + ready_ms)
    # More were admitted than can run on: the surplus is preempted, and its answers stretched.
    stretched = np.maximum((first + batch) / (2 * batch), 1.0)
    return RunPrediction(total_ms / done, itl_ms * (first * stretched + done - first) / done, batch)


def in_service_during(times: ServiceTimes, runs: Runs) -> FloatArray:
    """The mean number in service that requests of a constant run meet: (n,)."""
    rate = runs.rate_rps / MILLISECONDS_PER_SECOND
    settled = _settled(times, rate)
    life_ms = settled / np.minimum(rate, 1 / times.departure_ms(np.maximum(settled, _LEAST)))
    duration_ms = runs.duration_s * MILLISECONDS_PER_SECOND
    # A run of many lives is followed until it has settled.
    step_ms = np.minimum(duration_ms, _LIVES * life_ms) / _STEPS
    from_step = np.minimum(life_ms, 0.6 * duration_ms) / step_ms
    young, old, batch, total, weight = (np.zeros(len(rate)) for _ in range(5))
    for step in range(_STEPS):
        leaving = _STAGES / times.service_ms(np.maximum(batch, _LEAST))
        decay = np.exp(-leaving * step_ms)
        then_young = rate / leaving + (young - rate / leaving) * decay
        passed = rate - (then_young - young) / step_ms
        old = passed / leaving + (old - passed / leaving) * decay
        young = then_young
        then = np.minimum(young + old, times.slots)
        counts = np.clip(step + 1 - from_step, 0.0, 1.0)
        total += counts * (batch + then) / 2
        weight += counts
        batch = then
    rest = duration_ms / step_ms - _STEPS
    return (total + rest * batch) / (weight + rest)


def _settled(times: ServiceTimes, rate_per_ms: FloatArray) -> FloatArray:
    """The number in service that completes as much as arrives, at most the slots."""
    low, high = np.zeros(len(rate_per_ms)), times.slots
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        below = middle < rate_per_ms * times.service_ms(middle)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
