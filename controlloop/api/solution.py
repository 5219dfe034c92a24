"""What a solver answers: allocations with a status, never bare numbers that may be wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from controlloop.api.system import Allocation


class SolveStatus(StrEnum):
    """How far a solver got. OPTIMAL only where it is proven."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    FAILED = "failed"


class UnservedReason(StrEnum):
    """Why a server got no allocation, or less than its load needs."""

    UNKNOWN_CLASS = "unknown-class"
    UNKNOWN_MODEL = "unknown-model"
    NO_TARGET = "no-target"
    NO_PERF_DATA = "no-perf-data"
    NO_PERCENTILES = "no-percentiles"
    TARGET_UNREACHABLE = "target-unreachable"
    INVALID_DATA = "invalid-data"
    NOT_CONVERGED = "not-converged"
    NO_CAPACITY = "no-capacity"
    AT_MAXIMUM = "at-maximum"
    RECLAIMED = "reclaimed"


@dataclass(frozen=True, slots=True)
class Unserved:
    """A server whose load is not served whole, with the reason in words.

    `takers` are the servers that it gives cards to.
    """

    server: str
    reason: UnservedReason
    detail: str
    takers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Solution:
    """Allocations by server name.

    A server in `unserved` and not in `allocations` got nothing: it keeps what it has. One in
    both got fewer replicas than its load needs (best effort), or gave some up (reclaimed).
    `objective` is the total value; `bound` and `gap` (relative) are None where the solver
    gives none. `solver` is the one that answered, `asked` the one that was asked ("" where nobody
    kept note). `message` is what a user must know of how the answer was found, such as that
    another solver stood in, or that the time was up; "" where the solver did all that was asked
    of it. `power_w` is the predicted power by server; one whose accelerator has no power
    data, or for which nothing was predicted, is absent.
    """

    allocations: Mapping[str, Allocation]
    unserved: tuple[Unserved, ...]
    status: SolveStatus
    solver: str
    objective: float
    bound: float | None = None
    gap: float | None = None
    seconds: float = 0.0
    message: str = ""
    asked: str = ""
    power_w: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def total_power_w(self) -> float:
        """Predicted power of the servers for which it is known."""
        return math.fsum(self.power_w.values())
