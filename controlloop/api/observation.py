"""What the collector saw: the workloads as they are, and what their engines report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from controlloop.api.holds import Hold
from controlloop.api.interventions import Author, Intervention
from controlloop.api.node_cards import NodeCards
from controlloop.api.readings import Missing, Reading
from controlloop.api.switching import Rollable
from controlloop.api.system import Load


@dataclass(frozen=True, slots=True)
class WorkloadRef:
    """One object of the cluster, at the version that was read."""

    namespace: str
    name: str
    uid: str = ""
    resource_version: str = ""
    kind: str = "Deployment"

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


FIRST_UNREADY_S: Final = 30.0
"""A pod becomes unready with its start; one that does so later was ready before."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a workload. Times are seconds since the epoch, None where unknown.

    `ready_since` is when it last became ready: how long it can have carried its share.
    `unready_since` is since when it is not.
    `unplaced_since` is since when the scheduler finds no node for it, `unplaced_why` its words.
    `place` says accelerator and batch of the template that it is made from, "" where it does not.
    """

    name: str
    uid: str = ""
    phase: str = "Running"
    ready: bool = True
    scheduled: bool = True
    restarts: int = 0
    started_at: float | None = None
    ready_since: float | None = None
    restarted_at: float | None = None
    terminating: bool = False
    place: str = ""
    unplaced_since: float | None = None
    unplaced_why: str = ""
    unready_since: float | None = None

    @property
    def never_ready(self) -> bool:
        """Whether it is still to become ready for the first time, as far as it is known."""
        if self.ready or self.terminating:
            return False
        if self.started_at is None or self.unready_since is None:
            return True
        return self.unready_since - self.started_at <= FIRST_UNREADY_S

    @property
    def was_ready(self) -> bool:
        """Whether it was ready and is not any more, and is not on its way out."""
        return not (self.ready or self.terminating or self.never_ready)

    @property
    def carries_load(self) -> bool:
        """Whether requests may be in this pod: it is ready, or was and is on its way out."""
        return self.phase == "Running" and (self.ready or self.terminating)


@dataclass(frozen=True, slots=True)
class QuotaShare:
    """A quota on the cards of a workload: `used` of `hard`; each of its pods asks for `cards`."""

    quota: str
    resource: str
    cards: int
    hard: int
    used: int


@dataclass(frozen=True, slots=True)
class Kinship:
    """What makes a Deployment a sibling: the loop made it beside the one with uid `owner`.

    `source` is the digest of the owner's pod template that it was made from.
    """

    owner: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """A managed Deployment as it stands, in the words of its labels and annotations.

    `replicas` is what its spec asks for. `max_batch` 0: the labels do not say. `max_replicas`
    None: no upper bound of its own. `static_load`: the `.load.*` labels, used only where no
    metric source is configured. `holds`: what its own description forbids (bad labels, a
    rollout, a pause, another scaler). `rollable`: what a change of its pods rests on, None where
    only its replicas can change. `replicas_by`, `allocation_by`: who set replicas, accelerator
    and batch last, None where that is not known. `quotas`: those on its cards. `kinship`: whose
    sibling it is, None where it is none.
    """

    ref: WorkloadRef
    server: str
    model: str
    service_class: str
    accelerator: str
    max_batch: int
    replicas: int
    ready_replicas: int = 0
    pods: tuple[Pod, ...] = ()
    min_replicas: int | None = None
    max_replicas: int | None = None
    keep_accelerator: bool = False
    keep_batch: bool = False
    static_load: Load | None = None
    labels: Mapping[str, str] | None = None
    holds: tuple[Hold, ...] = ()
    rollable: Rollable | None = None
    replicas_by: Author | None = None
    allocation_by: Author | None = None
    quotas: tuple[QuotaShare, ...] = ()
    kinship: Kinship | None = None


NOT_COLLECTED: Final = Missing("not collected")


@dataclass(frozen=True, slots=True)
class Signals:
    """What the engines of one server report, over the pods that carry load.

    Rates in requests/s, times in ms, tokens as means of a request. `reported_pods` of
    `expected_pods` gave a reading.
    """

    arrival_rate_rps: Reading = NOT_COLLECTED
    completion_rate_rps: Reading = NOT_COLLECTED
    input_tokens: Reading = NOT_COLLECTED
    output_tokens: Reading = NOT_COLLECTED
    ttft_ms: Reading = NOT_COLLECTED
    itl_ms: Reading = NOT_COLLECTED
    running: Reading = NOT_COLLECTED
    waiting: Reading = NOT_COLLECTED
    reported_pods: int = 0
    expected_pods: int = 0


@dataclass(frozen=True, slots=True)
class ServerObservation:
    """One server: its workload, its signals, and what the evidence forbids in this cycle.

    `siblings` are Deployments that the loop made beside its workload, each on another accelerator,
    in order of name; the signals are those of all pods, the workload's and theirs.
    `intervention`: what somebody else set that is left alone for now. `unplaced`: pods for which no
    node was found for so long that they are not counted on.
    """

    workload: Workload
    signals: Signals = Signals()
    holds: tuple[Hold, ...] = ()
    intervention: Intervention | None = None
    unplaced: int = 0
    siblings: tuple[Workload, ...] = ()

    @property
    def name(self) -> str:
        """The server's name."""
        return self.workload.server

    @property
    def all_holds(self) -> tuple[Hold, ...]:
        """Holds of the workload's own description, of its siblings', then those of the evidence."""
        theirs = tuple(
            replace(hold, detail=f"{each.ref}: {hold.detail}")
            for each in self.siblings
            for hold in each.holds
        )
        return self.workload.holds + theirs + self.holds


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything seen in one cycle.

    `servers` are in order of name; `capacity` is None where it comes from the files.
    `metrics_problem` says why the metric source as a whole did not answer, None when it did.
    `notes` are remarks for the report, one line each. `nodes` is None where cards were not counted
    on nodes; `elastic` are types of which nodes are added where pods wait.
    """

    time: float
    servers: tuple[ServerObservation, ...] = ()
    capacity: Mapping[str, int] | None = None
    metrics_problem: str | None = None
    notes: tuple[str, ...] = ()
    nodes: tuple[NodeCards, ...] | None = None
    elastic: tuple[str, ...] = ()
