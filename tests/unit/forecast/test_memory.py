"""What was seen survives a restart; without it, the metric source is asked once."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlloop.api.observation import Pod, Workload
from controlloop.api.predictions import PREDICTORS
from controlloop.api.replicas import FloatArray
from controlloop.errors import MetricsError, StateStoreError, StateTooLargeError
from controlloop.forecast.checkpoint import decode, encode
from controlloop.forecast.ensemble import EnsembleForecaster
from controlloop.forecast.history import LONG_SLOT_S, RECENT_SLOTS
from controlloop.forecast.options import ForecastOptions
from controlloop.forecast.predictors import predictors
from controlloop.forecast.thinning import LONG_RATES, thinned
from controlloop.protocols import RateHistory, StateStore
from controlloop.tuner.state_file import FileStateStore

HOUR_S = 3600.0


def ensemble(
    store: StateStore | None = None,
    past: RateHistory | None = None,
    names: Sequence[str] = PREDICTORS,
    **options: Any,
) -> EnsembleForecaster:
    known = predictors()
    told = ForecastOptions(**{"startup_s": 0.0, "save_every_s": 0.0, **options})
    return EnsembleForecaster([known.create(name) for name in names], told, store, past)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "seen.state"


def test_after_a_restart_it_goes_on_as_if_there_had_been_none(loads: Any, file: Path) -> None:
    rates = loads.poisson(np.random.default_rng(1), np.full(60, 5.0))
    started = (Pod("p", "u", started_at=0.0, ready_since=30.0),)
    one = ensemble(FileStateStore(file))
    for minute, rate in enumerate(rates.tolist(), start=1):
        if minute == 50:
            other = ensemble(FileStateStore(file))
        seen = loads.seen(minute * 60.0, {"a": rate, "b": 2 * rate}, pods={"a": started})
        before = one.forecast(minute * 60.0, seen)
    # The file on which the other one began to rest has moved on meanwhile: that is its start.
    now = 61 * 60.0
    seen = loads.seen(now, {"b": 9.0, "a": 4.0})
    expected, found = one.forecast(now, seen), other.forecast(now, seen)
    assert found.notes == ()
    assert found.predictions["a"].horizon_s == expected.predictions["a"].horizon_s == 90.0
    for name in ("a", "b"):
        assert found.predictions[name].predictor == "ensemble"
        for level, rate in expected.predictions[name].quantiles_rps.items():
            assert found.predictions[name].quantiles_rps[level] == pytest.approx(rate, rel=1e-3)
        assert found.loads[name].output_tokens == pytest.approx(100.0)
    assert before.loads.keys() == found.loads.keys()


def test_with_other_predictors_the_history_is_kept_and_the_scores_are_not(
    loads: Any, file: Path
) -> None:
    loads.shown(ensemble(FileStateStore(file)), np.full(30, 5.0))
    fewer = ensemble(FileStateStore(file), names=["holt"])
    found = fewer.forecast(1860.0, loads.seen(1860.0, {"a": 5.0}))
    assert found.notes == ()
    assert found.predictions["a"].predictor == ""
    assert (fewer.rates.book.values[0, -31:] == 5.0).all()


@pytest.mark.parametrize("wrong", [b"", b"{}", b"\xff\xfe", b"QUJD", "torn"])
def test_a_file_that_is_not_whole_is_set_aside(loads: Any, file: Path, wrong: Any) -> None:
    loads.shown(ensemble(FileStateStore(file)), np.full(30, 5.0))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2 // 4 * 4] if wrong == "torn" else wrong)
    found = ensemble(FileStateStore(file)).forecast(60.0, loads.seen(60.0, {"a": 5.0}))
    assert "set aside as" in found.notes[0]
    assert file.with_name("seen.state.bad-1").exists()
    assert found.loads["a"].rate_rps == pytest.approx(5.5)


class NoStore:
    """A store whose disk is gone."""

    def load(self) -> bytes | None:
        raise StateStoreError("the disk is gone")

    def save(self, state: bytes) -> None:
        raise StateStoreError("the disk is gone")

    def set_aside(self) -> str:
        raise StateStoreError("the disk is gone")


def test_a_store_that_fails_harms_nothing(loads: Any) -> None:
    found = loads.shown(ensemble(NoStore()), np.full(30, 5.0))
    assert found.predictions["a"].predictor == "ensemble"
    assert any("the disk is gone" in note for note in found.notes)


class Past:
    """A day like any other: 3 requests/s, 30 in the hour after nine."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.asked: list[tuple[float, int, float]] = []
        self.failure = failure
        self.of: list[str] = []

    def rates_rps(
        self, end: float, workloads: Sequence[Workload], slots: int, step_s: float
    ) -> Mapping[str, FloatArray]:
        self.asked.append((end, slots, step_s))
        self.of = [one.accelerator for one in workloads]
        if self.failure is not None:
            raise self.failure
        middles = end - (np.arange(slots)[::-1] + 0.5) * step_s
        hour = middles % (24 * HOUR_S) / HOUR_S
        rates = np.where((hour >= 9) & (hour < 10), 30.0, 3.0)
        rates[:3] = np.nan
        return {one.server: rates for one in workloads if one.server == "a"}


