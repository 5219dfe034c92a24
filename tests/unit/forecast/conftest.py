"""Fleets whose load is told, and forecasters that are shown it minute by minute."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from controlloop.api.decision import Forecast
from controlloop.api.observation import (
    Observation,
    Pod,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.readings import Missing, Present, Reading
from controlloop.api.replicas import FloatArray
from controlloop.protocols import Forecaster

PERIOD_S = 60.0


def reading(value: float | None) -> Reading:
    """A measurement, or none of it."""
    return Missing("none") if value is None or np.isnan(value) else Present(value)


def seen(
    now: float,
    rates: Mapping[str, float | None],
    tokens: tuple[float | None, float | None] = (200.0, 100.0),
    pods: Mapping[str, tuple[Pod, ...]] | None = None,
) -> Observation:
    """An observation of servers with these arrival rates; None or NaN is not known."""
    servers = tuple(
        ServerObservation(
            Workload(
                WorkloadRef("ns", name), name, "m", "Free", "A100", 32, 1,
                pods=(pods or {}).get(name, ()),
            ),
            Signals(
                arrival_rate_rps=reading(rate),
                input_tokens=reading(tokens[0]),
                output_tokens=reading(tokens[1]),
            ),
        )
        for name, rate in rates.items()
    )  # fmt: skip
    return Observation(now, servers)


def shown(
    forecaster: Forecaster, rates: FloatArray, watch: Callable[[int, Forecast], None] | None = None
) -> Forecast:
    """Show `rates` (slots,) of one server "a", minute by minute; the last forecast."""
    found = Forecast({})
    for slot, rate in enumerate(rates.tolist()):
        now = (slot + 1) * PERIOD_S
        found = forecaster.forecast(now, seen(now, {"a": rate}))
        if watch is not None:
            watch(slot, found)
    return found


def poisson(rng: np.random.Generator, rates: FloatArray) -> FloatArray:
    """What is counted in each minute of a rate, requests/s."""
    return np.asarray(rng.poisson(rates * PERIOD_S) / PERIOD_S, dtype=np.float64)


class Loads:
    """What tests show to forecasters."""

    seen = staticmethod(seen)
    shown = staticmethod(shown)
    poisson = staticmethod(poisson)


@pytest.fixture(scope="session")
def loads() -> Loads:
    return Loads()


@pytest.fixture(scope="session")
def traces(root: Path) -> dict[str, FloatArray]:
    """Arrival rates by minute: measured where the recording is there, and drawn."""
    rng = np.random.default_rng(11)
    minutes = np.arange(600)
    wander = np.zeros(len(minutes))
    for minute in minutes[1:]:
        wander[minute] = 0.99 * wander[minute - 1] + 0.02 * rng.standard_normal()
    day = (5.0 + 4.0 * np.cos(2.0 * np.pi * (minutes / 1440.0 - 0.6))) * np.exp(wander)
    burst = np.full(600, 2.0)
    for minute in range(1, len(burst)):
        stays = burst[minute - 1] > 10 and rng.random() < 0.6
        burst[minute] = 20.0 if stays or rng.random() < 0.1 else 2.0
    found = {
        "diurnal": poisson(rng, day),
        "step": poisson(rng, np.where(minutes // 120 % 2, 10.0, 2.0)),
        "bursts": poisson(rng, burst),
    }
    recorded = root.parent / "shared" / "data" / "traces" / "azure-llm-2023-code.csv"
    if recorded.exists():
        found["azure"] = by_minute(recorded)
    return found


def by_minute(trace: Path) -> FloatArray:
    """The rate of each whole minute of a trace of requests, requests/s."""
    with trace.open() as file:
        times = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in csv.DictReader(file)]
    minutes = [int((time - times[0]).total_seconds() // PERIOD_S) for time in times]
    return np.asarray(np.bincount(minutes)[:-1] / PERIOD_S, dtype=np.float64)
