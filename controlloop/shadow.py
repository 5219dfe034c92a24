"""Scores what a dry run would do against what happens: latencies, forecasts, cost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from controlloop.api.decision import Decisions, Forecast, Situation
from controlloop.api.observation import ServerObservation
from controlloop.api.readings import value_of
from controlloop.api.shadow import MeanError, ServerShadow, ShadowScore
from controlloop.api.system import Allocation, Load, System
from controlloop.units import hours_from_s

MOST_PENDING: Final = 1000
"""Forecasts of one server that wait for their time; far more than cycles within a horizon."""

Predict = Callable[[System], Mapping[str, Allocation]]
"""What runs, with the latencies that are predicted for its load."""


@dataclass(frozen=True, slots=True)
class _Expected:
    """What was expected of one server for `due`."""

    due: float
    expected_rps: float
    sized_rps: float


@dataclass(slots=True)
class _Sum:
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1


@dataclass(slots=True)
class Shadow:
    """Implements `protocols.Scorer`; it lives as long as the process.

    Args:
        predict: predicts what runs; see `Predict`.

    """

    predict: Predict
    _pending: dict[str, deque[_Expected]] = field(default_factory=dict)
    _errors: dict[str, _Sum] = field(default_factory=dict)
    _exceeded: _Sum = field(default_factory=_Sum)
    _saved_cents: float = 0.0
    _since: float | None = None
    _before: tuple[float, float] | None = None

    def score(self, situation: Situation, forecast: Forecast, decisions: Decisions) -> ShadowScore:
        """This cycle's comparison, added to all before."""
        now = situation.now
        self._since = now if self._since is None else self._since
        costs = {
            each.server: (each.current.total_cost_per_hour, each.desired.total_cost_per_hour)
            for each in decisions.decisions
        }
        self._count_savings(now, sum(actual - desired for actual, desired in costs.values()))
        predicted = self.predict(_as_it_runs(situation))
        servers = tuple(
            self._server(seen, predicted.get(seen.name), costs.get(seen.name, (0.0, 0.0)), now)
            for seen in situation.observation.servers
        )
        self._expect(now, forecast)
        return ShadowScore(
            servers=servers,
            since=self._since,
            errors={
                of: MeanError(each.total / each.count, each.count)
                for of, each in sorted(self._errors.items())
            },
            exceeded_share=self._exceeded.total / self._exceeded.count
            if self._exceeded.count
            else None,
            saved_cents=self._saved_cents,
        )

    def _count_savings(self, now: float, saved_per_hour: float) -> None:
        if self._before is not None:
            then, saved_then = self._before
            self._saved_cents += saved_then * hours_from_s(max(now - then, 0.0))
        self._before = (now, saved_per_hour)

    def _server(
        self,
        seen: ServerObservation,
        predicted: Allocation | None,
        costs: tuple[float, float],
        now: float,
    ) -> ServerShadow:
        signals = seen.signals
        itl_ms = None if predicted is None else _known(predicted.itl_ms)
        ttft_ms = None if predicted is None else _known(predicted.ttft_ms)
        measured_rps = value_of(signals.arrival_rate_rps)
        due = self._due(seen.name, now)
        for each in due if measured_rps is not None else ():
            self._compare("rate", each.expected_rps, measured_rps)
            self._exceeded.add(float((measured_rps or 0.0) > each.sized_rps))
        found = ServerShadow(
            server=seen.name,
            predicted_itl_ms=itl_ms,
            observed_itl_ms=value_of(signals.itl_ms),
            predicted_ttft_ms=ttft_ms,
            observed_ttft_ms=value_of(signals.ttft_ms),
            expected_rps=due[-1].expected_rps if due else None,
            sized_rps=due[-1].sized_rps if due else None,
            measured_rps=measured_rps,
            actual_cost=costs[0],
            desired_cost=costs[1],
        )
        self._compare("itl", found.predicted_itl_ms, found.observed_itl_ms)
        self._compare("ttft", found.predicted_ttft_ms, found.observed_ttft_ms)
        return found

    def _compare(self, of: str, predicted: float | None, observed: float | None) -> None:
        if predicted is not None and observed is not None and observed > 0:
            self._errors.setdefault(of, _Sum()).add(abs(predicted - observed) / observed)

    def _due(self, server: str, now: float) -> list[_Expected]:
        waiting = self._pending.get(server)
        found = []
        while waiting and waiting[0].due <= now:
            found.append(waiting.popleft())
        return found

    def _expect(self, now: float, forecast: Forecast) -> None:
        for server, load in forecast.loads.items():
            prediction = forecast.predictions.get(server)
            # Where nobody says for when it is, it is for the next cycle.
            horizon_s = 0.0 if prediction is None else prediction.horizon_s
            mean_rps = None if prediction is None else prediction.mean_rps
            expected = _Expected(
                due=now + horizon_s,
                expected_rps=load.rate_rps if mean_rps is None else mean_rps,
                sized_rps=load.rate_rps,
            )
            self._pending.setdefault(server, deque(maxlen=MOST_PENDING)).append(expected)
        for gone in self._pending.keys() - forecast.loads.keys():
            # Of a server whose load is unknown for long nothing is kept for ever.
            while self._pending[gone] and self._pending[gone][0].due < now:
                self._pending[gone].popleft()
            if not self._pending[gone]:
                del self._pending[gone]


def _as_it_runs(situation: Situation) -> System:
    """The system with the replicas that serve and the loads that were measured, and no more."""
    seen = {each.name: each for each in situation.observation.servers}
    servers = []
    for server in situation.system.servers:
        load = _measured(seen[server.name])
        ready = seen[server.name].workload.ready_replicas
        if load is not None and ready > 0:
            current = replace(server.current, replicas=ready, load=load)
            servers.append(replace(server, current=current, backlog_rps=0.0, min_replicas=0))
    classes = tuple(
        # A target of tokens per second would stand for the arrivals.
        replace(each, targets=tuple(replace(target, tps=0.0) for target in each.targets))
        for each in situation.system.classes
    )
    return replace(situation.system, servers=tuple(servers), classes=classes)


def _measured(seen: ServerObservation) -> Load | None:
    signals = seen.signals
    rate = value_of(signals.arrival_rate_rps)
    given, asked = value_of(signals.input_tokens), value_of(signals.output_tokens)
    if not rate or given is None or asked is None:
        return None
    return Load(rate, given, asked)


def _known(time_ms: float) -> float | None:
    return time_ms if math.isfinite(time_ms) and time_ms > 0 else None
