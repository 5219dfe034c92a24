"""Names what policies are judged on: which load, which plant; light, for commands and sweeps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


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
