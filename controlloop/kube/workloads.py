"""Reads managed Deployments with their pods: a handful of lists, however many servers there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from controlloop.api.labels import MANAGED, MANAGED_SELECTOR
from controlloop.api.observation import Workload, WorkloadRef
from controlloop.clock import Deadline, SystemClock
from controlloop.errors import ForbiddenError, NotFoundError
from controlloop.kube.connection import JSON, METADATA_ONLY, Connection, Object, Query
from controlloop.kube.informers import Lister
from controlloop.kube.parsing import is_going, parse_workload, pods_by_deployment
from controlloop.kube.quotas import quota_shares
from controlloop.kube.remembering import Remembered
from controlloop.kube.resources import (
    AUTOSCALERS,
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    RESOURCE_QUOTAS,
    SCALED_OBJECTS,
    Resource,
)
from controlloop.kube.scale_targets import ScaleTargets, Selector, parse_scaled
from controlloop.kube.scalers import Target, scalers_by_target
from controlloop.kube.selectors import selector_text
from controlloop.kube.writes import FIELD_MANAGER

ALL_NAMESPACES = ("",)
UNFINISHED = ("fieldSelector", "status.phase!=Succeeded,status.phase!=Failed")
"""Finished pods carry no load and use no cards; evicted ones can be many."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The managed workloads, and remarks on what could not be looked at."""

    workloads: tuple[Workload, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What belongs to workloads: pods by uid of their Deployment, other scalers by target.

    Quotas are by namespace.
    """

    pods: Mapping[str, Sequence[Object]]
    all_pods: Sequence[Object]
    scalers: Mapping[Target, str]
    notes: tuple[str, ...]
    manager: str
    quotas: Mapping[str, Sequence[Object]]

    def workload(self, deployment: Object) -> Workload:
        pods = self.pods.get(deployment["metadata"]["uid"], ())
        parsed = parse_workload(deployment, pods, self._scaler(deployment), self.manager)
        return replace(parsed, quotas=quota_shares(deployment, self._quotas(deployment)))

    def basis(self, deployment: Object) -> tuple[object, ...]:
        """The versions of all that a workload is made of."""
        pods = self.pods.get(deployment["metadata"]["uid"], ())
        things = (deployment, *pods, *self._quotas(deployment))
        return self._scaler(deployment), *(_version(each) for each in things)

    def _quotas(self, deployment: Object) -> Sequence[Object]:
        return self.quotas.get(deployment["metadata"]["namespace"], ())

    def _scaler(self, deployment: Object) -> str | None:
        metadata = deployment["metadata"]
        return self.scalers.get((DEPLOYMENTS.kind, metadata["namespace"], metadata["name"]))

    def scaled(self, thing: Object, kind: Resource, selector: Selector) -> Workload:
        """A workload of another kind."""
        namespace, name = thing["metadata"]["namespace"], thing["metadata"]["name"]
        pods = selector.of(self.all_pods, namespace)
        return parse_scaled(
            thing, kind, selector, pods, self.scalers.get((kind.kind, namespace, name))
        )


def _version(thing: Object) -> tuple[str, str]:
    metadata = thing["metadata"]
    return metadata["uid"], metadata["resourceVersion"]


class WorkloadReader:
    """Reads the managed workloads of some namespaces.

    Args:
        connection: where to ask.
        namespaces: which to look at; none is all.
        lister: gives whole lists; None asks for them by the connection.
        manager: our own field manager.
        kinds: which to look at besides Deployments.

    """

    def __init__(
        self,
        connection: Connection,
        namespaces: Sequence[str] = (),
        lister: Lister | None = None,
        manager: str = FIELD_MANAGER,
        kinds: Sequence[Resource] = (),
    ) -> None:
        self._manager = manager
        self._targets = ScaleTargets(connection, kinds)
        self._connection = connection
        self._lister = lister or connection
        self._known: Remembered[Workload] = Remembered()
        # One that is named twice is still read once: its servers would have two of each name.
        self._namespaces = tuple(dict.fromkeys(namespaces)) or ALL_NAMESPACES

    def all(self, timeout_s: float) -> Listing:
        """Every managed workload that is not being deleted, in order of namespace and name.

        Deployments are read first: whatever changes in one while the rest is read, a patch
        that rests on the version read here is refused.
        """
        deadline = Deadline(SystemClock(), timeout_s)
        label = ("labelSelector", MANAGED_SELECTOR)
        managed = _list(self._lister, DEPLOYMENTS, self._namespaces, deadline, [label])
        deployments = [deployment for deployment in managed if not is_going(deployment)]
        scaled = self._scaled(deadline)
        if not (deployments or scaled):
            self._known.forget_others()
            return Listing((), ())
        surroundings = self._surroundings(self._lister, self._namespaces, deadline)
        workloads = [
            self._known.of(
                deployment["metadata"]["uid"],
                surroundings.basis(deployment),
                partial(surroundings.workload, deployment),
            )
            for deployment in deployments
        ]
        self._known.forget_others()
        workloads += [surroundings.scaled(*each) for each in scaled]
        workloads.sort(key=lambda workload: (workload.ref.namespace, workload.ref.name))
        return Listing(tuple(workloads), surroundings.notes)

    def one(self, ref: WorkloadRef, timeout_s: float) -> Workload:
        """The workload as it is now.

        Raises:
            NotFoundError: it is gone or going, was made anew, or is no longer managed.

        """
        deadline = Deadline(SystemClock(), timeout_s)
        found = self._read(ref, deadline)
        kind = self._targets.kinds.get(ref.kind)
        # Asked, not remembered: something just changed that nobody told of yet.
        if kind is not None:
            surroundings = self._surroundings(self._connection, (ref.namespace,), deadline)
            selector = self._targets.selector(found, kind, deadline)
            return surroundings.scaled(self._read(ref, deadline), kind, selector)
        query = [("labelSelector", selector_text(found["spec"]["selector"]))]
        surroundings = self._surroundings(self._connection, (ref.namespace,), deadline, query)
        # Last, so that little can change between this version and a patch that rests on it.
        return surroundings.workload(self._read(ref, deadline))

    def _read(self, ref: WorkloadRef, deadline: Deadline) -> Object:
        path = self._targets.kinds.get(ref.kind, DEPLOYMENTS).path(ref.namespace, ref.name)
        deployment = self._connection.get(path, f"read {ref}", deadline.remaining_s())
        metadata = deployment["metadata"]
        if is_going(deployment):
            raise NotFoundError(f"{ref} is being deleted")
        if ref.uid and metadata["uid"] != ref.uid:
            raise NotFoundError(f"{ref} was deleted and made anew since it was read")
        if (metadata.get("labels") or {}).get(MANAGED) != "true":
            raise NotFoundError(f"{ref} no longer has the label {MANAGED_SELECTOR}")
        return deployment

    def managed(self, timeout_s: float) -> list[Object]:
        """The managed Deployments, as the API has them."""
        deadline, label = Deadline(SystemClock(), timeout_s), ("labelSelector", MANAGED_SELECTOR)
        return _list(self._lister, DEPLOYMENTS, self._namespaces, deadline, [label])

    def managed_pods(
        self, managed: Sequence[Object], pods: Sequence[Object], timeout_s: float
    ) -> frozenset[str]:
        """The uids of those of `pods` that belong to managed workloads."""
        deadline = Deadline(SystemClock(), timeout_s)
        lister, everywhere = self._lister, self._namespaces
        owners = {thing["metadata"]["uid"] for thing in managed if not is_going(thing)}
        replica_sets = _list(lister, REPLICA_SETS, everywhere, deadline, (), METADATA_ONLY)
        owned = pods_by_deployment(replica_sets, pods)
        found = [pod for owner in owners for pod in owned.get(owner, ())]
        for thing, _, selector in self._scaled(deadline):
            found += selector.of(pods, thing["metadata"]["namespace"])
        return frozenset(pod["metadata"]["uid"] for pod in found)

    def _scaled(self, deadline: Deadline) -> list[tuple[Object, Resource, Selector]]:
        """Managed objects of other kinds that are not being deleted, with their selectors."""
        label = ("labelSelector", MANAGED_SELECTOR)
        found = [
            (thing, kind)
            for kind in self._targets.kinds.values()
            for thing in _if_known(self._lister, kind, self._namespaces, deadline, [label])
            if not is_going(thing)
        ]
        self._targets.forget_others(thing for thing, _ in found)
        return [
            (thing, kind, self._targets.selector(thing, kind, deadline)) for thing, kind in found
        ]

    def _surroundings(
        self, lister: Lister, namespaces: Sequence[str], deadline: Deadline, selector: Query = ()
    ) -> _Surroundings:
        """The pods, and who else scales. ReplicaSets last: they know all pods read before."""
        notes: list[str] = []
        other = "one that scales a server goes unnoticed"
        autoscalers = _if_allowed(lister, AUTOSCALERS, namespaces, deadline, notes, other)
        scaled_objects = _if_allowed(lister, SCALED_OBJECTS, namespaces, deadline, notes, other)
        beyond = "growth beyond one is decided, and its pods are refused"
        quotas = _if_allowed(lister, RESOURCE_QUOTAS, namespaces, deadline, notes, beyond)
        pods = _list(lister, PODS, namespaces, deadline, [*selector, UNFINISHED])
        replica_sets = _list(lister, REPLICA_SETS, namespaces, deadline, selector, METADATA_ONLY)
        return _Surroundings(
            pods_by_deployment(replica_sets, pods),
            pods,
            scalers_by_target(autoscalers, scaled_objects),
            tuple(notes),
            self._manager,
            _by_namespace(quotas),
        )


def _by_namespace(things: Sequence[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for thing in things:
        found.setdefault(thing["metadata"]["namespace"], []).append(thing)
    return found


def _if_known(
    lister: Lister, kind: Resource, namespaces: Sequence[str], deadline: Deadline, query: Query
) -> list[Object]:
    """A list of a kind that this API server need not have: then there is none of it."""
    try:
        return _list(lister, kind, namespaces, deadline, query)
    except NotFoundError:
        return []


def _if_allowed(
    lister: Lister,
    resource: Resource,
    namespaces: Sequence[str],
    deadline: Deadline,
    notes: list[str],
    without: str,
) -> list[Object]:
    """A list that one can do without: its API may be absent, or closed to this account."""
    try:
        return _list(lister, resource, namespaces, deadline)
    except NotFoundError:
        return []
    except ForbiddenError as error:
        notes.append(f"{error}; {without}")
        return []


def _list(
    lister: Lister,
    resource: Resource,
    namespaces: Sequence[str],
    deadline: Deadline,
    query: Query = (),
    accept: str = JSON,
) -> list[Object]:
    found: list[Object] = []
    for namespace in namespaces:
        found += lister.items(resource, deadline.remaining_s(), namespace, query, accept)
    return found
