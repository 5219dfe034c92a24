"""What a change of accelerator or batch needs to know of a Deployment, and what it notes on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What of a Deployment's pod template may change with its accelerator.

    Attributes:
        container: name of the engine's container.
        fields: values as JSON text, by slot: "image", "runtimeClassName", "annotation/<key>",
            "nodeSelector/<key>", "toleration/<the toleration as JSON>", "limits/<resource>",
            "requests/<resource>", "env/<name>" (the whole entry).
        command: of the engine's container.
        args: of the engine's container.

    """

    container: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RolloutShape:
    """How a Deployment rolls out; the first two as JSON text (a number or a share)."""

    max_surge: str = '"25%"'
    max_unavailable: str = '"25%"'
    min_ready_s: int = 0
    progress_deadline_s: int = 600


class SwitchState(StrEnum):
    """How far a switch is.

    STARTING: new pods start beside the old ones. LEAVING: the new ones serve, the old ones go.
    UNDOING: the new ones did not start in time, the old template is back.
    """

    STARTING = "starting"
    LEAVING = "leaving"
    UNDOING = "undoing"


@dataclass(frozen=True, slots=True)
class Place:
    """What a server runs on: `replicas` of it."""

    accelerator: str
    max_batch: int
    replicas: int

    def __str__(self) -> str:
        return f"{self.accelerator}/{self.max_batch}"


@dataclass(frozen=True, slots=True)
class SwitchRecord:
    """A switch under way, as noted on the Deployment; times in seconds since the epoch.

    `template` and `shape` are those of before, to go back to; `displaced` likewise.
    """

    state: SwitchState
    before: Place
    after: Place
    began_at: float
    deadline_at: float
    template: PodTemplate
    shape: RolloutShape
    displaced: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SwitchFailure:
    """The last switches failed `times` in a row: none is tried before `until`."""

    to: Place
    times: int
    until: float
    detail: str


@dataclass(frozen=True, slots=True)
class Rollable:
    """A Deployment as far as a switch is concerned.

    Attributes:
        template: of its pods.
        shape: how it rolls out.
        rolling: whether its strategy is RollingUpdate.
        seen: whether its controller knows what its spec asks for.
        paused: whether its controller is told to do nothing.
        settled: whether every pod is made from its template, and it is not paused.
        switch: the one under way.
        failure: that of the last switch.
        displaced: values of slots that the template in force replaced, to be put back.
        digest: of its whole pod template, equal for equal templates.
        clash: why a sibling's pods could not be told from its own; "" where they can.

    """

    template: PodTemplate
    shape: RolloutShape = RolloutShape()
    rolling: bool = True
    seen: bool = True
    paused: bool = False
    settled: bool = True
    switch: SwitchRecord | None = None
    failure: SwitchFailure | None = None
    displaced: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    clash: str = ""
