"""Holt's linear trend with damping; its constants are those that did best on each series.

Gardner and McKenzie (1985), "Forecasting trends in time series": level l and trend b,
l' = l + phi b + alpha e, b' = phi b + alpha beta e, and the forecast k steps on is
l + (phi + ... + phi^k) b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.forecast.predictors.filtering import Filter

# alpha, beta, phi: from slow to quick.
CONSTANTS: Final = np.array([[0.1, 0.05, 0.95], [0.25, 0.1, 0.9], [0.5, 0.1, 0.9], [0.8, 0.2, 0.8]])
_MEMORY: Final = 0.975


@dataclass(frozen=True, slots=True, eq=False)
class HoltState:
    """Each is (constants, m); `cost` sums absolute errors one slot ahead, old ones fading."""

    level: FloatArray
    trend: FloatArray
    cost: FloatArray


class Holt(Filter[HoltState]):
    """The damped trend."""

    name = "holt"

    def start(self, series: int) -> HoltState:
        """No level, no trend."""
        shape = (len(CONSTANTS), series)
        return HoltState(np.full(shape, np.nan), np.zeros(shape), np.zeros(shape))

    def move(self, state: HoltState, values: FloatArray, known: BoolArray) -> HoltState:
        """One slot; the first that is known gives the level."""
        alpha, beta, phi = (CONSTANTS[:, [column]] for column in range(3))
        begins = np.isnan(state.level)
        trend = phi * state.trend
        level = np.where(begins & known, values, state.level + trend)
        error = np.where(known & ~begins, values - level, 0.0)
        cost = np.where(known, _MEMORY * state.cost + np.abs(error), state.cost)
        return HoltState(level + alpha * error, trend + alpha * beta * error, cost)

    def ahead(self, state: HoltState, steps: FloatArray) -> FloatArray:
        """The line from the level, bent by the damping."""
        phi = CONSTANTS[:, [2]]
        reach = phi * (1.0 - phi**steps) / (1.0 - phi)
        best = (np.argmin(state.cost, axis=0), np.arange(state.cost.shape[1]))
        return np.asarray((state.level + reach * state.trend)[best], dtype=np.float64)
