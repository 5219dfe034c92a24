"""The event plant: replicas' lives, failures, equal courses from equal seeds, Plant's contract."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from controlloop.api.system import System
from controlloop.errors import ConflictError, NotFoundError, UnknownPluginError
from controlloop.simulator.event_server import EngineOptions, Startup
from controlloop.simulator.events import EventPlant
from controlloop.simulator.faults import NodeLoss, ReplicaDeath
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.sensor import PlantSensor
from controlloop.simulator.workloads.generated import Generated, TokenLengths
from controlloop.simulator.workloads.rates import Steady, Steps
from controlloop.simulator.workloads.requests import Workload

Maker = Callable[..., EventPlant]
LENGTHS = TokenLengths(512, 256, 0.3, 0.3)
QUIET = Generated(Steady(0.0), LENGTHS)


def steady(rate_rps: float) -> Workload:
    return Generated(Steady(rate_rps), LENGTHS)


def scale(plant: EventPlant, name: str, replicas: int) -> None:
    ref = next(one.ref for one in plant.workloads() if one.server == name)
    plant.scale(ref, replicas)


def test_all_that_arrives_is_answered(catalog: System, small: PlantServer) -> None:
    plant = EventPlant(catalog, (small,), (steady(4.0),))
    samples = plant.advance_to(600.0) + plant.finish(600.0)
    arrived = sum(float(sample.arrived[0]) for sample in samples)
    assert arrived == sum(float(sample.completed[0]) for sample in samples) > 2000
    assert samples[-1].in_system[0] == 0
    done = plant.requests()["small"]
    assert len(done) == arrived
    assert np.all(np.isfinite(done.ttft_ms))
    assert not np.any(done.lost)
    assert 11.0 < np.mean(done.itl_ms) < 25.0


def test_equal_seeds_give_equal_courses_and_others_do_not(
    catalog: System, small: PlantServer, big: PlantServer
) -> None:
    def course(seed: int) -> bytes:
        plant = EventPlant(catalog, (small, big), (steady(4.0), steady(2.0)), seed=seed)
        plant.advance_to(120.0)
        scale(plant, "small", 4)
        plant.advance_to(300.0)
        return b"".join(
            one.ttft_ms.tobytes() + one.done_s.tobytes() for one in plant.requests().values()
        )

    assert course(1) == course(1)
    assert course(1) != course(2)


def test_what_control_does_changes_no_request(catalog: System, small: PlantServer) -> None:
    one, other = (EventPlant(catalog, (small,), (steady(6.0),), seed=3) for _ in range(2))
    scale(other, "small", 5)
    one.advance_to(300.0)
    other.advance_to(100.0)
    other.advance_to(300.0)
    first, second = one.requests()["small"], other.requests()["small"]
    assert np.array_equal(first.arrival_s, second.arrival_s)
    assert np.array_equal(first.output_tokens, second.output_tokens)
    assert not np.array_equal(first.done_s, second.done_s)


def test_a_new_replica_serves_when_it_has_started(catalog: System, small: PlantServer) -> None:
    plant = EventPlant(catalog, (small,), (QUIET,))
    scale(plant, "small", 3)
    assert [int(sample.ready[0]) for sample in plant.advance_to(80.0)] == [2] * 5 + [3] * 3
    assert int(plant.advance_to(90.0)[-1].held[0]) == 3


def test_startup_times_vary_by_their_pair_and_seed(catalog: System, small: PlantServer) -> None:
    options = EngineOptions(startup={("small", "A100"): Startup(100.0, 0.5)})

    def ready_at(seed: int) -> list[float]:
        plant = EventPlant(catalog, (small,), (QUIET,), seed, options, step_s=1.0)
        scale(plant, "small", 8)
        ready = [int(sample.ready[0]) for sample in plant.advance_to(1000.0)]
        return [float(ready.index(count)) for count in range(3, 9) if count in ready]

    times = ready_at(5)
    assert times == ready_at(5)
    assert times != ready_at(6)
    assert times[-1] > 1.3 * times[0]


def test_a_replica_taken_away_finishes_what_it_has(catalog: System, small: PlantServer) -> None:
    burst = Generated(Steps(((0.0, 8.0), (60.0, 0.0))), LENGTHS)
    plant = EventPlant(catalog, (small,), (burst,), step_s=1.0)
    plant.advance_to(60.0)
    scale(plant, "small", 1)
    sample = plant.advance_to(61.0)[-1]
    assert (int(sample.ready[0]), int(sample.held[0]), int(sample.cards[0])) == (1, 2, 2)
    assert any(pod.terminating for pod in plant.workloads()[0].pods)
    last = plant.advance_to(200.0)[-1]
    assert (int(last.held[0]), last.in_system[0]) == (1, 0)
    assert not np.any(plant.requests()["small"].lost)


def test_requests_of_a_dead_replica_are_lost_and_another_one_starts(
    catalog: System, small: PlantServer
) -> None:
    death = ReplicaDeath(65.0, "small")
    plant = EventPlant(catalog, (small,), (steady(8.0),), faults=(death,))
    samples = plant.advance_to(300.0) + plant.finish(300.0)
    ready = [int(sample.ready[0]) for sample in samples]
    # 60 s from the end of the step in which it died.
    assert ready[:14] == [2] * 6 + [1] * 6 + [2, 2]
    results = plant.requests()["small"]
    assert 5 < np.sum(results.lost) < 60
    assert np.all(np.isinf(results.itl_ms[results.lost]))
    assert np.all(results.arrival_s[results.lost] <= 65.0)
    meter = plant.meters()["small"]
    assert meter.arrived == meter.completed + np.sum(results.lost)
    assert (meter.running, meter.waiting) == (0, 0)


def test_without_a_replica_requests_wait_for_the_first(catalog: System, small: PlantServer) -> None:
    death = ReplicaDeath(1.0, "small", replicas=2)
    plant = EventPlant(catalog, (small,), (steady(2.0),), faults=(death,))
    waiting = plant.advance_to(60.0)[-1]
    assert int(waiting.ready[0]) == 0
    assert waiting.in_system[0] > 100
    assert np.isinf(waiting.ttft_ms[0])
    plant.advance_to(120.0)
    results = plant.requests()["small"]
    came = (results.arrival_s > 1.0) & (results.arrival_s < 60.0)
    assert np.min(results.ttft_ms[came] / 1000 + results.arrival_s[came]) >= 70.0
    assert plant.meters()["small"].waiting == 0


def test_a_lost_node_takes_its_cards_until_it_is_back(catalog: System, big: PlantServer) -> None:
    loss = NodeLoss(15.0, "H100", 6, back=205.0)
    plant = EventPlant(catalog, (big,), (QUIET,), faults=(loss,))
    plant.advance_to(20.0)
    assert plant.capacity["H100"] == 2
    scale(plant, "big", 3)
    # Both replicas went with the node; one of the three fits on the cards that are left.
    assert int(plant.advance_to(180.0)[-1].held[0]) == 1
    assert int(plant.advance_to(300.0)[-1].held[0]) == 3
    assert plant.capacity["H100"] == 8


def test_the_cache_limit_preempts_and_everything_is_answered_still(
    catalog: System, small: PlantServer
) -> None:
    tight = EngineOptions(noise=0.0, kv_tokens={("small", "A100"): 8_000})
    plants = [
        EventPlant(catalog, (small,), (steady(8.0),), options=options)
        for options in (EngineOptions(noise=0.0), tight)
    ]
    free, limited = (_course(plant) for plant in plants)
    assert plants[0].meters()["small"].completed == plants[1].meters()["small"].completed
    assert limited > 1.5 * free


def test_the_sensor_sees_the_tokens_that_came(catalog: System, small: PlantServer) -> None:
    plant = EventPlant(catalog, (small,), (steady(4.0),))
    sensor = PlantSensor(plant, (small,))
    plant.advance_to(600.0)
    from controlloop.api.readings import Present
    from controlloop.clock import Deadline, ManualClock

    signals = sensor.observe(600.0, Deadline(ManualClock(), 60.0)).servers[0].signals
    assert isinstance(signals.input_tokens, Present)
    assert isinstance(signals.itl_ms, Present)
    assert signals.input_tokens.value == pytest.approx(512, rel=0.03)
    assert signals.input_tokens.value != 512
    # Over tokens, not requests: as a histogram of inter-token latency counts.
    assert 11.0 < signals.itl_ms.value < 25.0


def test_what_is_forgotten_is_told_once_and_changes_nothing(
    catalog: System, small: PlantServer
) -> None:
    one, other = (EventPlant(catalog, (small,), (steady(8.0),), seed=3) for _ in range(2))
    parts = []
    for time in range(50, 301, 50):
        one.advance_to(float(time))
        other.advance_to(float(time))
        parts.append(other.forget()["small"])
    parts.append(other.requests()["small"])
    told = np.sort(np.concatenate([part.done_s for part in parts]))
    assert np.array_equal(told, np.sort(one.requests()["small"].done_s))
    assert len(parts[-1]) < 100


def test_only_the_version_that_was_read_can_be_scaled(catalog: System, small: PlantServer) -> None:
    plant = EventPlant(catalog, (small,), (QUIET,))
    old = plant.workloads()[0].ref
    plant.scale(old, 3)
    with pytest.raises(ConflictError):
        plant.scale(old, 4)
    with pytest.raises(NotFoundError):
        plant.scale(type(old)("elsewhere", old.name, old.uid, old.resource_version), 4)


def test_a_fleet_that_cannot_be_is_refused(catalog: System, small: PlantServer) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match="the fleet starts on 9 cards of A100"):
        EventPlant(catalog, (replace(small, replicas=9),), (QUIET,))
    perf = tuple(replace(one, queue_model="mine:Own") for one in catalog.perf)
    with pytest.raises(UnknownPluginError, match="no engine for queue model 'mine:Own'"):
        EventPlant(replace(catalog, perf=perf), (small,), (QUIET,))


def _course(plant: EventPlant) -> float:
    plant.advance_to(120.0)
    plant.finish(2000.0)
    return float(np.mean(plant.requests()["small"].done_s - plant.requests()["small"].arrival_s))
