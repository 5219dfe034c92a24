"""From objects of the API, as JSON, to workloads and pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.labels import ALLOCATION
from controlloop.api.observation import Pod, Workload, WorkloadRef
from controlloop.kube.authors import allocation_author, replicas_author
from controlloop.kube.description import describe
from controlloop.kube.kinship import kinship_of
from controlloop.kube.pod_template import read_rollable

Object = Mapping[str, Any]


def parse_workload(
    deployment: Object, pods: Iterable[Object], scaler: str | None, manager: str = ""
) -> Workload:
    """A managed Deployment as it stands.

    Args:
        deployment: the Deployment.
        pods: all pods of all its ReplicaSets.
        scaler: the other object that scales it, in words; None where there is none.
        manager: our own field manager.

    """
    metadata, spec = deployment["metadata"], deployment["spec"]
    ref = WorkloadRef(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
    )
    said = describe(
        metadata.get("labels") or {},
        metadata.get("annotations") or {},
        f"{ref.namespace}/{ref.name}",
    )
    rollout = _rollout(deployment)
    rollable, noted = read_rollable(deployment, seen=_is_seen(deployment), settled=not rollout)
    return Workload(
        ref=ref,
        server=said.server,
        model=said.model,
        service_class=said.service_class,
        accelerator=said.accelerator,
        max_batch=said.max_batch,
        replicas=_wanted(spec),
        ready_replicas=_status(deployment).get("readyReplicas") or 0,
        pods=tuple(sorted((parse_pod(pod) for pod in pods), key=lambda pod: pod.name)),
        min_replicas=said.min_replicas,
        max_replicas=said.max_replicas,
        keep_accelerator=said.keep_accelerator,
        keep_batch=said.keep_batch,
        static_load=said.static_load,
        labels=said.values,
        holds=said.holds + rollout + other_scaler(scaler) + noted,
        rollable=rollable,
        replicas_by=replicas_author(metadata, manager),
        allocation_by=allocation_author(metadata, manager),
        kinship=kinship_of(metadata, manager),
    )


def parse_pod(pod: Object) -> Pod:
    """One pod; a restart of any of its containers counts as one of the pod."""
    metadata, status = pod["metadata"], _status(pod)
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    readiness = conditions.get("Ready", {})
    ready = readiness.get("status") == "True"
    placing = conditions.get("PodScheduled", {})
    unplaced = placing.get("status") == "False" and placing.get("reason") == "Unschedulable"
    containers = status.get("containerStatuses") or ()
    return Pod(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        phase=status.get("phase") or "Pending",
        ready=ready,
        scheduled=bool((pod.get("spec") or {}).get("nodeName")),
        restarts=sum(container.get("restartCount") or 0 for container in containers),
        started_at=_seconds(status.get("startTime")),
        ready_since=_seconds(readiness.get("lastTransitionTime")) if ready else None,
        restarted_at=_last_restart(containers),
        terminating=is_going(pod),
        place=(metadata.get("annotations") or {}).get(ALLOCATION, ""),
        unplaced_since=_seconds(placing.get("lastTransitionTime")) if unplaced else None,
        unplaced_why=str(placing.get("message") or "") if unplaced else "",
        unready_since=None if ready else _seconds(readiness.get("lastTransitionTime")),
    )


def is_going(thing: Object) -> bool:
    """Whether an object is being deleted."""
    return bool(thing["metadata"].get("deletionTimestamp"))


def controller_uid(thing: Object, kind: str) -> str | None:
    """The uid of the object of `kind` that controls `thing`, None where there is none."""
    for owner in thing["metadata"].get("ownerReferences") or ():
        if owner.get("controller") and owner.get("kind") == kind:
            return str(owner["uid"])
    return None


def pods_by_deployment(
    replica_sets: Iterable[Object], pods: Iterable[Object]
) -> dict[str, list[Object]]:
    """Pods by the uid of the Deployment that owns them through any of its ReplicaSets.

    During a rollout pods of several ReplicaSets carry load at once.
    """
    deployment_of = {
        replica_set["metadata"]["uid"]: controller_uid(replica_set, "Deployment")
        for replica_set in replica_sets
    }
    owned: dict[str, list[Object]] = {}
    for pod in pods:
        replica_set_uid = controller_uid(pod, "ReplicaSet")
        deployment = deployment_of.get(replica_set_uid) if replica_set_uid else None
        if deployment is not None:
            owned.setdefault(deployment, []).append(pod)
    return owned


def _is_seen(deployment: Object) -> bool:
    generation = deployment["metadata"].get("generation") or 0
    return (_status(deployment).get("observedGeneration") or 0) >= generation


def _rollout(deployment: Object) -> tuple[Hold, ...]:
    """The pods are not yet, or not all, what the spec asks for: growth is safe, less is not.

    Pods that exist and are not ready are no rollout: one that can never be placed would
    otherwise keep a server from shrinking for ever.
    """
    spec, status = deployment["spec"], _status(deployment)
    wanted = _wanted(spec)
    updated = status.get("updatedReplicas") or 0
    old = (status.get("replicas") or 0) - updated
    if spec.get("paused"):
        detail = "spec.paused is set"
    elif not _is_seen(deployment):
        generation, seen = (
            deployment["metadata"].get("generation"),
            status.get("observedGeneration"),
        )
        detail = f"its controller has seen generation {seen or 0} of {generation}"
    elif updated < wanted:
        detail = f"{updated} of {wanted} pods are made from its template"
    elif old > 0:
        detail = f"{old} pods of an older template still exist"
    else:
        return ()
    reason, complaint = _complaint(status)
    said = f"{detail}: {complaint}" if complaint else detail
    return (Hold(reason, Forbids.DECREASE, said),)


def _complaint(status: Object) -> tuple[HoldReason, str]:
    """What the Deployment controller complains of, such as an exceeded quota; "" is nothing."""
    for condition in status.get("conditions") or ():
        words = str(condition.get("message") or condition.get("reason"))
        if condition["type"] == "ReplicaFailure" and condition.get("status") == "True":
            return HoldReason.PODS_REFUSED, words
        if condition.get("reason") == "ProgressDeadlineExceeded":
            return HoldReason.PODS_NOT_READY, words
    return HoldReason.ROLLOUT, ""


def other_scaler(scaler: str | None) -> tuple[Hold, ...]:
    """What another object that scales it forbids."""
    if scaler is None:
        return ()
    return (Hold(HoldReason.OTHER_SCALER, Forbids.CHANGE, f"{scaler} scales it"),)


def _last_restart(containers: Iterable[Object]) -> float | None:
    """When a restarted container began anew; where that is not said, when it ended before."""
    moments = []
    for container in containers:
        if container.get("restartCount"):
            running = (container.get("state") or {}).get("running") or {}
            ended = (container.get("lastState") or {}).get("terminated") or {}
            moments.append(_seconds(running.get("startedAt")) or _seconds(ended.get("finishedAt")))
    return max((moment for moment in moments if moment is not None), default=None)


def _wanted(spec: Object) -> int:
    replicas = spec.get("replicas")
    return 1 if replicas is None else int(replicas)


def _status(thing: Object) -> Object:
    status: Object = thing.get("status") or {}
    return status


def _seconds(timestamp: str | None) -> float | None:
    """Seconds since the epoch from RFC 3339."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else None
