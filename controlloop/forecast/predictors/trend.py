"""A local linear trend by the Kalman filter.

Harvey (1989), "Forecasting, Structural Time Series Models and the Kalman Filter", chapter 2: a
level that wanders and moves by a slope that wanders too, seen with noise; here the slope is
damped. Variances are in units of the noise's (concentrated likelihood), and the ratio that
fits a series is chosen by likelihood. A slot that is missing is predicted and not corrected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.forecast.predictors.filtering import Filter

# Variances of the steps of level and slope, over that of the noise.
RATIOS: Final = np.array([[0.003, 0.0], [0.03, 0.0001], [0.3, 0.001], [3.0, 0.003]])
DAMPING: Final = 0.95
_FIRST_SLOPE: Final = 0.01
_MEMORY: Final = 0.98
_LEAST: Final = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class TrendState:
    """Each is (ratios, m): mean, covariance (p00, p01, p11), and what the likelihood is made of."""

    level: FloatArray
    slope: FloatArray
    p00: FloatArray
    p01: FloatArray
    p11: FloatArray
    squares: FloatArray
    logs: FloatArray
    count: FloatArray


class LocalTrend(Filter[TrendState]):
    """The level and its slope."""

    name = "trend"

    def start(self, series: int) -> TrendState:
        """No level."""
        shape = (len(RATIOS), series)
        zero = np.zeros(shape)
        first = np.full(shape, _FIRST_SLOPE)
        return TrendState(np.full(shape, np.nan), zero, zero + 1.0, zero, first, zero, zero, zero)

    def move(self, state: TrendState, values: FloatArray, known: BoolArray) -> TrendState:
        """Predict, and correct where the value is known; the first one gives the level."""
        begins = np.isnan(state.level)
        level = np.where(begins & known, values, state.level + state.slope)
        slope = state.slope * DAMPING
        p00 = state.p00 + 2.0 * state.p01 + state.p11 + RATIOS[:, [0]]
        p01 = DAMPING * (state.p01 + state.p11)
        p11 = DAMPING**2 * state.p11 + RATIOS[:, [1]]
        judged = known & ~begins
        variance = p00 + 1.0
        gain0, gain1 = judged * p00 / variance, judged * p01 / variance
        error = np.where(judged, values - level, 0.0)
        forget = np.where(judged, _MEMORY, 1.0)
        return TrendState(
            level=level + gain0 * error,
            slope=slope + gain1 * error,
            p00=np.where(begins, state.p00, p00 - gain0 * p00),
            p01=np.where(begins, state.p01, p01 - gain0 * p01),
            p11=np.where(begins, state.p11, p11 - gain1 * p01),
            squares=forget * state.squares + error**2 / variance,
            logs=forget * state.logs + judged * np.log(variance),
            count=forget * state.count + judged,
        )

    def ahead(self, state: TrendState, steps: FloatArray) -> FloatArray:
        """The line from the level, bent by the damping."""
        counted = np.maximum(state.count, 1.0)
        misfit = counted * np.log(np.maximum(state.squares / counted, _LEAST)) + state.logs
        reach = (1.0 - DAMPING**steps) / (1.0 - DAMPING)
        best = (np.argmin(misfit, axis=0), np.arange(misfit.shape[1]))
        return np.asarray((state.level + reach * state.slope)[best], dtype=np.float64)
