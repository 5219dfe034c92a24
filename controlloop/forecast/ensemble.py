"""Predicts arrival rates and token lengths to the time when a decision made now takes effect.

That is a period and a start-up from now: what is decided now serves from its start until the
next decision has started. The predictors of each server are mixed by how well each did on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from controlloop.api.decision import Forecast
from controlloop.api.observation import Observation, ServerObservation, Signals
from controlloop.api.predictions import AsideReason, Prediction, SetAside
from controlloop.api.readings import value_of
from controlloop.api.replicas import FloatArray, IntArray
from controlloop.api.system import Load
from controlloop.errors import StateStoreError
from controlloop.forecast.checkpoint import Kept
from controlloop.forecast.lane import Lane, Seen
from controlloop.forecast.last_value import measured_load
from controlloop.forecast.memory import fill_far, recalled, warm
from controlloop.forecast.options import ForecastOptions
from controlloop.forecast.predictor import Predictor
from controlloop.forecast.predictors.average import Average
from controlloop.forecast.predictors.last_value import LastValue
from controlloop.forecast.startup import StartUps
from controlloop.forecast.thinning import LONG_RATES, save_what_fits, words_of
from controlloop.forecast.tracking import MOST_STEPS
from controlloop.protocols import RateHistory, StateStore

REMEMBERED_S: Final = 86_400.0
"""How long a server that is gone is remembered: one that is made anew has its history back."""

_LEVELS: Final = (0.1, 0.5, 0.9)

_Quantity = Callable[[Signals], float | None]


class EnsembleForecaster:
    """The mix of predictors that did best, server by server.

    Args:
        predictors: what is mixed, beside the last value.
        options: see `ForecastOptions`.
        store: keeps what was seen over restarts; None: nothing is kept.
        past: knows the past where nothing was kept; None: nobody does.

    """

    def __init__(
        self,
        predictors: Sequence[Predictor],
        options: ForecastOptions | None = None,
        store: StateStore | None = None,
        past: RateHistory | None = None,
    ) -> None:
        self._options = options = options or ForecastOptions()
        levels = sorted({*_LEVELS, options.quantile})
        self._levels = tuple(levels)
        self._upper = levels.index(options.quantile)
        window, budget_s = options.window, options.budget_s
        self.rates = Lane([LastValue(), *predictors], options.period_s, levels, window, budget_s)
        # Lengths are means over requests: noise around a level that moves slowly.
        of_tokens: list[Predictor] = [
            LastValue(),
            Average("average-fast", 3.0),
            Average("average", 12.0),
        ]
        self.tokens = Lane(of_tokens, options.period_s, (0.5,), window, budget_s)
        self.start_ups = StartUps(options.startup_s)
        self._seen_at: dict[str, float] = {}
        self._store = store
        self._past = past
        self._started = False
        self._left_out: frozenset[str] = frozenset()
        self._thinned = 0
        self._saved_at = float("-inf")
        self._told: frozenset[tuple[str, AsideReason]] = frozenset()

    def forecast(self, now: float, observation: Observation) -> Forecast:
        """Loads to size for: never less than measured, absent where the load is not known now."""
        notes = () if self._started else self._recall()
        self.start_ups.learn(observation)
        self._take_up(now, observation)
        servers = {one.name: one for one in observation.servers}
        horizons = {name: self._horizon_s(one) for name, one in servers.items()}
        steps = self._steps(horizons)
        if not self._started:
            notes += self._warm(now, observation, steps)
        self._started = True
        rates = self.rates.add(now, self._column(servers, _rate), steps)
        lengths = self.tokens.add(
            now,
            np.concatenate([self._column(servers, _input), self._column(servers, _output)]),
            np.tile(steps, 2),
        )
        predictions = {
            name: self._prediction(row, horizons[name], rates)
            for row, name in enumerate(self._seen_at)
            if name in servers
        }
        tokens = lengths.outlook.means.reshape(2, -1)
        loads = {
            name: self._load(row, load, predictions[name], tokens)
            for row, name in enumerate(self._seen_at)
            if name in servers and (load := measured_load(servers[name].signals)) is not None
        }
        aside = tuple(self._aside(rates, predictions))
        notes += self._notes(aside) + self._save(now)
        return Forecast(loads, notes, predictions, aside)

    def _recall(self) -> tuple[str, ...]:
        """Take up what was kept."""
        if self._store is None:
            return ()
        kept, notes = recalled(self._store)
        if kept is None:
            return notes
        try:
            # Other predictors than those of before: the scores are of no use, the history is.
            self.rates.restore(kept.rates, scores=kept.predictors == self.rates.names)
            self.tokens.restore(kept.tokens, scores=True)
            sizes = (len(kept.seen_at), len(self.rates.book), len(self.tokens.book) // 2)
            problem = "" if len(set(sizes)) == 1 else "names and arrays are of different servers"
        except (ValueError, KeyError) as error:
            problem = str(error)
        if problem:
            self.rates.forget()
            self.tokens.forget()
            return (*notes, f"forecast: kept history is not usable: {problem}")
        self._seen_at = dict(kept.seen_at)
        self._left_out = frozenset(kept.left_out)
        self.start_ups.restore(kept.start_ups)
        return notes

    def _warm(self, now: float, observation: Observation, steps: IntArray) -> tuple[str, ...]:
        """Ask for the past, where nothing was kept of it."""
        past, span_s = self._past, self._options.warm_s
        distinct = len({one.name for one in observation.servers}) == len(observation.servers)
        if past is None or not distinct or span_s <= 0:
            return ()
        if np.isnan(self.rates.book.end):
            return warm(self.rates, past, span_s, now, observation, steps)
        if LONG_RATES in self._left_out:
            return fill_far(self.rates, past, span_s, now, observation, list(self._seen_at))
        return ()

    def _save(self, now: float) -> tuple[str, ...]:
        """Keep what was seen, now and then."""
        if self._store is None or 0 <= now - self._saved_at < self._options.save_every_s:
            return ()
        self._saved_at = now
        kept = Kept(
            self._seen_at,
            self.rates.names,
            self.start_ups.state,
            self.rates.state,
            self.tokens.state,
        )
        before = self._thinned
        try:
            # More of it may fit by now, if servers went.
            self._thinned = save_what_fits(self._store, kept, max(before - 1, 0))
        except StateStoreError as error:
            return (f"forecast: what was seen is not kept: {error}",)
        if self._thinned in (before, 0):
            return ()
        return (f"forecast: too much to be kept whole, left out are {words_of(self._thinned)}",)

    def _take_up(self, now: float, observation: Observation) -> None:
        """Make the rows those of the servers seen now or of late."""
        before = {name: row for row, name in enumerate(self._seen_at)}
        here = {one.name: now for one in observation.servers}
        kept = {name: at for name, at in self._seen_at.items() if abs(now - at) <= REMEMBERED_S}
        self._seen_at = kept | here
        rows = np.array([before.get(name, -1) for name in self._seen_at], dtype=np.int64)
        if len(rows) != len(before) or (rows != np.arange(len(rows))).any():
            inputs = np.where(rows < 0, -1, rows)
            outputs = np.where(rows < 0, -1, rows + len(before))
            self.rates.keep(rows)
            self.tokens.keep(np.concatenate([inputs, outputs]))

    def _horizon_s(self, server: ServerObservation) -> float:
        workload = server.workload
        start_up_s = self.start_ups.expected_s(workload.model, workload.accelerator)
        return self._options.period_s + start_up_s

    def _steps(self, horizons: Mapping[str, float]) -> IntArray:
        wanted = [horizons.get(name, self._options.period_s) for name in self._seen_at]
        slots = np.ceil(np.array(wanted) / self._options.period_s - 1e-9)
        return np.clip(slots, 1, MOST_STEPS).astype(np.int64)

    def _column(self, servers: Mapping[str, ServerObservation], of: _Quantity) -> FloatArray:
        found = [of(servers[name].signals) if name in servers else None for name in self._seen_at]
        return np.array([np.nan if value is None else value for value in found], dtype=np.float64)

    def _prediction(self, row: int, horizon_s: float, seen: Seen) -> Prediction:
        outlook, names = seen.outlook, self.rates.names
        aside = tuple(
            name for name, worse in zip(names, outlook.aside[row].tolist(), strict=True) if worse
        )
        losses = {
            name: loss
            for name, loss in zip(names, outlook.losses[row].tolist(), strict=True)
            if not np.isnan(loss)
        }
        chosen = int(outlook.chosen[row])
        if chosen < 0:
            return Prediction(horizon_s, losses_rps=losses, set_aside=aside)
        quantiles = dict(zip(self._levels, outlook.quantiles[row].tolist(), strict=True))
        mean = float(outlook.means[row])
        return Prediction(horizon_s, names[chosen], mean, quantiles, losses, aside)

    def _load(self, row: int, load: Load, prediction: Prediction, tokens: FloatArray) -> Load:
        """The floor under what is measured; lengths as expected, where they are longer."""
        given, asked = np.nan_to_num(tokens[:, row]).tolist()
        given, asked = max(load.input_tokens, given), max(load.output_tokens, asked)
        least_rps = load.rate_rps * (1.0 + self._options.headroom)
        if not prediction.predictor:
            # Nothing to predict from yet: as the last value has it.
            return replace(load, rate_rps=least_rps)
        rate_rps = max(least_rps, prediction.quantiles_rps[self._options.quantile])
        if asked <= 0:
            return load
        return Load(rate_rps, given, asked)

    def _notes(self, aside: Sequence[SetAside]) -> tuple[str, ...]:
        """One for each that was in use before, or is again; the rest is told in numbers."""
        now = frozenset((one.predictor, one.reason) for one in aside)
        fresh = [one for one in aside if (one.predictor, one.reason) not in self._told]
        back = sorted({name for name, _ in self._told} - {name for name, _ in now})
        self._told = now
        return (
            *(f"forecast: {one.predictor} is set aside: {one.detail}" for one in fresh),
            *(f"forecast: {name} is in use again on every server" for name in back),
        )

    def _aside(self, seen: Seen, predictions: Mapping[str, Prediction]) -> Iterator[SetAside]:
        servers = len(predictions)
        for name, fault in seen.faults.items():
            yield SetAside(name, fault.reason, servers, fault.detail)
        for place, name in enumerate(self.rates.names):
            on = [row for row, each in enumerate(self._seen_at) if each in predictions]
            worse = seen.outlook.aside[on, place]
            if name in seen.faults or not worse.any():
                continue
            own = float(np.nanmean(seen.outlook.losses[on, place][worse]))
            last = float(np.nanmean(seen.outlook.base_losses[on, place][worse]))
            detail = (
                f"worse than the last value on {int(worse.sum())} of {servers} servers: "
                f"pinball loss {own:.4g} against {last:.4g} requests/s"
            )
            yield SetAside(name, AsideReason.WORSE, int(worse.sum()), detail)


def _rate(signals: Signals) -> float | None:
    """The arrival rate; an engine that hangs shows none, and that is no measurement of none."""
    rate = value_of(signals.arrival_rate_rps)
    return None if rate == 0 and (value_of(signals.running) or 0.0) > 0 else rate


def _input(signals: Signals) -> float | None:
    return value_of(signals.input_tokens)


def _output(signals: Signals) -> float | None:
    return value_of(signals.output_tokens)
