"""One policy on one scenario: the plant is driven, and what happened is kept as arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.backtest.controllers import Controller, Move, Outlook
from controlloop.backtest.scenario import Scenario
from controlloop.simulator.plant import Plant, StepSample


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Requests and their latencies in ms, every array (n,).

    `weight` is how many requests an entry stands for; latencies are infinite for what was never
    served.
    """

    server: IntArray
    weight: FloatArray
    ttft_ms: FloatArray
    itl_ms: FloatArray
    time: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What happened: arrays over the plant's steps are (steps, servers), `times` their ends.

    `waiting` requests have no place in a batch; `held` replicas hold cards, `ready` ones serve.
    """

    scenario: Scenario
    step_s: float
    times: FloatArray
    arrived: FloatArray
    waiting: FloatArray
    ready: IntArray
    held: IntArray
    served: Served
    moves: tuple[Move, ...]
    outlooks: tuple[Outlook, ...]
    failures: tuple[str, ...]


# Builds the plant of a scenario, and says afterwards what each request got.
PlantBuilder = Callable[[Scenario], "JudgedPlant"]


@dataclass(frozen=True, slots=True)
class JudgedPlant:
    """A plant, the length of its steps, and what its requests got in the end."""

    plant: Plant
    step_s: float
    served: Callable[[Steps], Served]


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The samples of a run, stacked: (steps, servers), `times` (steps,)."""

    times: FloatArray
    arrived: FloatArray
    in_system: FloatArray
    ttft_ms: FloatArray
    itl_ms: FloatArray
    ready: IntArray
    held: IntArray


def drive(judged: JudgedPlant, controller: Controller, scenario: Scenario) -> Run:
    """Let `controller` act on the plant once a period until the scenario ends."""
    plant = judged.plant
    samples: list[StepSample] = []
    moves: list[Move] = []
    outlooks: list[Outlook] = []
    failures: list[str] = []
    acts = int(np.floor(scenario.to_s / controller.period_s - 1e-9)) + 1
    for number in range(acts):
        now = number * controller.period_s
        samples.extend(plant.advance_to(now))
        act = controller.act(now)
        moves.extend(act.moves)
        outlooks.extend(act.outlooks)
        if act.failure:
            failures.append(act.failure)
    samples.extend(plant.advance_to(scenario.to_s))
    steps = Steps(
        times=np.array([one.time for one in samples]),
        arrived=np.stack([one.arrived for one in samples]),
        in_system=np.stack([one.in_system for one in samples]),
        ttft_ms=np.stack([one.ttft_ms for one in samples]),
        itl_ms=np.stack([one.itl_ms for one in samples]),
        ready=np.stack([one.ready for one in samples]),
        held=np.stack([one.held for one in samples]),
    )
    slots = steps.ready * np.array([one.max_batch for one in scenario.servers])
    return Run(
        scenario=scenario,
        step_s=judged.step_s,
        times=steps.times,
        arrived=steps.arrived,
        waiting=np.maximum(steps.in_system - slots, 0.0),
        ready=steps.ready,
        held=steps.held,
        served=judged.served(steps),
        moves=tuple(moves),
        outlooks=tuple(outlooks),
        failures=tuple(failures),
    )
