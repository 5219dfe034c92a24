"""A forecaster or predictor that fails is set aside at once, and the loop sizes as without it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from controlloop.api.decision import Forecast
from controlloop.api.observation import Observation
from controlloop.api.predictions import AsideReason
from controlloop.api.replicas import FloatArray
from controlloop.api.system import Load
from controlloop.forecast.ensemble import EnsembleForecaster
from controlloop.forecast.forecasters import forecasters
from controlloop.forecast.guarded import REST_CYCLES, GuardedForecaster
from controlloop.forecast.history import History
from controlloop.forecast.last_value import LastValueForecaster
from controlloop.forecast.options import ForecastOptions

FAULTS = {
    "raises": AsideReason.FAILED,
    "nan": AsideReason.NOT_FINITE,
    "infinite": AsideReason.NOT_FINITE,
    "shape": AsideReason.FAILED,
    "hangs": AsideReason.SLOW,
}


class Broken:
    """A predictor that works until it is told how to fail."""

    name = "broken"
    needs_s = 0.0

    def __init__(self) -> None:
        self.fault = ""
        self.calls = 0
        self.let_go = threading.Event()

    def predict(self, history: History, steps: FloatArray) -> FloatArray:
        self.calls += 1
        if self.fault == "raises":
            raise ZeroDivisionError("no luck")
        if self.fault == "hangs":
            self.let_go.wait()
        if self.fault == "shape":
            return np.zeros(len(steps) + 1)
        wrong = {"nan": np.nan, "infinite": np.inf}.get(self.fault)
        return np.nan_to_num(history.values[:, -1]) if wrong is None else np.full(len(steps), wrong)


@pytest.fixture
def broken() -> Iterator[Broken]:
    made = Broken()
    yield made
    made.let_go.set()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_predictor_that_fails_is_set_aside_in_the_same_cycle(
    loads: Any, broken: Broken, fault: str
) -> None:
    options = ForecastOptions(startup_s=0.0, budget_s=0.2)
    forecaster = EnsembleForecaster([broken], options)
    without = EnsembleForecaster([], options)
    rates = loads.poisson(np.random.default_rng(1), np.full(40, 4.0))
    notes: list[str] = []
    for slot, rate in enumerate(rates.tolist()):
        broken.fault = fault if slot >= 20 else ""
        now = (slot + 1) * 60.0
        seen = loads.seen(now, {"a": rate})
        found, plain = forecaster.forecast(now, seen), without.forecast(now, seen)
        notes += found.notes
        if slot >= 20:
            (aside,) = [one for one in found.set_aside if one.predictor == "broken"]
            assert aside.reason is FAULTS[fault]
            assert found.loads["a"].rate_rps == pytest.approx(plain.loads["a"].rate_rps)
    assert sum("broken is set aside" in note for note in notes) == 1
    # It is asked again now and then, not every time.
    assert broken.calls <= 24


def test_one_that_works_again_is_used_again(loads: Any, broken: Broken) -> None:
    forecaster = EnsembleForecaster([broken], ForecastOptions(startup_s=0.0))
    broken.fault = "raises"
    notes: list[str] = []
    for minute in range(1, 40):
        if minute == 10:
            broken.fault = ""
        found = forecaster.forecast(minute * 60.0, loads.seen(minute * 60.0, {"a": 3.0}))
        notes += found.notes
    assert "forecast: broken is in use again on every server" in notes
    assert not found.set_aside


class Plug:
    """A third party's forecaster, as bad as it is told to be."""

    def __init__(self, options: ForecastOptions) -> None:
        self.answer: Any = None
        self.calls = 0
        self.let_go = threading.Event()

    def forecast(self, now: float, observation: Observation) -> Forecast:
        self.calls += 1
        if self.answer == "hangs":
            self.let_go.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RuntimeError("no luck"), AsideReason.FAILED),
        (None, AsideReason.FAILED),
        (Forecast({"a": Load(float("nan"), 1.0, 1.0)}), AsideReason.NOT_FINITE),
        (Forecast({"a": Load(-1.0, 1.0, 1.0)}), AsideReason.NOT_FINITE),
        ("hangs", AsideReason.SLOW),
    ],
)
def test_a_forecaster_that_fails_leaves_the_last_value(
    loads: Any, answer: Any, reason: AsideReason
) -> None:
    plug, plain = Plug(ForecastOptions()), LastValueForecaster(0.1)
    guard = GuardedForecaster("plug", plug, plain, budget_s=0.2)
    plug.answer = answer
    seen = loads.seen(60.0, {"a": 3.0, "b": 0.0})
    for cycle in range(1 + REST_CYCLES):
        found = guard.forecast(60.0 * cycle, seen)
        assert found.loads == plain.forecast(60.0 * cycle, seen).loads
        assert [(one.predictor, one.reason) for one in found.set_aside] == [("plug", reason)]
        assert bool(found.notes) is (cycle == 0)
    plug.let_go.set()
    assert plug.calls == 1


def test_a_forecaster_never_sizes_for_less_than_is_measured(loads: Any) -> None:
    plug, plain = Plug(ForecastOptions()), LastValueForecaster(0.1)
    guard = GuardedForecaster("plug", plug, plain, budget_s=float("inf"))
    plug.answer = Forecast({"a": Load(1.0, 10.0, 10.0), "ghost": Load(9.0, 1.0, 1.0)})
    found = guard.forecast(60.0, loads.seen(60.0, {"a": 3.0, "b": 5.0}))
    assert found.loads["a"] == Load(3.0, 10.0, 10.0)
    assert found.loads["b"].rate_rps == pytest.approx(5.5)
    assert "ghost" not in found.loads


def test_every_forecaster_of_the_table_works(loads: Any) -> None:
    rates = loads.poisson(np.random.default_rng(2), np.full(30, 4.0))
    for name in forecasters().names:
        found = loads.shown(forecasters().create(name, ForecastOptions()), rates)
        assert found.loads["a"].rate_rps >= rates[-1]
