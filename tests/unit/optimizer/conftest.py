"""A laboratory for the optimizer: a queue model whose numbers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from controlloop.api.candidates import Candidates
from controlloop.api.decision import Problem, ServerConstraint
from controlloop.api.replicas import (
    Analysis,
    FloatArray,
    Replicas,
    Sizing,
    SizingStatus,
    Targets,
)
from controlloop.api.solution import Solution
from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    OptimizerOptions,
    PerfParameters,
    Server,
    ServiceClass,
    System,
    Target,
)
from controlloop.errors import UnknownPluginError
from controlloop.optimizer import optimize
from controlloop.optimizer.candidates import build_candidates
from controlloop.optimizer.fleet import DemandRule
from controlloop.optimizer.planner import Planner
from controlloop.optimizer.solvers import solvers
from controlloop.protocols import QueueModel


@dataclass(frozen=True)
class FixedRate:
    """Serves up to `rate_rps` at an ITL of `latency_ms`; TTFT is that plus 100 ms x utilization."""

    name: str = "fixed-rate"
    parameter_names: tuple[str, ...] = ("rate_rps", "latency_ms")

    def rate_range_rps(self, replicas: Replicas) -> tuple[FloatArray, FloatArray]:
        rate = replicas.parameters[:, 0]
        return rate * 0.001, rate

    def analyze(self, replicas: Replicas, rate_rps: FloatArray) -> Analysis:
        rate, latency = replicas.parameters.T
        load = np.minimum(rate_rps / np.where(rate > 0, rate, np.nan), 1.0)
        nothing = np.zeros(len(rate))
        return Analysis(
            throughput_rps=np.minimum(rate_rps, rate),
            response_ms=latency,
            wait_ms=100.0 * load,
            in_service=load,
            waiting=nothing,
            prefill_ms=latency,
            itl_ms=latency,
            utilization=load,
            max_rate_rps=rate,
        )

    def size(self, replicas: Replicas, targets: Targets) -> Sizing:
        rate, latency = replicas.parameters.T
        status = np.full(len(rate), SizingStatus.OK, dtype=np.int64)
        status[(targets.itl_ms > 0) & (targets.itl_ms < latency)] = SizingStatus.ITL_UNREACHABLE
        status[(targets.ttft_ms > 0) & (targets.ttft_ms < latency)] = SizingStatus.TTFT_UNREACHABLE
        status[latency == 13] = SizingStatus.NOT_CONVERGED
        status[~(rate > 0) | ~(latency > 0)] = SizingStatus.INVALID
        sized = np.where(status == SizingStatus.OK, rate, 0.0)
        sized = np.where(targets.tps > 0, 0.9 * sized, sized)
        at = self.analyze(replicas, sized)
        return Sizing(status, sized, sized, sized, sized, latency, latency, at)


@dataclass(frozen=True)
class Lab:
    """Builds small systems and solves them."""

    queue: FixedRate

    def accelerator(
        self, name: str, cost: float = 1.0, *, kind: str = "", cards: int = 1
    ) -> Accelerator:
        return Accelerator(name, kind or name, cards, cost)

    def perf(
        self,
        model: str,
        accelerator: str,
        rate_rps: float = 1.0,
        latency_ms: float = 10.0,
        **more: Any,
    ) -> PerfParameters:
        given: dict[str, Any] = {
            "max_batch": 8,
            "at_tokens": 100,
            "queue_model": "fixed-rate",
        } | more
        names = given.pop("parameter_names", FixedRate.parameter_names)
        return PerfParameters(
            model=model,
            accelerator=accelerator,
            parameters=given.pop("parameters", (rate_rps, latency_ms)),
            parameter_names=names,
            **given,
        )

    def server(
        self,
        name: str,
        rate_rps: float = 1.0,
        *,
        model: str = "m",
        priority: int = 1,
        runs: tuple[str, int] = ("", 0),
        cost: float = 0.0,
        output_tokens: float = 100.0,
        **more: Any,
    ) -> Server:
        accelerator, replicas = runs
        load = Load(rate_rps, 50.0, output_tokens)
        current = Allocation(accelerator, replicas, 8 if replicas else 0, cost, load=load)
        return Server(name, model, f"class{priority}", current=current, **more)

    def classes(self, *models: str, **targets: float) -> tuple[ServiceClass, ...]:
        """Classes class1, class2, class3 of those priorities, with equal targets."""
        return tuple(
            ServiceClass(f"class{at}", at, tuple(Target(model, **targets) for model in models))
            for at in (1, 2, 3)
        )

    def system(
        self,
        accelerators: Sequence[Accelerator],
        perf: Sequence[PerfParameters],
        servers: Sequence[Server],
        capacity: Mapping[str, int] | None = None,
        classes: Sequence[ServiceClass] | None = None,
        **options: Any,
    ) -> System:
        models = dict.fromkeys(each.model for each in perf)
        return System(
            accelerators=tuple(accelerators),
            capacity={each.type: 1000 for each in accelerators} if capacity is None else capacity,
            perf=tuple(perf),
            classes=tuple(classes or self.classes(*models, itl_ms=100.0)),
            servers=tuple(servers),
            options=OptimizerOptions(**options),
        )

    def model_of(self, name: str) -> QueueModel:
        if name != self.queue.name:
            raise UnknownPluginError(f'unknown queue model "{name}"')
        return self.queue

    def candidates(
        self,
        system: System,
        rule: DemandRule = DemandRule.DOCUMENTED,
        **constraints: ServerConstraint,
    ) -> Candidates:
        return build_candidates(system, self.model_of, rule=rule, constraints=constraints)

    def solve(self, system: System) -> Solution:
        solver = solvers().create(system.options.solver_name)
        return solver.solve(self.candidates(system), system.capacity, system.options)

    def plain(self, system: System) -> Solution:
        """As users do: with whatever stands in where the solver fails."""
        return optimize(system, model_of=self.model_of)

    def plan(self, system: System, **constraints: ServerConstraint) -> Solution:
        return Planner(self.model_of).solve(Problem(system, constraints, {}))


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab(FixedRate())
