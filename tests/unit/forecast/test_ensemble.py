"""The mix of predictors: better than the last value, a floor under the load, never nonsense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlloop.api.decision import Forecast
from controlloop.api.observation import Pod
from controlloop.api.predictions import PREDICTORS, AsideReason
from controlloop.api.replicas import FloatArray
from controlloop.forecast.ensemble import EnsembleForecaster
from controlloop.forecast.options import ForecastOptions
from controlloop.forecast.predictors import predictors
from controlloop.forecast.tracking import pinball

pytestmark = pytest.mark.slow

LEVELS = np.array([0.1, 0.5, 0.9, 0.95])


def ensemble(**options: Any) -> EnsembleForecaster:
    known = predictors()
    return EnsembleForecaster(
        [known.create(name) for name in PREDICTORS], ForecastOptions(**options)
    )


def losses(
    loads: Any, traces: dict[str, FloatArray], steps: int
) -> dict[str, tuple[float, float, float]]:
    """Mean pinball loss of what is chosen, of the last value with a spread, and without one.

    All of forecasts `steps` minutes ahead, over the minutes for which all three say something.
    """
    options = ForecastOptions(startup_s=(steps - 1) * 60.0, quantile=0.95)
    ours = ensemble(startup_s=options.startup_s, quantile=0.95)
    alone = EnsembleForecaster([], options)
    found: dict[str, list[list[float]]] = {name: [] for name in traces}
    for slot in range(max(map(len, traces.values()))):
        now = (slot + 1) * 60.0
        seen = loads.seen(now, {name: one[slot] for name, one in traces.items() if slot < len(one)})
        both = [one.forecast(now, seen).predictions for one in (ours, alone)]
        for name, trace in traces.items():
            if slot + steps >= len(trace) or not all(one[name].predictor for one in both):
                continue
            said = [np.array([one[name].quantiles_rps[level] for level in LEVELS]) for one in both]
            said.append(np.full(len(LEVELS), trace[slot]))
            actual = np.array([trace[slot + steps]])
            found[name].append([float(pinball(one, actual, LEVELS).mean()) for one in said])
    return {name: tuple(np.mean(rows, axis=0).tolist()) for name, rows in found.items()}


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_its_loss_is_below_the_last_values(
    loads: Any, traces: dict[str, FloatArray], steps: int
) -> None:
    found = losses(loads, traces, steps)
    # Against the last value as it is, and against one that has learned its own spread.
    of_plain = {name: chosen / plain for name, (chosen, _, plain) in found.items()}
    of_spread = {name: chosen / spread for name, (chosen, spread, _) in found.items()}
    assert all(ratio < 1.0 for ratio in of_plain.values()), of_plain
    assert all(ratio < 1.05 for ratio in of_spread.values()), of_spread
    assert float(np.mean(list(of_spread.values()))) < 0.95, of_spread


@pytest.mark.parametrize("headroom", [0.0, 0.3])
def test_the_upper_quantile_is_a_floor_under_what_is_measured(loads: Any, headroom: float) -> None:
    rng = np.random.default_rng(3)
    over, measured = [], loads.poisson(rng, np.full(200, 5.0))

    def note(slot: int, found: Forecast) -> None:
        prediction, load = found.predictions["a"], found.loads["a"]
        if prediction.predictor:
            upper = prediction.quantiles_rps[0.95]
            assert load.rate_rps == pytest.approx(max((1.0 + headroom) * measured[slot], upper))
            over.append(upper > (1.0 + headroom) * measured[slot])
        else:
            assert load.rate_rps == pytest.approx((1.0 + headroom) * measured[slot])

    loads.shown(ensemble(quantile=0.95, headroom=headroom), measured, note)
    assert len(over) > 150
    # With much headroom it is that which counts, most of the time.
    assert (0.8 < np.mean(over) < 1.0) if headroom == 0.0 else np.mean(over) < 0.5


def test_the_quantile_is_met_as_often_as_it_says(loads: Any) -> None:
    rng = np.random.default_rng(4)
    measured = loads.poisson(rng, np.full(600, 3.0))
    met: list[bool] = []

    def note(slot: int, found: Forecast) -> None:
        upper = found.predictions["a"].quantiles_rps.get(0.9)
        if upper is not None and slot + 3 < len(measured):
            met.append(measured[slot + 3] <= upper)

    loads.shown(ensemble(startup_s=120.0), measured, note)
    assert np.mean(met) == pytest.approx(0.9, abs=0.04)


def test_a_day_like_yesterday_is_seen_coming(loads: Any) -> None:
    minutes = np.arange(3 * 1440)
    day = np.where((minutes % 1440) // 60 == 9, 30.0, 3.0)
    before_nine = 2 * 1440 + 9 * 60 - 10
    daily = predictors().create("seasonal-daily")
    seasonal = EnsembleForecaster([daily], ForecastOptions(startup_s=1740.0))
    found = loads.shown(seasonal, day[:before_nine])
    assert found.predictions["a"].horizon_s == 1800.0
    history = seasonal.rates.book.view()
    assert daily.predict(history, np.array([30.0]))[0] > 15.0
    assert daily.predict(history, np.array([1.0]))[0] == pytest.approx(3.0, rel=0.05)


def test_what_is_missing_is_not_zero(loads: Any) -> None:
    trace = np.full(60, 8.0)
    trace[20:40:2] = np.nan
    found = loads.shown(ensemble(startup_s=0.0), trace)
    assert found.predictions["a"].mean_rps == pytest.approx(8.0)
    gone = loads.shown(ensemble(), np.array([5.0, 5.0, np.nan]))
    assert gone.loads == {}


def test_requests_that_are_expected_have_the_lengths_of_those_before(loads: Any) -> None:
    forecaster = ensemble(startup_s=0.0)
    rng = np.random.default_rng(5)
    loads.shown(forecaster, loads.poisson(rng, np.full(30, 1.0)))
    quiet = forecaster.forecast(31 * 60.0, loads.seen(31 * 60.0, {"a": 0.0}, (None, None)))
    load = quiet.loads["a"]
    assert load.rate_rps > 0.5
    assert (load.input_tokens, load.output_tokens) == pytest.approx((200.0, 100.0))


def test_a_server_never_seen_at_work_has_no_load(loads: Any) -> None:
    forecaster = ensemble()
    for minute in range(1, 20):
        found = forecaster.forecast(
            minute * 60.0, loads.seen(minute * 60.0, {"a": 0.0}, (None, None))
        )
    assert found.loads["a"].is_empty


def test_the_horizon_is_a_period_and_the_start_up_time_learned(loads: Any) -> None:
    forecaster = ensemble(startup_s=120.0)

    def horizon(minute: int, *pods: Pod) -> float:
        seen = loads.seen(minute * 60.0, {"a": 1.0}, pods={"a": pods})
        return forecaster.forecast(minute * 60.0, seen).predictions["a"].horizon_s

    put_there = Pod("p0", "u0", started_at=60.0, ready_since=60.0)
    assert horizon(1, put_there) == 180.0
    starting = Pod("p1", "u1", started_at=60.0, ready=False)
    assert horizon(2, put_there, starting) == 180.0
    started = Pod("p1", "u1", started_at=60.0, ready_since=330.0)
    assert horizon(7, put_there, started) == 330.0
    restarted = Pod("p2", "u2", started_at=60.0, ready_since=3000.0, restarts=1)
    assert horizon(8, put_there, started, restarted) == 330.0


def test_a_predictor_worse_than_the_last_value_is_set_aside_and_says_so(loads: Any) -> None:
    ramp = loads.poisson(np.random.default_rng(6), np.linspace(1.0, 100.0, 60))
    notes: list[str] = []
    forecaster = ensemble(startup_s=0.0)
    found = loads.shown(forecaster, ramp, lambda _, each: notes.extend(each.notes))
    aside = {one.predictor: one for one in found.set_aside}
    assert aside["average-slow"].reason is AsideReason.WORSE
    assert aside["average-slow"].servers == 1
    assert "average-slow" in found.predictions["a"].set_aside
    assert "last-value" not in aside
    assert sum("average-slow is set aside" in note for note in notes) == 1
    scored = found.predictions["a"].losses_rps
    assert scored["average-slow"] > scored["last-value"] > scored["ensemble"]


def test_servers_come_and_go_and_come_back(loads: Any) -> None:
    forecaster = ensemble(startup_s=0.0)
    for minute in range(1, 30):
        forecaster.forecast(minute * 60.0, loads.seen(minute * 60.0, {"a": 2.0, "b": 50.0}))
    without = forecaster.forecast(1800.0, loads.seen(1800.0, {"b": 50.0}))
    assert set(without.predictions) == {"b"}
    back = forecaster.forecast(1860.0, loads.seen(1860.0, {"c": 7.0, "a": 2.0, "b": 50.0}))
    assert back.predictions["a"].mean_rps == pytest.approx(2.0)
    assert back.predictions["b"].mean_rps == pytest.approx(50.0)
    assert back.predictions["c"].predictor == ""
    late = forecaster.forecast(200_000.0, loads.seen(200_000.0, {"c": 7.0}))
    assert len(forecaster.rates.book) == 1
    assert late.loads["c"].rate_rps >= 7.0


rates = st.one_of(
    st.none(),
    st.just(0.0),
    st.floats(0.0, 1e6),
    st.floats(0.0, 1e-9),
)


@settings(max_examples=25)
@given(st.lists(st.tuples(rates, rates, st.integers(0, 5)), min_size=1, max_size=40))
def test_nothing_is_ever_negative_or_no_number(
    loads: Any, shown: list[tuple[float | None, float | None, int]]
) -> None:
    forecaster = ensemble(startup_s=60.0)
    now = 1e9
    for one, other, periods in shown:
        now += 60.0 * periods
        found = forecaster.forecast(now, loads.seen(now, {"a": one, "b": other}))
        for name, measured in (("a", one), ("b", other)):
            assert (name in found.loads) == (measured is not None)
            prediction = found.predictions[name]
            values = [*prediction.quantiles_rps.values(), *prediction.losses_rps.values()]
            values += [] if prediction.mean_rps is None else [prediction.mean_rps]
            if measured is not None:
                load = found.loads[name]
                assert load.rate_rps >= measured
                values += [load.rate_rps, load.input_tokens, load.output_tokens]
            assert all(np.isfinite(value) and value >= 0 for value in values)
            ordered = list(prediction.quantiles_rps.values())
            assert ordered == sorted(ordered)
