"""A condition on an object that others own: what the loop finds of it, for who looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlloop.api.observation import WorkloadRef

MANAGED: Final = "Managed"
FALSE: Final = "False"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition in the form that Kubernetes gives them; it is written as JSON."""

    type: str
    status: str
    reason: str
    message: str
    lastTransitionTime: str  # noqa: N815 - the field's name in Kubernetes


@dataclass(frozen=True, slots=True)
class ConditionChange:
    """What the annotation of a workload is to say; `condition` None removes it."""

    ref: WorkloadRef
    server: str
    condition: Condition | None
