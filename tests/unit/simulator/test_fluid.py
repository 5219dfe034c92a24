from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.holds import Forbids, HoldReason
from controlloop.api.observation import Workload, WorkloadRef
from controlloop.api.replicas import Replicas
from controlloop.api.system import System
from controlloop.errors import ConflictError, NotFoundError
from controlloop.queueing.state_dependent import StateDependent
from controlloop.simulator.fluid import FluidPlant
from controlloop.simulator.plant import PlantServer

PlantMaker = Callable[..., FluidPlant]
STEP_S = 10.0


def steady(rate_rps: float, steps: int, servers: int = 1) -> list[list[float]]:
    return [[rate_rps * STEP_S] * servers] * steps


def workload(plant: FluidPlant, name: str) -> Workload:
    return next(one for one in plant.workloads() if one.server == name)


def ask(plant: FluidPlant, name: str, replicas: int) -> None:
    plant.scale(workload(plant, name).ref, replicas)


def test_in_steady_state_the_plant_is_the_queue_model(
    catalog: System, make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), steady(14.0, 600))

    last = plant.advance_to(6000.0)[-1]

    replica = Replicas(
        max_batch=np.array([small.max_batch]),
        max_queue=np.array([10 * small.max_batch]),
        input_tokens=np.array([small.input_tokens]),
        output_tokens=np.array([small.output_tokens]),
        parameters=np.array([catalog.perf[0].parameters]),
    )
    theory = StateDependent().analyze(replica, np.array([7.0]))
    assert last.ttft_ms == pytest.approx(theory.ttft_ms, rel=1e-3)
    assert last.itl_ms == pytest.approx(theory.itl_ms, rel=1e-3)
    assert last.in_system == pytest.approx(2 * theory.in_system, rel=1e-3)
    assert last.completed == pytest.approx([140.0])


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 200), st.integers(0, 9), st.integers(0, 5)),
        min_size=1,
        max_size=40,
    )
)
def test_no_request_is_lost_or_made_and_cards_suffice_whatever_is_asked(
    catalog: System,
    make_plant: PlantMaker,
    small: PlantServer,
    big: PlantServer,
    steps: list[tuple[int, int, int, int]],
) -> None:
    plant = make_plant((small, big), [step[:2] for step in steps])
    arrived = completed = np.zeros(2)
    for number, (_, _, of_small, of_big) in enumerate(steps, start=1):
        (sample,) = plant.advance_to(number * STEP_S)
        arrived = arrived + sample.arrived
        completed = completed + sample.completed
        assert sample.in_system == pytest.approx(arrived - completed, abs=1e-6)
        assert np.all(sample.completed >= 0)
        assert np.all(sample.in_system >= 0)
        assert np.all(sample.cards <= list(catalog.capacity.values()))
        ask(plant, "small", of_small)
        ask(plant, "big", of_big)
    meters = plant.meters()
    assert [meters["small"].arrived, meters["big"].arrived] == arrived.tolist()
    assert [meters["small"].completed, meters["big"].completed] == pytest.approx(completed)


def test_a_new_replica_serves_after_its_start_up_time_and_not_before(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), steady(5.0, 30))
    plant.advance_to(20.0)

    ask(plant, "small", 5)
    samples = plant.advance_to(20.0 + small.startup_s + 20.0)

    assert [int(sample.ready[0]) for sample in samples] == [2, 2, 2, 2, 2, 2, 5, 5]
    assert all(sample.held == 5 for sample in samples)


def test_while_replicas_start_up_the_workload_says_that_nothing_may_shrink(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), steady(5.0, 30))
    assert workload(plant, "small").holds == ()

    ask(plant, "small", 3)

    (hold,) = workload(plant, "small").holds
    assert (hold.reason, hold.forbids) == (HoldReason.ROLLOUT, Forbids.DECREASE)
    assert "1 of 3" in hold.detail
    assert [pod.ready for pod in workload(plant, "small").pods] == [True, True, False]
    plant.advance_to(70.0)
    assert workload(plant, "small").holds == ()


def test_a_replica_without_free_cards_waits_for_those_of_a_draining_one(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    first = replace(small, name="first", replicas=6)
    second = replace(small, name="second", replicas=2)
    plant = make_plant((first, second), steady(20.0, 60, servers=2))
    plant.advance_to(60.0)

    ask(plant, "second", 4)
    pods = workload(plant, "second").pods
    assert [pod.scheduled for pod in pods] == [True, True, False, False]
    ask(plant, "first", 4)
    (before,) = plant.advance_to(70.0)
    assert before.cards[0] == 8
    plant.advance_to(200.0)

    assert workload(plant, "second").ready_replicas == 4
    assert workload(plant, "first").ready_replicas == 4


def test_a_draining_replica_keeps_its_cards_until_its_requests_are_done(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), steady(14.0, 60))
    plant.advance_to(300.0)
    inside = plant.meters()["small"].running

    ask(plant, "small", 1)

    assert plant.meters()["small"].running == pytest.approx(inside, rel=1e-4)
    assert workload(plant, "small").ready_replicas == 1
    assert [pod.terminating for pod in workload(plant, "small").pods] == [False, True]
    assert plant.advance_to(310.0)[0].held == 2
    assert plant.advance_to(330.0)[-1].held == 1


def test_overload_builds_a_queue_that_new_replicas_work_off(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), steady(26.0, 400))
    overloaded = plant.advance_to(300.0)[-1]
    waiting = plant.meters()["small"].waiting
    assert waiting > 1000
    assert overloaded.ttft_ms > 60_000

    ask(plant, "small", 6)
    relieved = plant.advance_to(600.0)[-1]

    assert plant.meters()["small"].waiting < 1
    assert relieved.ttft_ms < 500


def test_without_any_replica_requests_wait(make_plant: PlantMaker, small: PlantServer) -> None:
    plant = make_plant((replace(small, replicas=0),), steady(2.0, 20))

    sample = plant.advance_to(50.0)[-1]

    assert sample.completed == 0
    assert np.isinf(sample.ttft_ms)
    assert plant.meters()["small"].waiting == pytest.approx(100.0)


def test_a_write_that_rests_on_an_older_version_is_refused(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    plant = make_plant((small,), steady(2.0, 20))
    seen = workload(plant, "small").ref
    plant.scale(seen, 3)

    with pytest.raises(ConflictError):
        plant.scale(seen, 1)
    assert workload(plant, "small").replicas == 3


def test_an_unknown_workload_is_not_found(make_plant: PlantMaker, small: PlantServer) -> None:
    plant = make_plant((small,), steady(2.0, 20))

    with pytest.raises(NotFoundError):
        plant.scale(WorkloadRef("simulation", "other"), 1)


def test_a_fleet_that_does_not_fit_its_cards_is_refused(
    make_plant: PlantMaker, big: PlantServer
) -> None:
    with pytest.raises(ValueError, match="10 cards of H100, there are 8"):
        make_plant((replace(big, replicas=5),), steady(1.0, 2))


def test_a_server_without_performance_data_is_refused(
    make_plant: PlantMaker, small: PlantServer
) -> None:
    with pytest.raises(ValueError, match="no performance data"):
        make_plant((replace(small, accelerator="2xH100"),), steady(1.0, 2))


def test_traffic_of_another_width_is_refused(make_plant: PlantMaker, small: PlantServer) -> None:
    with pytest.raises(ValueError, match="1 servers, traffic for 2"):
        make_plant((small,), steady(1.0, 2, servers=2))
