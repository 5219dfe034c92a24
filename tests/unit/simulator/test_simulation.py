from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from controlloop.api.decision import Action, Decision, Decisions
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.report import CycleReport, Failure, Stage
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import Allocation, System
from controlloop.clock import Clock, Deadline, ManualClock
from controlloop.protocols import Actuator, Sensor, Source
from controlloop.simulator.actuator import PlantActuator
from controlloop.simulator.faults import NodeLoss
from controlloop.simulator.fleet_run import FleetRun
from controlloop.simulator.fluid import FluidPlant
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.sensor import PlantSensor
from controlloop.simulator.simulation import (
    CycleRecord,
    FixedSource,
    PlantSource,
    simulate,
)
from controlloop.simulator.workloads.generated import Generated, TokenLengths
from controlloop.simulator.workloads.rates import Steady

PlantMaker = Callable[..., FluidPlant]
PERIOD_S = 60.0
ROLLING = Hold(HoldReason.ROLLOUT, Forbids.DECREASE, "1 of 3 replicas are not ready yet")


@dataclass
class Script:
    """A loop that asks for the replicas it was told, cycle by cycle; None fails that cycle."""

    sensor: Sensor
    actuator: Actuator
    wanted: list[int | None]
    asked: list[tuple[float, float]] = field(default_factory=list)

    def run_once(self, now: float, deadline: Deadline, since: float = 0.0) -> CycleReport:
        self.asked.append((now, since))
        wanted = self.wanted[len(self.asked) - 1]
        if wanted is None:
            return CycleReport(now, (), failure=Failure(Stage.OPTIMIZE, "ValueError", "no"))
        seen = self.sensor.observe(now, deadline)
        decisions = Decisions(
            (_decision(seen.servers[0].workload.replicas, wanted),),
            Solution({}, (), SolveStatus.OPTIMAL, "script", 0.0),
        )
        plan = self.actuator.plan(decisions, seen)
        outcome = self.actuator.apply(plan, deadline)
        return CycleReport(
            now, (), observation=seen, decisions=decisions, plan=plan, outcome=outcome
        )


def _decision(before: int, after: int) -> Decision:
    current, desired = (Allocation("A100", count, 64) for count in (before, after))
    if after == before:
        return Decision("small", Action.HOLD, current, desired, "held", (ROLLING,))
    action = Action.SCALE_UP if after > before else Action.SCALE_DOWN
    return Decision("small", action, current, desired, "as told")


@pytest.fixture
def plant(make_plant: PlantMaker, small: PlantServer) -> FluidPlant:
    return make_plant((small,), [[50.0]] * 60)


def script(plant: FluidPlant, small: PlantServer, *wanted: int | None) -> Script:
    return Script(PlantSensor(plant, (small,)), PlantActuator(plant), list(wanted))


def test_each_cycle_runs_at_the_end_of_its_period(plant: FluidPlant, small: PlantServer) -> None:
    loop, clock = script(plant, small, 2, 2, 2), ManualClock()
    told: list[CycleRecord] = []

    course = simulate(plant, loop, clock, 3, PERIOD_S, told.append)

    assert loop.asked == [(60.0, 0.0), (120.0, 0.0), (180.0, 0.0)]
    assert [record.number for record in told] == [0, 1, 2]
    assert [len(record.samples) for record in told] == [6, 6, 6]
    assert [sample.time for sample in course.samples] == [10.0 * at for at in range(1, 19)]


def test_changes_are_those_applied_and_holds_are_counted(
    plant: FluidPlant, small: PlantServer
) -> None:
    course = simulate(plant, script(plant, small, 3, 3, 3), ManualClock(), 3, PERIOD_S)

    assert [(one.time, one.decision.desired.replicas) for one in course.changes] == [(60.0, 3)]
    assert course.holds == {HoldReason.ROLLOUT: 2}
    assert course.held[HoldReason.ROLLOUT].time == 120.0


def test_a_failed_cycle_is_told_and_the_next_one_runs(
    plant: FluidPlant, small: PlantServer
) -> None:
    course = simulate(plant, script(plant, small, None, 4), ManualClock(), 2, PERIOD_S)

    assert [(time, failure.message) for time, failure in course.failures] == [(60.0, "no")]
    assert plant.workloads()[0].replicas == 4


def test_a_run_under_control_is_judged_whole(small: PlantServer, catalog: System) -> None:
    lengths = TokenLengths(small.input_tokens, small.output_tokens, 0.3, 0.3)
    fleet = FleetRun(catalog, catalog, (small,), (Generated(Steady(12.0), lengths),))
    tally = fleet.tally()

    def watch(record: CycleRecord) -> None:
        tally.add(record.samples, record.over)

    def build(source: Source, sensor: Sensor, actuator: Actuator, clock: Clock) -> Script:
        return Script(sensor, actuator, [4, 4, 1])

    run, course = fleet.controlled(build, 3, PERIOD_S, watch)
    assert [one.decision.desired.replicas for one in course.changes] == [4, 1]
    assert run.history.held[:, 0].tolist() == [2] * 6 + [4] * 12
    assert tally.cost == pytest.approx(run.score.cost)
    # What was still inside at the end was finished, and judged too.
    arrived = run.score.overall.requests
    assert arrived == pytest.approx(12.0 * 180.0, rel=0.1)
    assert run.history.ttft_bins.sum() == arrived
    assert run.score.overall.within_both > 0.99
    assert tally.attainment == pytest.approx(run.score.overall.within_both, abs=0.01)

    alone = fleet.left_alone(3, PERIOD_S)
    assert np.all(alone.history.held == 2)
    assert np.array_equal(alone.history.arrived, run.history.arrived)
    cut_short = fleet.left_alone(3, PERIOD_S, stopped=lambda: True)
    assert len(cut_short.history.times) == 6


def test_a_plants_source_has_the_cards_that_there_are(small: PlantServer, catalog: System) -> None:
    quiet = Generated(Steady(0.0), TokenLengths(1, 1))
    loss = NodeLoss(5.0, "A100", 4)
    plant = FleetRun(catalog, catalog, (small,), (quiet,), faults=(loss,)).plant()
    source: Source = PlantSource(catalog, plant)
    assert source.load().capacity["A100"] == 8
    plant.advance_to(10.0)
    assert source.load().capacity["A100"] == 4
    assert source.problem is None


def test_a_fixed_source_gives_its_system_and_no_problem(catalog: System) -> None:
    source: Source = FixedSource(catalog)

    assert source.load() is catalog
    assert source.problem is None
