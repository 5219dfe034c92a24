"""Builds the forecaster."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from controlloop.forecast.forecasters import guarded
from controlloop.forecast.options import options_of
from controlloop.protocols import Forecaster, RateHistory, StateStore
from controlloop.settings.tree import Settings

UNSCHEDULED_PERIOD_S: Final = 60.0
"""The time that a decision is taken to stand where cycles run only on demand."""


def build_forecaster(
    settings: Settings, store: StateStore | None = None, past: RateHistory | None = None
) -> Forecaster:
    """The forecaster that the settings name.

    A recording begins with what is kept, which then has to be what was known just then; and what
    the metric source told of the past would not be in it.

    Raises:
        UnknownPluginError: there is no such forecaster, or no such predictor.

    """
    options = options_of(settings.forecaster, settings.cycle.period_s or UNSCHEDULED_PERIOD_S)
    if settings.recording.file:
        options, past = replace(options, save_every_s=0.0), None
    return guarded(settings.forecaster.name, options, store, past)
