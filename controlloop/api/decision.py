"""What the stages after the collector hand on: estimate, forecast, problem, decision, plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controlloop.api.conditions import ConditionChange
from controlloop.api.estimates import PairEstimate
from controlloop.api.holds import Hold
from controlloop.api.observation import Observation, WorkloadRef
from controlloop.api.placing import Room
from controlloop.api.predictions import Prediction, SetAside
from controlloop.api.quotas import ServerQuota
from controlloop.api.solution import Solution
from controlloop.api.switching import PodTemplate, RolloutShape
from controlloop.api.system import Allocation, Load, PerfParameters, System


@dataclass(frozen=True, slots=True)
class Estimate:
    """Performance parameters to plan with, one per (model, accelerator) pair known.

    `pairs` says what was learned of each, where something is learned at all; `unknown` counts
    observations of pairs without performance data, by model and accelerator.
    """

    perf: tuple[PerfParameters, ...]
    notes: tuple[str, ...] = ()
    pairs: tuple[PairEstimate, ...] = ()
    unknown: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The load each server is sized for; a server whose load is unknown is absent.

    `predictions` say what is expected of each server, where anything is; `set_aside` says which
    predictors are not used, and why.
    """

    loads: Mapping[str, Load]
    notes: tuple[str, ...] = ()
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    set_aside: tuple[SetAside, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerConstraint:
    """Bounds on one server's allocation, given by the stages before the optimizer.

    `accelerator` and `max_batch`, where set, are the only ones allowed. `choices`, where set, are
    the accelerators to choose from, and for each the maximum batches, the preferred one first; 0
    leaves it to the data. `keep`: the server keeps its allocation exactly, and its cards are set
    aside before solving. `max_replicas` None is no upper bound.
    """

    min_replicas: int = 0
    max_replicas: int | None = None
    accelerator: str | None = None
    max_batch: int | None = None
    keep: bool = False
    choices: Mapping[str, tuple[int, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What the policy stage is told.

    Attributes:
        now: the cycle's time, seconds since the epoch.
        since: since when this process has been in control without a break.
        system: the system with its servers and the loads to size for.
        holds: by server, what its description, the evidence and the data forbid.
        observation: what was seen.

    """

    now: float
    since: float
    system: System
    holds: Mapping[str, tuple[Hold, ...]]
    observation: Observation


@dataclass(frozen=True, slots=True)
class Problem:
    """What the optimizer is asked: a system, bounds, and the holds that made them.

    `remarks`: by server, what its decision is to say besides. `room`: where new replicas can go,
    None where that is not known by node. `quotas`: by server, what bounds the cards it may ask for.
    """

    system: System
    constraints: Mapping[str, ServerConstraint]
    holds: Mapping[str, tuple[Hold, ...]]
    remarks: Mapping[str, str] = field(default_factory=dict)
    room: Room | None = None
    quotas: Mapping[str, ServerQuota] = field(default_factory=dict)


class Action(StrEnum):
    """What a decision does."""

    SCALE_UP = "scale-up"
    SCALE_DOWN = "scale-down"
    SWITCH = "switch"
    KEEP = "keep"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class SiblingGoal:
    """What becomes of a server's replicas on one accelerator beside its own, and why.

    `ref` is the Deployment that runs them, None where it is to be made. `gone`: nothing runs in
    it any more, and it is to be removed. `renewed`: its pods are to be made from the pod template
    that its primary has by now.
    """

    accelerator: str
    max_batch: int
    before: int
    replicas: int
    reason: str
    ref: WorkloadRef | None = None
    gone: bool = False
    renewed: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one server, and why.

    KEEP: what runs is right. HOLD: something else may be right, but `holds` forbid it.
    `makes_room_for`: the servers for whose growth, and for nothing else, it gives up replicas.
    `surge`: of a switch, how many new replicas may stand beside all of the old ones. `siblings`:
    what changes of its siblings; those that stay as they are, are not named.
    """

    server: str
    action: Action
    current: Allocation
    desired: Allocation
    reason: str
    holds: tuple[Hold, ...] = ()
    makes_room_for: tuple[str, ...] = ()
    surge: int = 0
    siblings: tuple[SiblingGoal, ...] = ()


@dataclass(frozen=True, slots=True)
class Decisions:
    """One decision a server, in order of name, and the solution they come from."""

    decisions: tuple[Decision, ...]
    solution: Solution
    notes: tuple[str, ...] = ()


class SwitchStep(StrEnum):
    """What a patch does of a switch: begins it, lets the old pods go, ends it, takes it back."""

    BEGIN = "begin"
    LEAVE = "leave"
    END = "end"
    UNDO = "undo"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class TemplateChange:
    """What a patch changes besides replicas and labels; None is unchanged.

    `annotations` with None are removed.
    """

    step: SwitchStep
    annotations: Mapping[str, str | None]
    before: PodTemplate
    after: PodTemplate | None = None
    shape: RolloutShape | None = None


@dataclass(frozen=True, slots=True)
class Birth:
    """What a sibling is made from, or made anew: its primary's pod template, moved elsewhere.

    `source` is the digest of the pod template that `before` was read from: of another one nothing
    is made.
    """

    before: PodTemplate
    after: PodTemplate
    annotations: Mapping[str, str]
    source: str


@dataclass(frozen=True, slots=True)
class Patch:
    """One change to one workload; labels that are not named stay, those with None are removed.

    `rests_on` is the workload's description (`Workload.labels`) on which the change was
    decided: where that reads otherwise by now, the change is decided anew, not sent again.
    It is sent only if the servers that it makes room for could be given what they grow by.
    `primary` is set where a sibling of it is made from `birth`, made anew from it where `ref` names
    one that is there, or, without a birth, removed.
    """

    ref: WorkloadRef
    server: str
    replicas_before: int
    replicas: int
    labels: Mapping[str, str | None]
    reason: str
    rests_on: Mapping[str, str] | None = None
    makes_room_for: tuple[str, ...] = ()
    change: TemplateChange | None = None
    birth: Birth | None = None
    primary: WorkloadRef | None = None

    @property
    def removes(self) -> bool:
        """Whether the workload itself goes."""
        return self.primary is not None and self.birth is None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change that was wanted and is not made, and why.

    `ref` where the workload is known; `kinds` are the types of the holds that forbid it, where
    those alone do.
    """

    server: str
    reason: str
    ref: WorkloadRef | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Every patch of this cycle in order of server name; empty when nothing changes.

    `conditions` are what workloads are to say of themselves from now on.
    """

    patches: tuple[Patch, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    conditions: tuple[ConditionChange, ...] = ()


class PatchStatus(StrEnum):
    """How one patch ended."""

    APPLIED = "applied"
    DRY_RUN = "dry-run"
    UNNECESSARY = "unnecessary"
    FAILED = "failed"
    NOT_SENT = "not-sent"


@dataclass(frozen=True, slots=True)
class PatchOutcome:
    """One patch and how it ended.

    `detail` says why where it was not applied, and `error` is the kind of error that ended it,
    such as ConflictError; "" where none did.
    """

    patch: Patch
    status: PatchStatus
    detail: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the plan ended, patch by patch in the plan's order.

    `maintenance` says why nothing was to be written, "" where writing was allowed.
    """

    patches: tuple[PatchOutcome, ...] = ()
    maintenance: str = ""
