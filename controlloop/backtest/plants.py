"""The plants that policies are judged on, built from a scenario."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.backtest.building import QueueModels
from controlloop.backtest.case import PlantKind
from controlloop.backtest.run import JudgedPlant, Served, Steps
from controlloop.backtest.scenario import Scenario
from controlloop.simulator.events import EventPlant
from controlloop.simulator.fluid import FluidPlant
from controlloop.simulator.traffic import Traffic
from controlloop.simulator.workloads.requests import Requests

FINISH_S: Final = 1800.0


def fluid_plant(scenario: Scenario, model_of: QueueModels, step_s: float) -> JudgedPlant:
    """Queueing models in motion: every request of a step gets its server's mean latency."""
    arrivals = scenario.arrivals(step_s)
    traffic = Traffic(step_s, arrivals / step_s, arrivals)
    plant = FluidPlant(scenario.truth, scenario.servers, traffic, model_of)
    return JudgedPlant(plant, step_s, _mean_latencies)


def _mean_latencies(steps: Steps) -> Served:
    count = steps.arrived.shape[1]
    serving = steps.ready.ravel() > 0
    return Served(
        server=np.tile(np.arange(count), len(steps.times)),
        weight=steps.arrived.ravel(),
        ttft_ms=np.where(serving, steps.ttft_ms.ravel(), math.inf),
        itl_ms=np.where(serving, steps.itl_ms.ravel(), math.inf),
        time=np.repeat(steps.times, count),
    )


def event_plant(scenario: Scenario, step_s: float) -> JudgedPlant:
    """Every iteration of every engine: each request has latencies of its own."""
    plant = EventPlant(
        scenario.truth,
        scenario.servers,
        [Replayed(one) for one in scenario.requests],
        seed=scenario.case.seed,
        step_s=step_s,
    )

    def served(_: Steps) -> Served:
        # Those still inside when time is over are finished, so that each is judged.
        plant.finish(FINISH_S)
        found = plant.requests()
        mine = [found[one.name] for one in scenario.servers]
        return Served(
            server=np.repeat(np.arange(len(mine)), [len(one) for one in mine]),
            weight=np.concatenate([np.ones(len(one)) for one in mine]),
            ttft_ms=np.concatenate([np.where(one.lost, math.inf, one.ttft_ms) for one in mine]),
            itl_ms=np.concatenate([np.where(one.lost, math.inf, one.itl_ms) for one in mine]),
            time=np.concatenate([one.arrival_s for one in mine]),
        )

    return JudgedPlant(plant, step_s, served)


@dataclass(frozen=True, slots=True)
class Replayed:
    """Requests that are known already, as a workload: chance has no part in it."""

    requests: Requests

    def open(self, seed: np.random.SeedSequence) -> ReplayedStream:  # noqa: ARG002 - the protocol's argument
        """From the start."""
        return ReplayedStream(self.requests)


@dataclass(slots=True)
class ReplayedStream:
    """The requests of `Replayed`, handed out once each."""

    requests: Requests
    _taken: int = 0

    def take(self, until_s: float) -> Requests:
        """Those before `until_s` that were not taken yet."""
        count = int(np.searchsorted(self.requests.times_s, until_s, side="left"))
        taken, self._taken = slice(self._taken, count), count
        return self.requests.take(taken)


def plant_of(scenario: Scenario, model_of: QueueModels, step_s: float) -> JudgedPlant:
    """The plant of a case; control acts at the ends of steps."""
    if scenario.case.plant is PlantKind.FLUID:
        return fluid_plant(scenario, model_of, step_s)
    return event_plant(scenario, step_s)
