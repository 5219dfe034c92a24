"""Generated requests have the rates, bursts and lengths that were asked for, chunk by chunk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlloop.simulator.traffic import DayCurve
from controlloop.simulator.workloads.generated import Generated, TokenLengths
from controlloop.simulator.workloads.rates import (
    Daily,
    OnOff,
    RateCurve,
    Steady,
    Steps,
    Wandering,
)
from controlloop.simulator.workloads.requests import Requests

LENGTHS = TokenLengths(200, 50, 0.5, 1.0)
SEED = np.random.SeedSequence(4)


def requests(rate: RateCurve, seconds: float, burstiness: float = 1.0) -> Requests:
    return Generated(rate, LENGTHS, burstiness).open(SEED).take(seconds)


@given(st.lists(st.floats(0.0, 1500.0), max_size=12))
@settings(max_examples=30, deadline=None)
def test_how_requests_are_taken_does_not_change_them(moments: list[float]) -> None:
    workload = Generated(Wandering(OnOff(5.0, 0.5, 60.0, 60.0), 0.3), LENGTHS, 2.0)
    whole = workload.open(SEED).take(1500.0)
    stream = workload.open(SEED)
    parts = [stream.take(moment) for moment in sorted(moments)]
    for part, moment in zip(parts, sorted(moments), strict=True):
        assert not len(part) or part.times_s[-1] < moment
    joined = Requests.joined([*parts, stream.take(1500.0)])
    assert np.array_equal(joined.times_s, whole.times_s)
    assert np.array_equal(joined.output_tokens, whole.output_tokens)
    assert np.all(np.diff(whole.times_s) >= 0)


@pytest.mark.parametrize("burstiness", [0.0, 0.5, 1.0, 3.0])
def test_gaps_have_the_rate_and_the_burstiness(burstiness: float) -> None:
    gaps = np.diff(requests(Steady(10.0), 20_000.0, burstiness).times_s)
    assert np.mean(gaps) == pytest.approx(0.1, rel=0.03)
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(burstiness, rel=0.05, abs=1e-6)


def test_lengths_have_the_mean_and_the_spread() -> None:
    drawn = requests(Steady(10.0), 20_000.0)
    assert np.mean(drawn.input_tokens) == pytest.approx(200, rel=0.02)
    assert np.std(drawn.input_tokens) == pytest.approx(100, rel=0.03)
    assert np.mean(drawn.output_tokens) == pytest.approx(50, rel=0.02)
    assert np.min(drawn.output_tokens) >= 1


def test_steps_change_the_rate_when_they_say_and_repeat() -> None:
    rate = Steps(((0.0, 2.0), (100.0, 0.0), (500.0, 20.0)), every_s=600.0)
    times = requests(rate, 1200.0).times_s
    counts = [int(np.sum((times >= a) & (times < b))) for a, b in ((0, 100), (100, 500))]
    assert counts[0] == pytest.approx(200, abs=60)
    assert counts[1] == 0
    for start in (500, 1100):
        assert np.sum((times >= start) & (times < start + 100)) == pytest.approx(2000, abs=200)


def test_on_and_off_phases_have_their_shares() -> None:
    times = requests(OnOff(10.0, 1.0, 60.0, 120.0), 100_000.0).times_s
    assert len(times) / 100_000 == pytest.approx(4.0, rel=0.1)
    by_minute = np.bincount((times / 10).astype(int)) / 10
    assert np.mean(by_minute > 5) == pytest.approx(1 / 3, abs=0.05)


def test_a_day_follows_its_curve_and_wanders_about_it() -> None:
    curve = DayCurve(trough_rps=1.0, peak_rps=5.0, peak_hour=14.0)
    times = requests(Daily(curve), 86_400.0).times_s
    by_hour = np.bincount((times / 3600).astype(int)) / 3600
    assert by_hour[14] == pytest.approx(5.0, rel=0.05)
    assert by_hour[2] == pytest.approx(1.0, rel=0.1)
    wandering = Wandering(Steady(1.0), 0.2, memory_s=600.0)
    rates = wandering.follow(np.random.default_rng(1))(np.arange(200_000.0))
    assert np.mean(rates) == pytest.approx(1.0, rel=0.03)
    assert np.std(rates) == pytest.approx(0.2, rel=0.1)


def test_the_peak_is_what_the_busiest_window_expects() -> None:
    steps = Generated(Steps(((0.0, 1.0), (1000.0, 7.0), (1100.0, 2.0))), LENGTHS)
    assert steps.peak_rps(SEED, 3000.0, 100.0) == pytest.approx(7.0)
    assert steps.peak_rps(SEED, 3000.0, 200.0) == pytest.approx(4.5)
    wandering = Generated(Wandering(Steady(20.0), 0.3, 300.0), LENGTHS)
    times = wandering.open(SEED).take(3000.0).times_s
    counts = [np.sum((times >= start) & (times < start + 300)) for start in range(0, 2700, 10)]
    assert max(counts) / 300 == pytest.approx(wandering.peak_rps(SEED, 3000.0, 300.0), rel=0.05)