def test_the_past_is_asked_for_once_and_what_it_tells_is_scored(loads: Any) -> None:
    past = Past()
    now = 20_000 * 24 * HOUR_S + 8.8 * HOUR_S
    forecaster = ensemble(past=past, startup_s=29 * 60.0)
    first = forecaster.forecast(now, loads.seen(now, {"a": 3.0, "new": 1.0}))
    assert [(slots, step_s) for _, slots, step_s in past.asked] == [
        (8 * 96, LONG_SLOT_S),
        (RECENT_SLOTS - 1, 60.0),
    ]
    assert past.asked[1][0] == now - 60.0
    assert "of the past 192 h the metric source told something of 1 of 2 servers" in first.notes[0]
    prediction = first.predictions["a"]
    assert prediction.predictor == "ensemble"
    assert prediction.losses_rps["last-value"] == pytest.approx(0.0)
    daily = predictors().create("seasonal-daily")
    said = daily.predict(forecaster.rates.book.view(), np.array([30.0, 30.0]))
    assert said[0] > 15.0
    assert np.isnan(said[1])
    assert first.predictions["new"].predictor == ""
    forecaster.forecast(now + 60.0, loads.seen(now + 60.0, {"a": 3.0, "new": 1.0}))
    assert len(past.asked) == 2


def test_what_is_kept_is_better_than_what_is_asked_for(loads: Any, file: Path) -> None:
    loads.shown(ensemble(FileStateStore(file)), np.full(30, 5.0))
    past = Past()
    ensemble(FileStateStore(file), past).forecast(1860.0, loads.seen(1860.0, {"a": 5.0}))
    ensemble(None, past, warm_s=0.0).forecast(1860.0, loads.seen(1860.0, {"a": 5.0}))
    assert past.asked == []


@pytest.mark.parametrize("failure", [MetricsError("it is down"), RuntimeError("it is odd")])
def test_a_past_that_is_not_told_harms_nothing(loads: Any, failure: Exception) -> None:
    past = Past(failure)
    found = ensemble(past=past).forecast(60.0, loads.seen(60.0, {"a": 5.0}))
    assert str(failure) in found.notes[0]
    assert found.loads["a"].rate_rps == pytest.approx(5.5)


