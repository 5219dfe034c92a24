"""A plant's server as Kubernetes shows it, and what its replicas need."""

from __future__ import annotations

from controlloop.api import labels
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Workload, WorkloadRef
from controlloop.api.system import Accelerator, PerfParameters, System
from controlloop.errors import ConflictError, NotFoundError
from controlloop.simulator.plant import NAMESPACE, PlantServer
from controlloop.simulator.replicas import Phase, ReplicaSet


def workload_of(spec: PlantServer, replicas: ReplicaSet, resource_version: str) -> Workload:
    """The server as a Deployment that says of itself what it is."""
    return Workload(
        ref=WorkloadRef(NAMESPACE, spec.name, spec.name, resource_version),
        server=spec.name,
        model=spec.model,
        service_class=spec.service_class,
        accelerator=spec.accelerator,
        max_batch=spec.max_batch,
        replicas=replicas.wanted,
        ready_replicas=replicas.count(Phase.READY),
        pods=tuple(member.pod() for member in replicas.members),
        min_replicas=spec.min_replicas,
        max_replicas=spec.max_replicas,
        keep_accelerator=True,
        labels={
            labels.MANAGED: "true",
            labels.NAME: spec.name,
            labels.MODEL: spec.model,
            labels.CLASS: spec.service_class,
            labels.ACCELERATOR: spec.accelerator,
            labels.MAX_BATCH: str(spec.max_batch),
        },
        holds=_holds(replicas),
    )


def replica_set_of(spec: PlantServer, system: System, now: float) -> ReplicaSet:
    """The server's first replicas, ready.

    Raises:
        ValueError: the system has no such accelerator, or no performance data of the pair.

    """
    accelerator, perf = pair_of(spec, system)
    replicas = ReplicaSet(
        server=spec.name,
        card_type=accelerator.type,
        cards=perf.accelerators_per_replica * accelerator.multiplicity,
        startup_s=spec.startup_s,
        wanted=spec.replicas,
    )
    replicas.fill(now, ready=True)
    return replicas


def pair_of(spec: PlantServer, system: System) -> tuple[Accelerator, PerfParameters]:
    """The server's accelerator, and how its model performs there.

    Raises:
        ValueError: the system has no such accelerator, or no performance data of the pair.

    """
    accelerators = {one.name: one for one in system.accelerators}
    pairs = {(perf.model, perf.accelerator): perf for perf in system.perf}
    pair = (spec.model, spec.accelerator)
    if spec.accelerator not in accelerators or pair not in pairs:
        raise ValueError(f"server {spec.name}: no performance data of {pair}")
    return accelerators[spec.accelerator], pairs[pair]


def check_ref(ref: WorkloadRef, resource_version: str | None) -> None:
    """Whether a change at the version that `ref` was read at may be made.

    Raises:
        NotFoundError: there is no such workload: it has no `resource_version`.
        ConflictError: it is at another version.

    """
    if resource_version is None or ref.namespace != NAMESPACE:
        raise NotFoundError(f"{ref} does not exist in this plant")
    if ref.resource_version != resource_version:
        raise ConflictError(f"{ref} is at version {resource_version}, not {ref.resource_version}")


def _holds(replicas: ReplicaSet) -> tuple[Hold, ...]:
    coming = replicas.count(Phase.PENDING, Phase.STARTING)
    if not coming:
        return ()
    detail = f"{coming} of {replicas.wanted} replicas are not ready yet"
    return (Hold(HoldReason.ROLLOUT, Forbids.DECREASE, detail),)
