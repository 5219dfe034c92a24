"""How decisions are made real."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from controlloop.actuator.switching import SwitchOptions
from controlloop.actuator.templates import Templates


class Mode(StrEnum):
    """What becomes of a plan."""

    APPLY = "apply"
    DRY_RUN = "dry-run"
    SERVER_DRY_RUN = "server-dry-run"


@dataclass(frozen=True, slots=True)
class ActuatorOptions:
    """How a plan is sent.

    Attributes:
        mode: `apply` sends it; `dry-run` sends nothing; `server-dry-run` has the API server
            check every patch and store none.
        concurrency: writes under way at once.
        write_timeout_s: time-out of one write, s.
        read_timeout_s: time-out of reading a workload again after a conflict, s.
        lease_margin_s: by how much the lease's remainder must exceed a write's time-out, s.
        events: write an event on the workload for each change and each refusal.
        conditions: say on a Deployment that another controller scales it.
        templates: what runs a server on an accelerator; without them replicas alone change.
        switch: how a change of accelerator or batch is made.

    """

    mode: Mode = Mode.APPLY
    concurrency: int = 8
    write_timeout_s: float = 5.0
    read_timeout_s: float = 5.0
    lease_margin_s: float = 1.0
    events: bool = True
    conditions: bool = True
    templates: Templates = field(default_factory=dict)
    switch: SwitchOptions = field(default_factory=SwitchOptions)
