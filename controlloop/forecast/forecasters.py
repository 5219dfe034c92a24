"""The table of forecasters: a new one is one line here."""

from __future__ import annotations

from functools import partial

from controlloop.forecast.ensemble import EnsembleForecaster
from controlloop.forecast.guarded import GuardedForecaster
from controlloop.forecast.last_value import LastValueForecaster
from controlloop.forecast.options import ForecastOptions
from controlloop.forecast.predictors import predictors
from controlloop.plugins import Registry
from controlloop.protocols import Forecaster, RateHistory, StateStore


def forecasters() -> Registry[Forecaster]:
    """Every forecaster that this package brings.

    Each is made from `ForecastOptions`, a `StateStore` or None, and a `RateHistory` or None.

    Beside `last-value` and `ensemble`, every predictor is a forecaster by itself, which the
    last value stands in for where it does worse.
    """
    registry: Registry[Forecaster] = Registry("forecaster", Forecaster)
    registry.add("last-value", lambda options, *_: LastValueForecaster(options.headroom))
    registry.add("ensemble", lambda options, *kept: _of(options.predictors, options, *kept))
    for name in predictors().names:
        registry.add(name, partial(_of, (name,)))
    return registry


def guarded(
    name: str,
    options: ForecastOptions,
    store: StateStore | None = None,
    past: RateHistory | None = None,
) -> Forecaster:
    """The forecaster called `name`, which the last value stands in for when it fails.

    Raises:
        UnknownPluginError: there is no such forecaster, or no such predictor.

    """
    forecaster = forecasters().create(name, options, store, past)
    # What this package brings bounds each predictor; nobody knows what a third party's does.
    budget_s = options.budget_s if ":" in name else float("inf")
    fallback = LastValueForecaster(options.headroom)
    return GuardedForecaster(name, forecaster, fallback, budget_s)


def _of(
    names: tuple[str, ...],
    options: ForecastOptions,
    store: StateStore | None = None,
    past: RateHistory | None = None,
) -> EnsembleForecaster:
    known = predictors()
    return EnsembleForecaster([known.create(name) for name in names], options, store, past)
