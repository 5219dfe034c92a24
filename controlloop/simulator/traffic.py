"""Load over time: day curves, and what arrives step by step at a plant of fluids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.units import SECONDS_PER_HOUR

HOURS_PER_DAY = 24.0


@dataclass(frozen=True, slots=True)
class DayCurve:
    """Arrivals at one server over a day.

    Attributes:
        trough_rps: the mean rate at its least, requests/s, >= 0.
        peak_rps: the mean rate at `peak_hour`, requests/s.
        peak_hour: the hour of the day of the peak, 0..24.
        sharpness: > 1 makes the peak narrower than a sine's, < 1 broader.
        noise: relative standard deviation of the slow wander of the rate; 0 is none.
        wander_s: the time over which that wander forgets itself, seconds.

    """

    trough_rps: float
    peak_rps: float
    peak_hour: float
    sharpness: float = 1.0
    noise: float = 0.0
    wander_s: float = 1800.0

    def mean_rps(self, times_s: FloatArray) -> FloatArray:
        """The rate without noise at `times_s` (n,), seconds since midnight."""
        hours = times_s / SECONDS_PER_HOUR - self.peak_hour
        height = 0.5 * (1.0 + np.cos(2.0 * np.pi * hours / HOURS_PER_DAY))
        swing = (self.peak_rps - self.trough_rps) * height**self.sharpness
        return np.asarray(self.trough_rps + swing, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """What arrives, step by step: both arrays are (steps, servers).

    `rates_rps` are the rates that arrivals are drawn from, `arrivals` whole requests.
    """

    step_s: float
    rates_rps: FloatArray
    arrivals: FloatArray
