"""Other kinds than Deployments, of which the replicas alone are set: by the scale subresource.

Which pods are an object's replicas is what its scale subresource says; it is asked for each
object once a generation. Of a group of pods that is one replica (a leader and its workers) it
selects the leader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Workload, WorkloadRef
from controlloop.clock import Deadline
from controlloop.errors import ForbiddenError, InvalidObjectError, NotFoundError
from controlloop.kube.connection import Connection, Object
from controlloop.kube.description import describe
from controlloop.kube.parsing import other_scaler, parse_pod
from controlloop.kube.resources import Resource
from controlloop.kube.selectors import selects


@dataclass(frozen=True, slots=True)
class Selector:
    """Which pods are the replicas, as a query; `problem` says why that is not known."""

    text: str = ""
    problem: str = ""

    def of(self, pods: Iterable[Object], namespace: str) -> list[Object]:
        """Those of `pods` that it selects."""
        if not self.text:
            return []
        return [
            pod
            for pod in pods
            if pod["metadata"]["namespace"] == namespace
            and selects(self.text, pod["metadata"].get("labels") or {})
        ]


class ScaleTargets:
    """Knows the selectors of scaled objects.

    Args:
        connection: where to ask for a scale subresource.
        kinds: what may be scaled besides Deployments.

    """

    def __init__(self, connection: Connection, kinds: Sequence[Resource] = ()) -> None:
        self._connection = connection
        self._known: dict[str, tuple[int, Selector]] = {}
        self.kinds = {each.kind: each for each in kinds}

    def selector(self, thing: Object, kind: Resource, deadline: Deadline) -> Selector:
        """Which pods are its replicas."""
        metadata = thing["metadata"]
        uid, generation = metadata["uid"], metadata.get("generation") or 0
        known = self._known.get(uid)
        if known is not None and known[0] == generation:
            return known[1]
        found = self._asked(kind, metadata["namespace"], metadata["name"], deadline)
        if not found.problem:
            self._known[uid] = generation, found
        return found

    def forget_others(self, things: Iterable[Object]) -> None:
        """Forget every object but these."""
        left = {each["metadata"]["uid"] for each in things}
        self._known = {uid: each for uid, each in self._known.items() if uid in left}

    def _asked(self, kind: Resource, namespace: str, name: str, deadline: Deadline) -> Selector:
        what = f"read the scale of {kind.named(namespace, name)}"
        path = f"{kind.path(namespace, name)}/scale"
        try:
            scale = self._connection.get(path, what, deadline.remaining_s())
            text = (scale.get("status") or {}).get("selector") or ""
            selects(text, {})
        except (ForbiddenError, NotFoundError, InvalidObjectError) as error:
            return Selector(problem=f"its scale subresource: {error}")
        if not text:
            return Selector(problem="its scale subresource does not say which pods it has")
        return Selector(text)


def parse_scaled(
    thing: Object, kind: Resource, selector: Selector, pods: Iterable[Object], scaler: str | None
) -> Workload:
    """A managed object of another kind as it stands; its accelerator and batch are fixed.

    Args:
        thing: the object; its replicas are in `spec.replicas`.
        kind: its kind.
        selector: which pods are its replicas.
        pods: those pods.
        scaler: the other object that scales it, in words; None where there is none.

    """
    metadata = thing["metadata"]
    ref = WorkloadRef(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        kind=kind.kind,
    )
    said = describe(
        metadata.get("labels") or {},
        metadata.get("annotations") or {},
        f"{ref.namespace}/{ref.name}",
    )
    found = tuple(sorted((parse_pod(pod) for pod in pods), key=lambda pod: pod.name))
    wanted = (thing.get("spec") or {}).get("replicas")
    wanted = 1 if wanted is None else int(wanted)
    return Workload(
        ref=ref,
        server=said.server,
        model=said.model,
        service_class=said.service_class,
        accelerator=said.accelerator,
        max_batch=said.max_batch,
        replicas=wanted,
        ready_replicas=sum(pod.ready and not pod.terminating for pod in found),
        pods=found,
        min_replicas=said.min_replicas,
        max_replicas=said.max_replicas,
        keep_accelerator=True,
        keep_batch=True,
        static_load=said.static_load,
        labels=said.values,
        holds=(
            *said.holds,
            *_unknown(selector),
            *_rollout(thing, wanted),
            *other_scaler(scaler),
        ),
    )


def _unknown(selector: Selector) -> Iterator[Hold]:
    if selector.problem:
        yield Hold(HoldReason.LABELS_INVALID, Forbids.CHANGE, selector.problem)


def _rollout(thing: Object, wanted: int) -> Iterator[Hold]:
    """What says that its pods are not yet what its spec asks for, as far as its kind says so."""
    status: Mapping[str, Any] = thing.get("status") or {}
    generation = thing["metadata"].get("generation") or 0
    made = status.get("replicas") or 0
    updated = status.get("updatedReplicas")
    detail = ""
    if status.get("observedGeneration", generation) < generation:
        detail = f"its controller has seen generation {status['observedGeneration']}"
        detail += f" of {generation}"
    elif status.get("updateRevision") != status.get("currentRevision"):
        detail = f"{updated or 0} of {wanted} pods are made from its template"
    elif made < wanted or (updated is not None and updated < wanted):
        detail = f"{made if updated is None else updated} of {wanted} pods are made"
    if detail:
        yield Hold(HoldReason.ROLLOUT, Forbids.DECREASE, detail)
