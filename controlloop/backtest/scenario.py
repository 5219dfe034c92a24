"""What policies are judged on: a fleet, the requests that it gets, and the time that counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.api.system import System
from controlloop.backtest.capability import Capability
from controlloop.backtest.case import Case
from controlloop.simulator.plant import PlantServer
from controlloop.simulator.workloads.requests import Requests


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
