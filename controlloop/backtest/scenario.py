"""What policies are judged on: a fleet, the requests that it gets, and the time that counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.api.system import System
from controlloop.backtest.capability import Capability
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.workloads.requests import Requests


class Part(StrEnum):
    """What load is for: thresholds are chosen on the one and judged on the other."""

    TRAIN = "train"
    JUDGE = "judge"


class PlantKind(StrEnum):
    """What stands in for the cluster.

    EVENTS simulates every request and iteration of every engine; FLUID is queueing models in
    motion, without chance within a server, and faster.
    """

    EVENTS = "events"
    FLUID = "fluid"


@dataclass(frozen=True, slots=True)
class Case:
    """Which load, on which plant: all that a scenario is built from.

    `trace` names a file; where it is empty, `workload` names a generator. `startup_s` None is
    each server's own. `hours` count; a trace has at most half its length of them.
    `trace_digest` is the SHA-256 that the file must have where it is read; "" is any.
    """

    workload: str
    trace: str = ""
    startup_s: float | None = None
    seed: int = 1
    hours: float = 1.0
    part: Part = Part.JUDGE
    plant: PlantKind = PlantKind.EVENTS
    trace_digest: str = ""

    @property
    def trace_name(self) -> str:
        """The trace's file without its folder; "" without a trace."""
        return self.trace.replace("\\", "/").rpartition("/")[2]

    @property
    def training(self) -> Case:
        """The load that thresholds for this case are chosen on."""
        return replace(self, part=Part.TRAIN)


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """A fleet and its load, equal for every policy.

    Attributes:
        case: what it was built from.
        catalog: prices, objectives, capacity and parameters as control knows them.
        truth: the same with the parameters that the engines truly have.
        servers: as they stand at time 0, in order of name.
        requests: what arrives at each, from time 0 on.
        capability: what one replica of each can do.
        from_s: what arrives before is warm-up, which nobody is judged on.
        to_s: the end.

    """

    case: Case
    catalog: System
    truth: System
    servers: tuple[PlantServer, ...]
    requests: tuple[Requests, ...]
    capability: tuple[Capability, ...]
    from_s: float
    to_s: float

    @property
    def hours(self) -> float:
        """The time that counts."""
        return (self.to_s - self.from_s) / 3600.0

    def arrivals(self, step_s: float) -> FloatArray:
        """Requests that arrive in each step: (steps, servers)."""
        edges = np.arange(math.ceil(self.to_s / step_s - 1e-9) + 1) * step_s
        counts = [np.histogram(one.times_s, edges)[0] for one in self.requests]
        return np.stack(counts, axis=1).astype(np.float64)

    def rates_rps(self, step_s: float) -> FloatArray:
        """The same as requests/s."""
        return np.asarray(self.arrivals(step_s) / step_s, dtype=np.float64)
