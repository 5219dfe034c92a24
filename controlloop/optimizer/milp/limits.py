"""When a search stops, and what it solves with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controlloop.clock import Clock, Deadline
from controlloop.optimizer.milp.backends import Backend


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop.

    Attributes:
        backend: solves integer programs.
        clock: tells the time.
        deadline: when the time is up.
        gap: relative gap that is good enough; 0 asks for proof.

    """

    backend: Backend
    clock: Clock
    deadline: Deadline
    gap: float

    @classmethod
    def of(cls, backend: Backend, clock: Clock, seconds: float, gap: float) -> Limits:
        """Limits that begin now."""
        return cls(backend, clock, Deadline(clock, seconds), gap)

    def using(self, backend: Backend) -> Limits:
        """The same, with another solver behind."""
        return replace(self, backend=backend)

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 once the time is up."""
        return self.deadline.remaining_s()

    def in_time(self) -> bool:
        """Whether any time is left."""
        return self.remaining_s > 0

    def part(self, share: float) -> Limits:
        """The same with a share of the time that is left, and no gap allowed."""
        return replace(self, deadline=Deadline(self.clock, self.remaining_s * share), gap=0.0)
