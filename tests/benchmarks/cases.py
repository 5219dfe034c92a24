"""The cases of `make bench`; run as a program it measures one of them and prints JSON.

What only some cases need is imported there, so that the memory of the others is their own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
from measuring import repeat

from controlloop.api.observation import (
    Observation,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.readings import Present
from controlloop.api.system import Accelerator, PerfParameters, System
from controlloop.optimizer import optimize
from controlloop.optimizer.generation import Size, generate
from controlloop.queueing.models import replicas, size, targets

ACCELERATORS = 27
PAIRS = 567
SCARCITY = 1.05
"""The cheapest allocations together want a little more than there is: solvers must choose."""


def pairs(count: int) -> Callable[[], str]:
    """Size `count` distinct pairs of batches as the published sample has them: 31 on average."""
    draw = np.random.default_rng(7)
    asked = replicas(
        max_batch=draw.integers(4, 61, count),
        input_tokens=draw.integers(64, 2049, count).astype(float),
        output_tokens=draw.integers(64, 1025, count).astype(float),
        parameters=np.column_stack(
            [
                draw.uniform(5.0, 40.0, count),
                draw.uniform(0.05, 0.5, count),
                draw.uniform(5.0, 50.0, count),
                draw.uniform(0.001, 0.05, count),
            ]
        ),
    )
    floor = asked.parameters[:, 0] + asked.parameters[:, 1]
    wanted = targets(itl_ms=floor * draw.uniform(1.2, 3.0, count), ttft_ms=np.full(count, 2000.0))

    def work() -> str:
        done = size(asked, wanted)
        return f"{int((done.rate_rps > 0).sum())} sized"

    return work


def system_of(servers: int, solver: str, seed: int = 1) -> System:
    """A system of `servers` x 27 accelerators, a little short of cards, for `solver`."""
    made = generate(Size(servers, ACCELERATORS, min(servers, 40), seed, SCARCITY))
    return replace(made, options=replace(made.options, unlimited=False, solver=solver))


def solving(solver: str, servers: int) -> Callable[[], str]:
    """Optimize a system from its specs to its answer."""
    system = system_of(servers, solver)

    def work() -> str:
        solution = optimize(system)
        gap = "" if solution.gap is None else f", gap {solution.gap:.3%}"
        return f"{len(solution.unserved)} short{gap}, {solution.status}"

    return work


def forecasting(servers: int) -> Callable[[], str]:
    """One more minute of a fleet's load, after an hour of it: every predictor, every server."""
    from controlloop.forecast.forecasters import guarded
    from controlloop.forecast.options import ForecastOptions

    draw = np.random.default_rng(5)
    forecaster = guarded("ensemble", ForecastOptions())
    minute = 0

    def work() -> str:
        nonlocal minute
        minute += 1
        rates = draw.poisson(300.0, servers) / 60.0
        seen = tuple(
            ServerObservation(
                Workload(WorkloadRef("n", f"s{at}"), f"s{at}", "m", "Free", "A100", 32, 1),
                Signals(Present(rate), input_tokens=Present(200.0), output_tokens=Present(100.0)),
            )
            for at, rate in enumerate(rates.tolist())
        )
        found = forecaster.forecast(minute * 60.0, Observation(minute * 60.0, seen))
        mixed = sum(one.predictor == "ensemble" for one in found.predictions.values())
        return f"{mixed} of {servers} by the ensemble"

    for _ in range(60):
        work()
    return work


def simulating(replicas_: int) -> Callable[[], str]:
    """500 s of one server's busy replicas, every iteration: drawn, routed, served, forgotten."""
    from controlloop.simulator.events import EventPlant
    from controlloop.simulator.plant import PlantServer
    from controlloop.simulator.workloads.generated import Generated, TokenLengths
    from controlloop.simulator.workloads.rates import Steady

    perf = PerfParameters("m", "A100", (10.0, 0.02, 0.0002), 64, 640, 1, "iteration-time")
    system = System(
        accelerators=(Accelerator("A100", "A100"),), capacity={"A100": replicas_}, perf=(perf,)
    )
    # 14 sequences decode in each on average; none is ever idle for long.
    lengths = TokenLengths(512.0, 128.0, 0.3, 0.3)
    workload = Generated(Steady(8.0 * replicas_), lengths)
    server = PlantServer("s", "m", "Free", "A100", 64, replicas_, 512.0, 128.0)

    def work() -> str:
        plant = EventPlant(system, (server,), (workload,))
        done = 0
        for minute in range(1, 11):
            plant.advance_to(50.0 * minute)
            done += len(plant.forget()["s"])
        return f"{done} requests"

    work()
    return work


def cycling(servers: int) -> Callable[[], str]:
    """The daemon's steady cycle over servers of 5 pods: lists in memory, a Prometheus beside it."""
    from daemon_cycle import daemon_cycle

    run = daemon_cycle(servers)

    def work() -> str:
        report = run()
        if not report.succeeded or report.observation is None:
            raise RuntimeError(f"the cycle failed: {report.failure}")
        observing_s = next(each.seconds for each in report.stages if each.stage == "observe")
        return f"{len(report.observation.servers)} servers, observed in {observing_s:.1f} s"

    work()
    return work


def case_of(name: str) -> Callable[[], str]:
    """The work that `name` ("pairs:567", "greedy:1000", "simulate:50") stands for."""
    kind, _, count = name.partition(":")
    makers = {
        "cycle": cycling,
        "forecast": forecasting,
        "pairs": pairs,
        "simulate": simulating,
    }
    return makers[kind](int(count)) if kind in makers else solving(kind, int(count))


def main() -> None:
    """Measure the case named on the command line."""
    name = sys.argv[1]
    work = case_of(name)
    times = (
        20
        if name.startswith(("pairs", "forecast"))
        else (1 if int(name.rpartition(":")[2]) >= 3000 else 3)
    )
    sys.stdout.write(json.dumps(asdict(repeat(work, times))))


if __name__ == "__main__":
    main()
