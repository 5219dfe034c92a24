"""Whatever a forecaster does, the loop has loads to size for: at least those measured now."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from controlloop.api.decision import Forecast
from controlloop.api.observation import Observation
from controlloop.api.predictions import AsideReason, SetAside
from controlloop.api.readings import value_of
from controlloop.api.system import Load
from controlloop.forecast.bounded import Fault, Worker
from controlloop.protocols import Forecaster

REST_CYCLES: Final = 5


class GuardedForecaster:
    """A forecaster that is replaced by another for some cycles when it fails.

    Args:
        name: what it is called.
        forecaster: what is asked.
        fallback: what is asked instead; it must not fail.
        budget_s: how long the forecaster may take; infinite: it bounds itself.

    """

    def __init__(
        self, name: str, forecaster: Forecaster, fallback: Forecaster, budget_s: float
    ) -> None:
        self._name = name
        self._forecaster = forecaster
        self._fallback = fallback
        self._worker: Worker[Forecast] = Worker(budget_s)
        self._fault: Fault | None = None
        self._rest = 0

    def forecast(self, now: float, observation: Observation) -> Forecast:
        """The forecaster's, where it is one; its loads are never below those measured."""
        plain = self._fallback.forecast(now, observation)
        fault = self._fault
        if self._rest > 0 and fault is not None:
            self._rest -= 1
            return self._without(plain, fault, told=True)
        found = self._worker.call(lambda: self._forecaster.forecast(now, observation))
        if not isinstance(found, Fault):
            found = _unless_nonsense(found)
        if isinstance(found, Fault):
            self._fault, self._rest = found, REST_CYCLES
            return self._without(plain, found, told=False)
        self._fault = None
        measured = _measured(observation)
        loads = {
            name: _floored(found.loads.get(name, load), measured.get(name, 0.0))
            for name, load in plain.loads.items()
        }
        return replace(found, loads=loads)

    def _without(self, plain: Forecast, fault: Fault, *, told: bool) -> Forecast:
        aside = SetAside(self._name, fault.reason, len(plain.loads), fault.detail)
        note = f"forecast: {self._name} is set aside, the last value is used: {fault.detail}"
        notes = plain.notes if told else (*plain.notes, note)
        return replace(plain, notes=notes, set_aside=(*plain.set_aside, aside))


def _unless_nonsense(found: object) -> Forecast | Fault:
    if not isinstance(found, Forecast):
        return Fault(AsideReason.FAILED, f"gave a {type(found).__name__} and no forecast")
    for name, load in found.loads.items():
        values = (load.rate_rps, load.input_tokens, load.output_tokens)
        if not all(math.isfinite(value) and value >= 0 for value in values):
            return Fault(AsideReason.NOT_FINITE, f"the load of {name} is {load}")
    return found


def _measured(observation: Observation) -> dict[str, float]:
    return {one.name: value_of(one.signals.arrival_rate_rps) or 0.0 for one in observation.servers}


def _floored(load: Load, rate_rps: float) -> Load:
    return load if load.rate_rps >= rate_rps else replace(load, rate_rps=rate_rps)
