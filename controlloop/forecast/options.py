"""What a forecaster is told."""

from __future__ import annotations

from dataclasses import dataclass

from controlloop.api.predictions import PREDICTORS
from controlloop.settings.learning import ForecasterSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastOptions:
    """How far ahead, how sure, and how it is judged.

    Attributes:
        period_s: time between two decisions, seconds; > 0.
        startup_s: how long a replica takes to start where none was seen to, seconds.
        quantile: the level of the arrival rate that is the floor of what is sized for.
        predictors: names of those that the ensemble mixes (`forecast.predictors`).
        headroom: share added to the measured rate, predicted or not.
        window: over how many forecasts predictors are scored.
        budget_s: how long one call of a predictor may take, seconds.
        warm_s: how much of the past is asked for at the first start, seconds; 0: none.
        warm_s: float = 8 * 86_400.0
    save_every_s: how often what was seen is put away, seconds.

    """

    period_s: float = 60.0
    startup_s: float = 120.0
    quantile: float = 0.9
    predictors: tuple[str, ...] = PREDICTORS
    headroom: float = 0.1
    window: float = 60.0
    budget_s: float = 2.0
    warm_s: float = 8 * 86_400.0
    save_every_s: float = 600.0


def options_of(settings: ForecasterSettings, period_s: float) -> ForecastOptions:
    """What the settings say, for decisions made every `period_s`."""
    return ForecastOptions(
        period_s=period_s,
        startup_s=settings.startup_s,
        quantile=settings.quantile,
        predictors=settings.predictors,
        headroom=settings.headroom,
        window=settings.window,
        budget_s=settings.budget_s,
        warm_s=settings.warm_s,
    )