class SmallStore:
    """Keeps what is at most so large, as a ConfigMap does."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.kept: bytes | None = None
        self.refused = 0

    def load(self) -> bytes | None:
        return self.kept

    def save(self, state: bytes) -> None:
        if len(zlib.compress(state)) > self.most_bytes:
            self.refused += 1
            raise StateTooLargeError(f"at most {self.most_bytes} bytes fit")
        self.kept = state

    def set_aside(self) -> str:
        raise AssertionError("what was kept is good")


DAY_S = 24 * HOUR_S
MORNING = 20_000 * DAY_S + 8.8 * HOUR_S


def known_for_long(loads: Any, store: StateStore, **more: Any) -> EnsembleForecaster:
    """A forecaster that knows eight days, and some cycles of its own, of two servers."""
    draw = np.random.default_rng(3)
    forecaster = ensemble(store, Past(), startup_s=29 * 60.0, **more)
    for cycle in range(20):
        now = MORNING + 60.0 * cycle
        rates = {"a": 3.0 + draw.random(), "b": 1.0 + draw.random()}
        forecaster.forecast(now, loads.seen(now, rates))
    for book in (forecaster.rates.book, forecaster.tokens.book):
        book.long_values[:] = 2.0 + draw.random(book.long_values.shape)
    return forecaster


def size_of(loads: Any, without: int) -> int:
    """What it takes without so many of what may be left out, and a little."""
    store = SmallStore(1_000_000)
    forecaster = known_for_long(loads, store)
    forecaster.forecast(MORNING + 1200.0, loads.seen(MORNING + 1200.0, {"a": 3.0, "b": 1.0}))
    assert store.kept is not None
    return len(zlib.compress(encode(thinned(decode(store.kept), without)))) + 50


def test_of_what_does_not_fit_the_least_missed_is_left_out_and_named(loads: Any) -> None:
    store = SmallStore(size_of(loads, without=1))
    forecaster = known_for_long(loads, store)
    now = MORNING + 1200.0
    found = forecaster.forecast(now, loads.seen(now, {"a": 3.0, "b": 1.0}))
    (note,) = [note for note in found.notes if "too much to be kept whole" in note]
    assert "the long means of token lengths" in note
    assert "arrival rates" not in note
    assert store.kept is not None
    kept = decode(store.kept)
    assert kept.left_out == ("tokens.long_values",)
    assert np.isnan(kept.tokens["long_values"]).all()
    assert np.isfinite(kept.rates["long_values"][0]).sum() > 700
    # It is told once, and tried whole again: some day it fits.
    refused, store.most_bytes = store.refused, 1_000_000
    now += 60.0
    again = forecaster.forecast(now, loads.seen(now, {"a": 3.0, "b": 1.0}))
    assert not [note for note in again.notes if "kept" in note]
    assert store.refused == refused
    assert decode(store.kept).left_out == ()


def test_long_means_that_did_not_fit_are_asked_for_at_the_next_start(loads: Any) -> None:
    store = SmallStore(size_of(loads, without=4))
    forecaster = known_for_long(loads, store)
    now = MORNING + 1200.0
    seen = loads.seen(now, {"a": 3.0, "b": 1.0})
    forecaster.forecast(now, seen)
    assert store.kept is not None
    assert LONG_RATES in decode(store.kept).left_out
    assert "rates.values" not in decode(store.kept).left_out
    past = Past()
    other = ensemble(store, past, startup_s=29 * 60.0)
    now += 60.0
    found = other.forecast(now, loads.seen(now, {"b": 1.0, "a": 3.0}))
    assert [(slots, step_s) for _, slots, step_s in past.asked] == [(8 * 96, LONG_SLOT_S)]
    row = list(other._seen_at).index("a")
    newest = other.rates.book.long_values[row, -8 * 96 :]
    assert newest[~np.isnan(newest)].max() == 30.0
    assert np.isfinite(other.rates.book.values[row, -20:]).all()
    # Its scores were kept: it goes on by the mix, and not by the last value.
    assert found.predictions["a"].losses_rps


def test_where_nothing_fits_it_says_so_and_forecasts_all_the_same(loads: Any) -> None:
    forecaster = known_for_long(loads, SmallStore(10))
    now = MORNING + 1200.0
    found = forecaster.forecast(now, loads.seen(now, {"a": 3.0, "b": 1.0}))
    assert any("is not kept: at most 10 bytes fit" in note for note in found.notes)
    assert found.loads.keys() == {"a", "b"}


def test_what_siblings_served_is_asked_for_with_what_their_server_did(loads: Any) -> None:
    past, seen = Past(), loads.seen(60.0, {"a": 5.0})
    (server,) = seen.servers
    sibling = replace(server.workload, accelerator="B200")
    mixed = replace(seen, servers=(replace(server, siblings=(sibling,)),))
    ensemble(past=past).forecast(60.0, mixed)
    assert past.of == [server.workload.accelerator, "B200"]
