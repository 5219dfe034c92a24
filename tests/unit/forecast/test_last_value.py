from __future__ import annotations

from typing import Any

import pytest

from controlloop.api.observation import (
    Observation,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.readings import Missing, Present, Reading, Stale
from controlloop.api.system import Load
from controlloop.forecast.last_value import LastValueForecaster

GONE: tuple[Reading, ...] = (Missing("no series"), Stale(9.0, 300.0))


def forecast(signals: Signals) -> Load | None:
    workload = Workload(WorkloadRef("ns", "a"), "a", "m", "Free", "A100", 32, replicas=1)
    seen = Observation(60.0, (ServerObservation(workload, signals),))
    return LastValueForecaster().forecast(60.0, seen).loads.get("a")


def test_what_was_seen_goes_on() -> None:
    signals = Signals(
        arrival_rate_rps=Present(2.0), input_tokens=Present(100.0), output_tokens=Present(50.0)
    )
    assert forecast(signals) == Load(2.0, 100.0, 50.0)


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("which", ["arrival_rate_rps", "input_tokens", "output_tokens"])
def test_a_load_of_which_a_part_is_unknown_is_not_predicted(which: str, gone: Reading) -> None:
    known: dict[str, Any] = {
        "arrival_rate_rps": Present(2.0),
        "input_tokens": Present(100.0),
        "output_tokens": Present(50.0),
    }
    assert forecast(Signals(**{**known, which: gone})) is None


def test_a_rate_of_zero_is_a_load_by_itself() -> None:
    assert forecast(Signals(arrival_rate_rps=Present(0.0))) == Load()


def test_requests_in_service_of_which_none_ends_are_no_measurement_of_no_load() -> None:
    hanging = Signals(
        arrival_rate_rps=Present(0.0),
        input_tokens=Present(100.0),
        output_tokens=Present(50.0),
        running=Present(3.0),
    )
    assert forecast(hanging) is None


def test_headroom_is_added_to_the_rate_and_to_nothing_else() -> None:
    signals = Signals(
        arrival_rate_rps=Present(2.0), input_tokens=Present(100.0), output_tokens=Present(50.0)
    )
    workload = Workload(WorkloadRef("ns", "a"), "a", "m", "Free", "A100", 32, replicas=1)
    seen = Observation(60.0, (ServerObservation(workload, signals),))
    assert LastValueForecaster(0.5).forecast(60.0, seen).loads["a"] == Load(3.0, 100.0, 50.0)
