from __future__ import annotations

from collections.abc import Callable

import pytest

from controlloop.api.decision import Action, Decision, Decisions, PatchStatus, Plan
from controlloop.api.holds import Forbids, HoldReason
from controlloop.api.observation import Observation, ServerObservation
from controlloop.api.readings import Missing, Present, value_of
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import Allocation
from controlloop.clock import Deadline, ManualClock
from controlloop.protocols import Actuator, Sensor
from controlloop.simulator.actuator import PlantActuator
from controlloop.simulator.fluid import FluidPlant
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.sensor import PlantSensor, SignalOutage

PlantMaker = Callable[..., FluidPlant]
DEADLINE = Deadline(ManualClock(), 60.0)


def see(sensor: Sensor, plant: FluidPlant, now: float) -> ServerObservation:
    plant.advance_to(now)
    return sensor.observe(now, DEADLINE).servers[0]


def decide(name: str, before: int, after: int) -> Decisions:
    current, desired = (
        Allocation(accelerator="A100", replicas=count, max_batch=64) for count in (before, after)
    )
    action = Action.SCALE_UP if after > before else Action.SCALE_DOWN
    decision = Decision(name, action, current, desired, "because")
    return Decisions((decision,), Solution({}, (), SolveStatus.OPTIMAL, "test", 0.0))


def test_rates_are_of_the_window_since_the_last_look(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), [[50.0]] * 6 + [[120.0]] * 6)
    sensor = PlantSensor(plant, (small,))

    first = see(sensor, plant, 60.0).signals
    second = see(sensor, plant, 120.0).signals

    assert value_of(first.arrival_rate_rps) == pytest.approx(5.0)
    assert value_of(second.arrival_rate_rps) == pytest.approx(12.0)
    assert value_of(second.input_tokens) == pytest.approx(512.0)
    assert value_of(second.output_tokens) == pytest.approx(256.0)
    assert (second.reported_pods, second.expected_pods) == (2, 2)


def test_arrivals_are_completions_and_the_change_of_what_is_inside(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), [[500.0]] * 6)
    sensor = PlantSensor(plant, (small,))

    signals = see(sensor, plant, 60.0).signals

    inside = (value_of(signals.running) or 0.0) + plant.meters()["small"].waiting
    completed = 60.0 * (value_of(signals.completion_rate_rps) or 0.0)
    assert completed + inside == pytest.approx(60.0 * 50.0)
    assert value_of(signals.arrival_rate_rps) == pytest.approx(50.0)


def test_a_sample_is_as_old_as_the_last_whole_step(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), [[50.0]] * 12)
    sensor = PlantSensor(plant, (small,))

    assert see(sensor, plant, 67.0).signals.arrival_rate_rps == Present(5.0, 7.0)


def test_requests_that_wait_forbid_a_decrease(make_plant: PlantMaker, small: PlantServer) -> None:
    plant = make_plant((small,), [[500.0]] * 6)
    sensor = PlantSensor(plant, (small,))

    seen = see(sensor, plant, 60.0)

    (hold,) = seen.holds
    assert (hold.reason, hold.forbids) == (HoldReason.REQUESTS_WAITING, Forbids.DECREASE)
    assert (value_of(seen.signals.waiting) or 0) > 1000


def test_a_drained_replica_forbids_another_decrease_in_the_cycle_that_misses_it(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), [[50.0]] * 30)
    sensor = PlantSensor(plant, (small,))
    see(sensor, plant, 60.0)
    plant.scale(plant.workloads()[0].ref, 1)

    missed = see(sensor, plant, 120.0)
    later = [see(sensor, plant, now) for now in (180.0, 240.0)][-1]

    assert [hold.reason for hold in missed.holds] == [HoldReason.POD_GONE]
    assert later.holds == ()


def test_without_arrivals_the_rate_is_zero_and_lengths_are_missing(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), [[0.0]] * 6)
    sensor = PlantSensor(plant, (small,))

    seen = see(sensor, plant, 60.0)

    signals = seen.signals
    assert signals.arrival_rate_rps == Present(0.0)
    assert isinstance(signals.output_tokens, Missing)
    assert seen.holds == ()


def test_an_outage_makes_signals_missing_while_it_lasts_and_forbids_every_change(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), [[50.0]] * 24)
    outage = SignalOutage(100.0, 200.0, frozenset({"small"}))
    sensor = PlantSensor(plant, (small,), (outage,))

    before, during, after = (see(sensor, plant, now) for now in (60.0, 120.0, 240.0))

    assert before.holds == ()
    assert isinstance(during.signals.arrival_rate_rps, Missing)
    assert isinstance(during.signals.waiting, Missing)
    assert during.signals.reported_pods == 0
    assert {hold.reason for hold in during.holds} == {HoldReason.SIGNAL_MISSING}
    assert any(hold.forbids is Forbids.CHANGE for hold in during.holds)
    assert value_of(after.signals.arrival_rate_rps) == pytest.approx(5.0)


def test_an_outage_of_another_server_is_none_of_this_one() -> None:
    outage = SignalOutage(0.0, 100.0, frozenset({"other"}))

    assert not outage.covers("small", 50.0)
    assert SignalOutage(0.0, 100.0).covers("small", 50.0)
    assert not SignalOutage(0.0, 100.0).covers("small", 100.0)


def test_two_looks_within_one_step_give_no_rate(make_plant: PlantMaker, small: PlantServer) -> None:
    plant = make_plant((small,), [[50.0]] * 6)
    sensor = PlantSensor(plant, (small,))
    see(sensor, plant, 30.0)

    assert isinstance(see(sensor, plant, 31.0).signals.arrival_rate_rps, Missing)


def test_a_plan_changes_the_plant(make_plant: PlantMaker, small: PlantServer) -> None:
    plant = make_plant((small,), [[50.0]] * 6)
    actuator: Actuator = PlantActuator(plant)
    seen = Observation(60.0, (see(PlantSensor(plant, (small,)), plant, 60.0),))

    outcome = actuator.apply(actuator.plan(decide("small", 2, 4), seen), DEADLINE)

    assert [one.status for one in outcome.patches] == [PatchStatus.APPLIED]
    assert plant.workloads()[0].replicas == 4


def test_a_plan_that_rests_on_an_older_version_changes_nothing(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), [[50.0]] * 6)
    actuator = PlantActuator(plant)
    seen = Observation(60.0, (see(PlantSensor(plant, (small,)), plant, 60.0),))
    plan = actuator.plan(decide("small", 2, 1), seen)
    plant.scale(plant.workloads()[0].ref, 3)

    (outcome,) = actuator.apply(plan, DEADLINE).patches

    assert outcome.status is PatchStatus.FAILED
    assert "version" in outcome.detail
    assert plant.workloads()[0].replicas == 3


def test_nothing_is_sent_once_the_time_is_up(make_plant: PlantMaker, small: PlantServer) -> None:
    plant = make_plant((small,), [[50.0]] * 6)
    actuator = PlantActuator(plant)
    seen = Observation(60.0, (see(PlantSensor(plant, (small,)), plant, 60.0),))
    plan: Plan = actuator.plan(decide("small", 2, 4), seen)

    (outcome,) = actuator.apply(plan, Deadline(ManualClock(), 0.0)).patches

    assert outcome.status is PatchStatus.FAILED
    assert plant.workloads()[0].replicas == 2
