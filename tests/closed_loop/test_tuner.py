"""The production cycle with the estimator that learns, on engines slower than configured."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from controlloop.api.estimates import Trust
from controlloop.api.system import Accelerator, PerfParameters, ServiceClass, System, Target
from controlloop.clock import ManualClock
from controlloop.composition.loop import demo_engine
from controlloop.queueing.models import queue_models
from controlloop.settings.learning import EstimatorSettings, ForecasterSettings
from controlloop.settings.stability import StabilitySettings
from controlloop.settings.tree import OptimizerSettings, Settings
from controlloop.simulator.actuator import PlantActuator
from controlloop.simulator.fluid import FluidPlant
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.sensor import PlantSensor
from controlloop.simulator.simulation import CycleRecord, FixedSource, simulate
from controlloop.simulator.traffic import Traffic

pytestmark = pytest.mark.slow

STEP_S, PERIOD_S, CYCLES = 10.0, 60.0, 60
SLOWER = 1.4

CONFIGURED = System(
    accelerators=(
        Accelerator("A100", "A100", cost_per_hour=100.0),
        Accelerator("2xH100", "H100", multiplicity=2, cost_per_hour=500.0),
    ),
    capacity={"A100": 32, "H100": 32},
    perf=(
        PerfParameters("small", "A100", (11.0, 0.2, 60.0, 0.005), 64, 256),
        PerfParameters("big", "2xH100", (14.0, 0.12, 48.0, 0.0033), 64, 256),
    ),
    classes=(
        ServiceClass("Premium", 1, (Target("small", 28.0, 1000.0), Target("big", 32.0, 2000.0))),
    ),
)
TRUTH = replace(
    CONFIGURED,
    perf=tuple(
        replace(one, parameters=tuple(SLOWER * value for value in one.parameters))
        for one in CONFIGURED.perf
    ),
)
SERVERS = (
    PlantServer("big", "big", "Premium", "2xH100", 64, 6, 512.0, 256.0, startup_s=30.0),
    PlantServer("small", "small", "Premium", "A100", 64, 6, 512.0, 256.0, startup_s=30.0),
)


def of_this_cycle_alone(estimator: EstimatorSettings) -> Settings:
    """Windows and forecasts remember what was needed before anything was learned: without them.

    Cycles are a minute apart here: what waits is drained over two of them.
    """
    return Settings(
        estimator=estimator,
        stability=StabilitySettings(name="bounds", down_window_s=300.0),
        forecaster=ForecasterSettings(name="last-value"),
        optimizer=OptimizerSettings(drain_time_s=2 * PERIOD_S),
    )


def run(catalog: System, settings: Settings) -> list[CycleRecord]:
    steps = int(CYCLES * PERIOD_S / STEP_S)
    swing = 1 + 0.4 * np.sin(2 * math.pi * np.arange(steps) * STEP_S / 3600)
    counts = STEP_S * swing[:, np.newaxis] * np.array([16.0, 12.0])
    plant = FluidPlant(
        TRUTH, SERVERS, Traffic(STEP_S, counts / STEP_S, counts), queue_models().create
    )
    clock, records = ManualClock(), list[CycleRecord]()
    loop = demo_engine(settings).build_loop(
        FixedSource(catalog), PlantSensor(plant, SERVERS), PlantActuator(plant), clock
    )
    simulate(plant, loop, clock, CYCLES, PERIOD_S, records.append)
    assert all(record.report.succeeded for record in records)
    return records


def replicas(records: list[CycleRecord]) -> list[list[int]]:
    return [
        [one.desired.replicas for one in record.report.decisions.decisions]
        for record in records
        if record.report.decisions is not None
    ]


@pytest.fixture(scope="module")
def knowing() -> list[list[int]]:
    return replicas(run(TRUTH, of_this_cycle_alone(EstimatorSettings())))


def test_after_ten_cycles_it_decides_as_if_it_had_been_told_the_truth(
    knowing: list[list[int]],
) -> None:
    records = run(CONFIGURED, of_this_cycle_alone(EstimatorSettings(name="ekf", mode="apply")))
    found = replicas(records)
    unknowing = replicas(run(CONFIGURED, of_this_cycle_alone(EstimatorSettings())))
    # What waits keeps a server that is configured too fast from shrinking, so some agree by chance.
    differ = [unknowing[cycle] != knowing[cycle] for cycle in range(10, CYCLES)]
    assert sum(differ) / len(differ) > 0.75
    same = [found[cycle] == knowing[cycle] for cycle in range(10, CYCLES)]
    assert sum(same) / len(same) > 0.9
    assert found[-1] == knowing[-1]
    estimate = records[-1].report.estimate
    assert estimate is not None
    assert all(pair.trust is Trust.TRUSTED for pair in estimate.pairs)
    for planned, truth in zip(estimate.perf, TRUTH.perf, strict=True):
        assert planned.parameters[0] == pytest.approx(truth.parameters[0], rel=0.05)


def test_observing_decides_as_configured_and_reports_what_is_so() -> None:
    records = run(CONFIGURED, Settings(estimator=EstimatorSettings(name="ekf")))
    assert replicas(records) == replicas(run(CONFIGURED, Settings()))
    estimate = records[-1].report.estimate
    assert estimate is not None
    assert estimate.perf == CONFIGURED.perf
    learned = {pair.model: pair.parameters[0] for pair in estimate.pairs}
    assert learned["small"] == pytest.approx(SLOWER * 11.0, rel=0.1)
