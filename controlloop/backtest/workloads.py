"""The table of generated workloads: a new one is one line here.

Each gives a server's rate over time around its mean; `phase` in 0..1 shifts it, so that servers
do not peak together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.plugins import Registry
from controlloop.simulator.traffic import HOURS_PER_DAY, DayCurve
from controlloop.simulator.workloads.rates import OnOff, RateAt, RateCurve, Steady, Steps, Wandering
from controlloop.units import SECONDS_PER_HOUR

WANDER_NOISE = 0.06


@dataclass(frozen=True, slots=True)
class Squeezed:
    """A day of the curve in `day_s` seconds."""

    curve: DayCurve
    day_s: float

    def follow(self, rng: np.random.Generator) -> RateAt:  # noqa: ARG002 - the protocol's argument
        """The curve's mean."""
        faster = HOURS_PER_DAY * SECONDS_PER_HOUR / self.day_s

        def at(times: FloatArray) -> FloatArray:
            return self.curve.mean_rps(times * faster)

        return at


def diurnal(mean_rps: float, length_s: float, phase: float) -> RateCurve:
    """One day: from a quarter of the mean at night to about twice of it by day.

    Less than 24 hours squeeze the day into them: its ramps are as much steeper.
    """
    day_s = min(length_s, HOURS_PER_DAY * SECONDS_PER_HOUR)
    peak_hour = (14.0 + 4.0 * phase) % HOURS_PER_DAY
    # The mean of a curve of sharpness 1 lies midway between trough and peak.
    curve = DayCurve(0.25 * mean_rps, 1.75 * mean_rps, peak_hour)
    return Wandering(Squeezed(curve, day_s), WANDER_NOISE)


def burst(mean_rps: float, length_s: float, phase: float) -> RateCurve:  # noqa: ARG001 - the table's arguments
    """Bursts of 2.5 times the base, about 5 minutes long, about every 25 minutes."""
    on_s, off_s, times = 300.0, 1200.0, 2.5
    base_rps = mean_rps * (on_s + off_s) / (times * on_s + off_s)
    return Wandering(OnOff(times * base_rps, base_rps, on_s, off_s), WANDER_NOISE)


def step(mean_rps: float, length_s: float, phase: float) -> RateCurve:
    """A step to 2.5 times the load for a third of the time."""
    start_s = length_s * (0.45 + 0.1 * phase)
    base_rps = mean_rps / 1.5
    steps = (
        (0.0, base_rps),
        (start_s, 2.5 * base_rps),
        (start_s + length_s / 3.0, base_rps),
    )
    return Wandering(Steps(steps), WANDER_NOISE)


def steady(mean_rps: float, length_s: float, phase: float) -> RateCurve:  # noqa: ARG001 - the table's arguments
    """The mean, with a slow wander."""
    return Wandering(Steady(mean_rps), WANDER_NOISE)


def workloads() -> Registry[RateCurve]:
    """Every generated workload: a factory of (mean rate in requests/s, length in s, phase)."""
    registry: Registry[RateCurve] = Registry("workload", RateCurve)
    registry.add("diurnal", diurnal)
    registry.add("burst", burst)
    registry.add("step", step)
    registry.add("steady", steady)
    return registry
