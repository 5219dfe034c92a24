"""The demo: a day of a fleet under control, beside the same day of a fleet fixed at its peak."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Final

import numpy as np

from controlloop.api.holds import HoldReason
from controlloop.api.report import Failure
from controlloop.api.system import System
from controlloop.protocols import Optimizer
from controlloop.simulator.events import request_seeds
from controlloop.simulator.fleet import Fleet, fleet_at
from controlloop.simulator.fleet_run import FleetRun, Run
from controlloop.simulator.scoring import replica_costs
from controlloop.simulator.sensor import SignalOutage
from controlloop.simulator.simulation import Change, CycleRecord, LoopBuilder
from controlloop.simulator.workloads.generated import Generated, TokenLengths
from controlloop.simulator.workloads.rates import Daily, Wandering
from controlloop.units import SECONDS_PER_HOUR

# What a fixed fleet is sized for: its busiest five minutes, not its busiest instant.
PEAK_WINDOW_S: Final = 300.0
# Coefficient of variation of the lengths of prompts, and of answers.
LENGTHS_CV: Final = 0.5


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How long, how often, and with which chance; `outages` are times without metrics.

    `hours` of the load's day pass at `pace` times their own: 24 at a pace of 4 are 6 simulated
    hours. Engines, start-ups and cycles take the time that they take.
    """

    hours: float = 24.0
    pace: float = 1.0
    period_s: float = 60.0
    seed: int = 1
    outages: tuple[SignalOutage, ...] = ()

    @property
    def cycles(self) -> int:
        """Control cycles in that time, at least 1."""
        return max(int(self.hours * SECONDS_PER_HOUR / self.pace // self.period_s), 1)


@dataclass(frozen=True, slots=True)
class Engine:
    """What the demo is handed: the production loop and its optimizer."""

    build_loop: LoopBuilder
    optimizer: Optimizer


@dataclass(frozen=True, slots=True, eq=False)
class DemoResult:
    """The controlled day and the fixed one under equal traffic, and every change made.

    `true_times` are the engines' times, in multiples of those that control plans with.
    """

    options: DemoOptions
    true_times: float
    catalog: System
    controlled: Run
    fixed: Run
    changes: tuple[Change, ...]
    failures: tuple[tuple[float, Failure], ...]
    holds: Mapping[HoldReason, int]
    held: Mapping[HoldReason, Change]

    @property
    def saving(self) -> float:
        """The share of the fixed fleet's cost that control saves; negative if it costs more."""
        return 1.0 - self.controlled.score.cost / self.fixed.score.cost


class Demo:
    """A fleet and its traffic, ready to run.

    Args:
        fleet: what there is and what is asked of it.
        options: how long, how often, which chance.
        engine: the production parts.

    Raises:
        FleetError: the peak load does not fit on the cards.

    """

    def __init__(self, fleet: Fleet, options: DemoOptions, engine: Engine) -> None:
        self.catalog = fleet.catalog
        self._true_times = fleet.true_times
        self.options = options
        self._engine = engine
        workloads = demo_workloads(fleet, options.pace)
        seconds = options.cycles * options.period_s
        peaks = [
            workload.peak_rps(seed, seconds, PEAK_WINDOW_S)
            for workload, seed in zip(
                workloads, request_seeds(options.seed, len(workloads)), strict=True
            )
        ]
        self.servers = fleet_at(fleet, np.array(peaks), engine.optimizer)
        self._fleet = FleetRun(
            catalog=fleet.catalog,
            truth=fleet.truth,
            servers=self.servers,
            workloads=workloads,
            seed=options.seed,
            outages=options.outages,
        )

    @property
    def fixed_cost_per_hour(self) -> float:
        """Cost of the fleet fixed at its peak, in cents/hour."""
        replicas = np.array([server.replicas for server in self.servers])
        return float(replicas @ replica_costs(self.servers, self.catalog))

    def run(self, watch: Callable[[CycleRecord], None] = lambda _: None) -> DemoResult:
        """Both days at once: the controlled fleet's, which starts out as fixed, and the fixed."""
        cycles, period_s = self.options.cycles, self.options.period_s
        stop = Event()
        with ThreadPoolExecutor(1) as beside:
            alone = beside.submit(self._fleet.left_alone, cycles, period_s, stop.is_set)
            try:
                controlled, course = self._fleet.controlled(
                    self._engine.build_loop, cycles, period_s, watch
                )
            except BaseException:  # Ctrl-C, too: nobody waits for the other day then
                stop.set()
                raise
            fixed = alone.result()
        return DemoResult(
            options=self.options,
            true_times=self._true_times,
            catalog=self.catalog,
            controlled=controlled,
            fixed=fixed,
            changes=course.changes,
            failures=course.failures,
            holds=course.holds,
            held=course.held,
        )


def demo_workloads(fleet: Fleet, pace: float = 1.0) -> tuple[Generated, ...]:
    """The day of each server: its curve, wandering, and lengths around the server's means."""
    return tuple(
        Generated(
            Wandering(Daily(curve, pace), curve.noise, curve.wander_s / pace),
            TokenLengths(
                server.current.load.input_tokens,
                server.current.load.output_tokens,
                LENGTHS_CV,
                LENGTHS_CV,
            ),
        )
        for server, curve in zip(fleet.servers, fleet.curves, strict=True)
    )
