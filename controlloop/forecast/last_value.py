"""The forecaster that every other one has to beat: what was last seen goes on."""

from __future__ import annotations

from dataclasses import replace

from controlloop.api.decision import Forecast
from controlloop.api.observation import Observation, Signals
from controlloop.api.readings import Present, value_of
from controlloop.api.system import Load


class LastValueForecaster:
    """Predicts the present load. A load of which any part is unknown is not predicted.

    Args:
        headroom: share added to the rate, since what was last seen is old by a period and a
            start-up when the decision takes effect; 0 adds nothing.

    """

    def __init__(self, headroom: float = 0.0) -> None:
        self._headroom = headroom

    def forecast(self, now: float, observation: Observation) -> Forecast:  # noqa: ARG002 - the protocol's arguments
        """The measured loads of the servers whose load is fully known."""
        loads = {server.name: measured_load(server.signals) for server in observation.servers}
        return Forecast(
            {
                name: replace(load, rate_rps=load.rate_rps * (1.0 + self._headroom))
                for name, load in loads.items()
                if load is not None
            }
        )


def measured_load(signals: Signals) -> Load | None:
    """The load that signals show; None where it is not known.

    A rate of zero is a load by itself: nothing arrived, so no request had a length. But
    requests in service of which none ends are work of unknown length, or an engine that
    hangs and whose counters stand still: that is no measurement of no load.
    """
    rate, given, asked = signals.arrival_rate_rps, signals.input_tokens, signals.output_tokens
    if not isinstance(rate, Present):
        return None
    if rate.value == 0:
        in_service = value_of(signals.running) or 0.0
        return Load() if in_service == 0 else None
    if isinstance(given, Present) and isinstance(asked, Present):
        return Load(rate.value, given.value, asked.value)
    return None
