"""The table of predictors: a new one is a file and one line here."""

from __future__ import annotations

from controlloop.forecast.predictor import Predictor
from controlloop.forecast.predictors.average import Average
from controlloop.forecast.predictors.holt import Holt
from controlloop.forecast.predictors.last_value import LastValue
from controlloop.forecast.predictors.seasonal import DAY_S, WEEK_S, Seasonal
from controlloop.forecast.predictors.shift import LevelShift
from controlloop.forecast.predictors.trend import LocalTrend
from controlloop.plugins import Registry


def predictors() -> Registry[Predictor]:
    """Every predictor that this package brings, but the last value, which is always there."""
    registry: Registry[Predictor] = Registry("predictor", Predictor)
    registry.add("average-fast", lambda: Average("average-fast", 3.0))
    registry.add("average", lambda: Average("average", 12.0))
    registry.add("average-slow", lambda: Average("average-slow", 45.0))
    registry.add("holt", Holt)
    registry.add("trend", LocalTrend)
    registry.add("shift", LevelShift)
    registry.add("seasonal-daily", lambda: Seasonal("seasonal-daily", DAY_S))
    registry.add("seasonal-weekly", lambda: Seasonal("seasonal-weekly", WEEK_S))
    return registry


__all__ = ["LastValue", "Predictor", "predictors"]
