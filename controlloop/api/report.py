"""The report of one cycle: what was seen, decided and done, and how long each stage took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from types import MappingProxyType

from controlloop.api.decision import Decisions, Estimate, Forecast, Outcome, Plan
from controlloop.api.explanation import Explanation
from controlloop.api.observation import Observation
from controlloop.api.shadow import ShadowScore


class Stage(StrEnum):
    """The stages of a cycle, in order."""

    DATA = "data"
    OBSERVE = "observe"
    ESTIMATE = "estimate"
    FORECAST = "forecast"
    SHAPE = "shape"
    OPTIMIZE = "optimize"
    STEADY = "steady"
    PLAN = "plan"
    APPLY = "apply"
    EXPLAIN = "explain"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long one stage took, in seconds."""

    stage: Stage
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """The stage that ended the cycle, and why; the fleet stays as it is."""

    stage: Stage
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class CycleReport:
    """One cycle. What comes after a failed stage is None; `capacity` is cards by type.

    `explanations` say why, by server, for changes that were decided; where nobody explains, or
    the time was up, they are fewer, and the notes say so. `maintenance` says why nothing was to be
    written, also of a cycle that did not come so far; "" where writing was allowed.
    """

    time: float
    stages: tuple[StageTime, ...]
    _: KW_ONLY
    failure: Failure | None = None
    observation: Observation | None = None
    estimate: Estimate | None = None
    forecast: Forecast | None = None
    decisions: Decisions | None = None
    plan: Plan | None = None
    outcome: Outcome | None = None
    notes: tuple[str, ...] = ()
    capacity: Mapping[str, int] | None = None
    explanations: Mapping[str, Explanation] = field(default_factory=lambda: MappingProxyType({}))
    shadow: ShadowScore | None = None
    maintenance: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether every stage ran to its end."""
        return self.failure is None
