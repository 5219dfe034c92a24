"""A fleet on the event plant, under control or left alone, judged request by request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from controlloop.api.system import System
from controlloop.clock import Clock, ManualClock
from controlloop.simulator.actuator import PlantActuator
from controlloop.simulator.event_server import EngineOptions
from controlloop.simulator.events import STEP_S, EventPlant
from controlloop.simulator.faults import Fault
from controlloop.simulator.history import History
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.scoring import Score, score
from controlloop.simulator.sensor import PlantSensor, SignalOutage
from controlloop.simulator.simulation import (
    ControlLoop,
    Course,
    CycleRecord,
    LoopBuilder,
    PlantSource,
    simulate,
)
from controlloop.simulator.tally import Tally
from controlloop.simulator.workloads.requests import Workload

# What is still inside at the end is finished, so that each request is judged, within so long.
FINISH_S = 1800.0


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What happened to a fleet, and how well it did."""

    history: History
    score: Score


@dataclass(frozen=True, slots=True, eq=False)
class FleetRun:
    """A fleet and what it is asked to do, ready to run any number of times.

    Attributes:
        catalog: accelerators, prices, objectives and parameters as control knows them.
        truth: the same with the parameters that the engines truly have.
        servers: as they stand at the start.
        workloads: what arrives at each.
        seed: where chance comes from.
        options: how the engines are.
        faults: what goes wrong.
        outages: when metrics are missing.
        step_s: the plant's step.

    """

    catalog: System
    truth: System
    servers: tuple[PlantServer, ...]
    workloads: Sequence[Workload]
    seed: int = 1
    options: EngineOptions = field(default_factory=EngineOptions)
    faults: tuple[Fault, ...] = ()
    outages: tuple[SignalOutage, ...] = ()
    step_s: float = STEP_S

    def plant(self, start: float = 0.0) -> EventPlant:
        """The fleet at the start.

        Raises:
            ValueError: it cannot be built; see `EventPlant`.
            UnknownPluginError: nothing says what an iteration takes under a pair's queue model.

        """
        return EventPlant(
            self.truth,
            self.servers,
            self.workloads,
            seed=self.seed,
            options=self.options,
            step_s=self.step_s,
            start=start,
            faults=self.faults,
        )

    def left_alone(
        self, cycles: int, period_s: float, stopped: Callable[[], bool] = lambda: False
    ) -> Run:
        """The fleet as it is at the start, without control; cut short once `stopped`."""
        plant = self.plant()
        tally = self.tally()
        for number in range(cycles):
            if number and stopped():
                break
            tally.add(plant.advance_to((number + 1) * period_s), plant.forget())
        return self._judged(plant, tally)

    def controlled(
        self,
        build_loop: LoopBuilder,
        cycles: int,
        period_s: float,
        watch: Callable[[CycleRecord], None] = lambda _: None,
    ) -> tuple[Run, Course]:
        """The fleet under the production loop."""
        plant, clock, tally = self.plant(), ManualClock(), self.tally()
        loop = self.loop(build_loop, plant, clock)

        def see(record: CycleRecord) -> None:
            tally.add(record.samples, record.over)
            watch(record)

        course = simulate(plant, loop, clock, cycles, period_s, see, plant.forget)
        return self._judged(plant, tally), course

    def loop(self, build_loop: LoopBuilder, plant: EventPlant, clock: Clock) -> ControlLoop:
        """The production loop around `plant`."""
        sensor = PlantSensor(plant, self.servers, self.outages)
        source = PlantSource(self.catalog, plant)
        return build_loop(source, sensor, PlantActuator(plant), clock)

    def tally(self) -> Tally:
        """Nothing yet."""
        return Tally(self.servers, self.catalog, self.step_s)

    def _judged(self, plant: EventPlant, tally: Tally) -> Run:
        plant.finish(FINISH_S)
        tally.judge(plant.forget())
        history = tally.history()
        return Run(history, score(history, self.catalog))
