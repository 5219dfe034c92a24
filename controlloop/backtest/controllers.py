"""What controls a plant: autoscalers server by server, or the production loop as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from controlloop.api.predictions import Prediction
from controlloop.api.readings import value_of
from controlloop.api.report import CycleReport
from controlloop.api.system import Load
from controlloop.backtest.view import Autoscaler, views
from controlloop.clock import Deadline, ManualClock
from controlloop.simulator.plant import Plant
from controlloop.simulator.simulation import ControlLoop, changes_in


@dataclass(frozen=True, slots=True)
class Move:
    """A change of one server's replicas."""

    time: float
    server: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the loop saw and expected of one server at `time`: requests/s.

    `sized_rps` is what the server was sized for; `mean_rps`, between `low_rps` and `high_rps`
    (the least and greatest quantile), what was predicted for `horizon_s` later: NaN where
    nothing was.
    """

    time: float
    server: str
    seen_rps: float
    sized_rps: float
    mean_rps: float = math.nan
    low_rps: float = math.nan
    high_rps: float = math.nan
    horizon_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Acts:
    """What a controller did at one time; `failure` says why it could not."""

    moves: tuple[Move, ...] = ()
    outlooks: tuple[Outlook, ...] = ()
    failure: str = ""


class Controller(Protocol):
    """Acts on a plant once a period."""

    @property
    def period_s(self) -> float:
        """Seconds from one act to the next."""
        ...

    def act(self, now: float) -> Acts:
        """Look at the plant and change it, at `now` in seconds of its clock."""
        ...


@dataclass(slots=True)
class Autoscalers:
    """One autoscaler a server, none of which knows of the others."""

    plant: Plant
    of_server: Mapping[str, Autoscaler]
    period_s: float

    def act(self, now: float) -> Acts:
        """Ask each in order of server name."""
        moves = []
        for name, view in views(self.plant).items():
            wanted = self.of_server[name].decide(now, view)
            if wanted is not None and wanted != view.wanted:
                self.plant.scale(view.ref, wanted)
                moves.append(Move(now, name, view.wanted, wanted))
        return Acts(tuple(moves))


@dataclass(slots=True)
class Loop:
    """The production cycle. `clock` is the one that it was built with."""

    loop: ControlLoop
    clock: ManualClock
    period_s: float
    _since: float | None = field(default=None)

    def act(self, now: float) -> Acts:
        """Run one cycle; it is in control since the first."""
        self.clock.advance(now - self.clock.now())
        since = now if self._since is None else self._since
        self._since = since
        report = self.loop.run_once(now, Deadline(self.clock, self.period_s), since)
        moves = tuple(
            Move(
                now,
                change.decision.server,
                change.decision.current.total_replicas,
                change.decision.desired.total_replicas,
            )
            for change in changes_in(report)
        )
        failure = report.failure
        return Acts(moves, _outlooks(report), "" if failure is None else failure.message)


def _outlooks(report: CycleReport) -> tuple[Outlook, ...]:
    if report.observation is None:
        return ()
    seen = {one.name: value_of(one.signals.arrival_rate_rps) for one in report.observation.servers}
    loads = {} if report.forecast is None else report.forecast.loads
    predictions = {} if report.forecast is None else report.forecast.predictions
    return tuple(
        _outlook(report.time, name, rate_rps, loads[name], predictions.get(name))
        for name, rate_rps in seen.items()
        if rate_rps is not None and name in loads
    )


def _outlook(
    time: float, server: str, seen_rps: float, load: Load, prediction: Prediction | None
) -> Outlook:
    if prediction is None or prediction.mean_rps is None or not prediction.quantiles_rps:
        return Outlook(time, server, seen_rps, load.rate_rps)
    levels = prediction.quantiles_rps
    return Outlook(
        time=time,
        server=server,
        seen_rps=seen_rps,
        sized_rps=load.rate_rps,
        mean_rps=prediction.mean_rps,
        low_rps=levels[min(levels)],
        high_rps=levels[max(levels)],
        horizon_s=prediction.horizon_s,
    )
