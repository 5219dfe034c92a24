"""The production cycle on one server whose load steps or flaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from controlloop.api.replicas import FloatArray
from controlloop.api.report import CycleReport
from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    PerfParameters,
    Server,
    ServiceClass,
    System,
    Target,
)
from controlloop.clock import ManualClock
from controlloop.composition.loop import demo_engine
from controlloop.optimizer.needs import replicas_needed
from controlloop.queueing.models import queue_models
from controlloop.settings.file import read_settings
from controlloop.simulator.actuator import PlantActuator
from controlloop.simulator.fluid import FluidPlant
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.sensor import PlantSensor
from controlloop.simulator.simulation import Change, FixedSource, simulate
from controlloop.simulator.traffic import Traffic

pytestmark = pytest.mark.slow

STEP_S, PERIOD_S = 10.0, 60.0
STEPS_A_MINUTE = round(PERIOD_S / STEP_S)
CATALOG = System(
    accelerators=(Accelerator("A100", "A100", cost_per_hour=100.0),),
    capacity={"A100": 64},
    perf=(PerfParameters("m", "A100", (11.0, 0.2, 60.0, 0.005), 64, 256),),
    classes=(ServiceClass("Premium", 1, (Target("m", 25.0, 1000.0),)),),
)
# Nothing would ever grow by these, were it not for panic.
NEVER_UP = {
    "stability.up_window_s": 3600.0,
    "stability.up_tolerance": 1.0,
    "stability.up_step_replicas": 1,
    "stability.step_period_s": 3600.0,
    "stability.up_cooldown_s": 3600.0,
}


def rate_of(replicas: float, headroom: float = 0.1) -> float:
    """The arrival rate that needs so many replicas, with the headroom of the forecast."""
    load = Load(1.0, 512.0, 256.0)
    server = Server("m", "m", "Premium", current=Allocation("A100", 1, 64, load=load))
    system = System(
        CATALOG.accelerators, CATALOG.capacity, CATALOG.perf, CATALOG.classes, (server,)
    )
    return replicas / replicas_needed(system)["m"] / (1.0 + headroom)


@dataclass(frozen=True)
class Run:
    reports: tuple[CycleReport, ...]
    changes: tuple[Change, ...]

    @property
    def replicas(self) -> list[int]:
        """What was decided, cycle by cycle."""
        decided = [each.decisions for each in self.reports]
        return [each.decisions[0].desired.replicas for each in decided if each is not None]


def run(replicas_of_minute: FloatArray, start: int, settings: Mapping[str, object]) -> Run:
    """A load that needs so many replicas each minute, under a loop with these settings."""
    rates = np.repeat([rate_of(each) for each in replicas_of_minute], STEPS_A_MINUTE)
    column = rates.reshape(-1, 1)
    server = PlantServer("m", "m", "Premium", "A100", 64, start, 512.0, 256.0, startup_s=45.0)
    # The load as it is: what is shown here is not what a forecast smooths.
    told = {"forecaster.name": "last-value"} | dict(settings)
    engine = demo_engine(read_settings("", "", told))
    traffic = Traffic(STEP_S, column, column * STEP_S)
    plant, clock = FluidPlant(CATALOG, (server,), traffic, queue_models().create), ManualClock()
    loop = engine.build_loop(
        FixedSource(CATALOG), PlantSensor(plant, (server,)), PlantActuator(plant), clock
    )
    reports: list[CycleReport] = []
    course = simulate(
        plant,
        loop,
        clock,
        len(replicas_of_minute),
        PERIOD_S,
        lambda one: reports.append(one.report),
    )
    assert course.failures == ()
    return Run(tuple(reports), course.changes)


def test_a_load_that_flaps_across_a_boundary_each_minute_makes_two_changes_at_most() -> None:
    minutes = np.arange(180)
    load = np.where(minutes % 2, 4.2, 3.8)
    steady = run(load, 4, {})
    plain = run(load, 4, {"stability.name": "bounds"})
    assert len(steady.changes) <= 2
    assert len(plain.changes) > 20


def test_a_slower_flap_is_noticed_and_slowed_down() -> None:
    minutes = np.arange(180)
    load = np.where(minutes // 7 % 2, 4.4, 3.2)
    eager = {"stability.down_tolerance": 0.0, "stability.down_window_s": 300.0}
    plain = run(load, 4, {**eager, "stability.flap_reversals": 0})
    steady = run(load, 4, {**eager, "stability.flap_reversals": 2})
    assert len(steady.changes) <= len(plain.changes) / 2


@pytest.mark.parametrize("settings", [{}, NEVER_UP])
def test_five_times_the_load_is_answered_in_the_next_cycle(settings: Mapping[str, object]) -> None:
    load = np.concatenate([np.full(20, 1.9), np.full(10, 9.5)])
    course = run(load, 2, settings)
    assert course.replicas[:20] == [2] * 20
    assert course.replicas[20] >= 10


def test_without_panic_the_windows_do_hold_it_back() -> None:
    load = np.concatenate([np.full(20, 1.9), np.full(10, 9.5)])
    calm = {f"stability.panic_{each}": 0 for each in ("ratio", "waiting", "utilization")}
    assert run(load, 2, {**NEVER_UP, **calm}).replicas[20] == 2


def test_a_wave_is_followed_with_few_changes() -> None:
    minutes = np.arange(6 * 60)
    wave = 6.0 + 4.0 * np.sin(2 * np.pi * minutes / minutes.size)
    noise = np.random.default_rng(3).normal(1.0, 0.05, minutes.size)
    course = run(wave * noise, 6, {})
    assert len(course.changes) / 6 <= 4
    assert min(course.replicas) <= 3
    assert np.mean(np.array(course.replicas) >= wave) > 0.98
