"""What this account may do, asked of the API server itself; and what its clock says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from controlloop.errors import NotFoundError
from controlloop.kube.connection import Connection
from controlloop.kube.custom import RESOURCES
from controlloop.kube.resources import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    NODES,
    PODS,
    REPLICA_SETS,
    RESOURCE_QUOTAS,
    SCALED_OBJECTS,
    Resource,
)

REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that is to be allowed, and what becomes of the loop without it.

    `essential`: without it no cycle can run; otherwise something less is done.
    """

    resource: Resource
    verb: str
    without: str
    namespace: str = ""
    name: str = ""
    essential: bool = True
    subresource: str = ""

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else " in all namespaces"
        what = self.resource.plural + (f"/{self.subresource}" if self.subresource else "")
        return f"{self.verb} {what}{'' if self.resource is NODES else where}"


@dataclass(frozen=True, slots=True)
class Holder:
    """What a Lease says: who, renewed when (seconds since the epoch), for how long."""

    identity: str
    renewed_at: float | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class Needs:
    """What is going to be done.

    Attributes:
        namespaces: which are managed; none is all.
        writes: whether patches are sent.
        events: whether events are written.
        nodes: whether capacity is counted from nodes.
        lease: namespace and name of the Lease; None where none is taken.
        kept: "namespace/name" of each ConfigMap that state is read from.
        keeps: whether they are written too.
        kinds: what is managed besides Deployments.
        objects: namespace of the custom resources that are read; "" where none are.
        watches: whether lists are followed by watches.
        siblings: whether Deployments are made and removed.

    """

    namespaces: Sequence[str] = ()
    writes: bool = True
    events: bool = True
    nodes: bool = True
    lease: tuple[str, str] | None = None
    kept: Sequence[str] = ()
    keeps: bool = True
    kinds: Sequence[Resource] = ()
    objects: str = ""
    watches: bool = True
    siblings: bool = False


def rights(needs: Needs) -> Iterator[Right]:
    """Every right that `needs` come to."""
    for namespace in needs.namespaces or ("",):
        for kind in (DEPLOYMENTS, PODS, REPLICA_SETS):
            yield from _seen(kind, needs, namespace, "nothing can be read, and no cycle runs")
        if needs.writes:
            yield Right(DEPLOYMENTS, "patch", "no decision can be made real", namespace)
            again = "a patch that met a conflict is not tried again"
            yield Right(DEPLOYMENTS, "get", again, namespace, essential=False)
        if needs.writes and needs.siblings:
            single = "no server can run on several accelerators"
            yield Right(DEPLOYMENTS, "create", single, namespace, essential=False)
            left = "what is left of a sibling, with no pods, is not removed"
            yield Right(DEPLOYMENTS, "delete", left, namespace, essential=False)
        for kind in needs.kinds:
            yield from _scaled(kind, needs, namespace)
        other = "a Deployment that it scales is not recognised, and both scale it"
        for kind in (AUTOSCALERS, SCALED_OBJECTS):
            yield from _seen(kind, needs, namespace, other, essential=False)
        refused = "growth beyond a quota is decided, and its pods are refused"
        yield from _seen(RESOURCE_QUOTAS, needs, namespace, refused, essential=False)
        if needs.writes and needs.events:
            told = "changes and refusals are not told on the Deployments"
            yield Right(EVENTS, "create", told, namespace, essential=False)
    if needs.nodes:
        unknown = "capacity is not known, and no cycle runs"
        yield from _seen(NODES, needs, "", unknown)
        if needs.namespaces:
            # Those of others use cards too.
            yield from _seen(PODS, needs, "", unknown)
    if needs.lease is not None:
        namespace, name = needs.lease
        never = "the Lease is never had, and nothing is written"
        yield Right(LEASES, "create", never, namespace)
        yield Right(LEASES, "get", never, namespace, name)
        yield Right(LEASES, "update", never, namespace, name)
        if needs.events and needs.namespaces and namespace not in needs.namespaces:
            told = "what concerns the whole loop is not told on the Lease"
            yield Right(EVENTS, "create", told, namespace, essential=False)
    yield from _kept(needs)


def _kept(needs: Needs) -> Iterator[Right]:
    """To keep what was learned, and to read the data where it is kept as objects."""
    lost = "what was learned is not kept over restarts"
    places = [each.split("/", 1) for each in needs.kept]
    for namespace, name in places:
        yield Right(CONFIG_MAPS, "get", lost, namespace, name, essential=False)
        if needs.keeps:
            yield Right(CONFIG_MAPS, "patch", lost, namespace, name, essential=False)
    if needs.keeps:
        for namespace in dict.fromkeys(namespace for namespace, _ in places):
            yield Right(CONFIG_MAPS, "create", lost, namespace, essential=False)
    if needs.objects:
        for kind in RESOURCES.values():
            yield from _seen(kind, needs, needs.objects, "no data is known, and no cycle runs")


def _scaled(kind: Resource, needs: Needs, namespace: str) -> Iterator[Right]:
    """To see a kind besides Deployments, and to set the replicas of one."""
    yield from _seen(kind, needs, namespace, "nothing can be read, and no cycle runs")
    held = "which pods it has is not known, and it is held"
    yield Right(kind, "get", held, namespace, subresource="scale")
    if needs.writes:
        never = "no decision can be made real"
        yield Right(kind, "patch", never, namespace, subresource="scale")
        again = "a patch that met a conflict is not tried again"
        yield Right(kind, "get", again, namespace, essential=False)


def _seen(
    kind: Resource, needs: Needs, namespace: str, without: str, *, essential: bool = True
) -> Iterator[Right]:
    """To list a kind and, where that is done, to watch it."""
    yield Right(kind, "list", without, namespace, essential=essential)
    if needs.watches:
        listed = "it is listed each cycle instead"
        yield Right(kind, "watch", listed, namespace, essential=False)


class ApiAccount:
    """Asks the API server about this account."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def allows(self, right: Right, timeout_s: float) -> bool:
        """Whether the account has the right.

        Raises:
            ClusterError: the API server does not say.

        """
        group = right.resource.group_path.removeprefix("/apis/").rpartition("/")[0]
        attributes: dict[str, Any] = {
            "verb": right.verb,
            "group": "" if right.resource.group_path.startswith("/api/") else group,
            "resource": right.resource.plural,
            "namespace": right.namespace,
            "name": right.name,
            "subresource": right.subresource,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._connection.send(
            "POST", REVIEWS, f"ask for leave to {right}", timeout_s, body
        )
        return bool((answer.get("status") or {}).get("allowed"))

    def version(self, timeout_s: float) -> str:
        """The API server's version."""
        answer = self._connection.get("/version", "read the version", timeout_s)
        return str(answer.get("gitVersion", "unknown"))

    def holder(self, namespace: str, name: str, timeout_s: float) -> Holder | None:
        """Who holds the Lease; None where there is none.

        Raises:
            ClusterError: the API server does not say.

        """
        what = LEASES.named(namespace, name)
        try:
            lease = self._connection.get(LEASES.path(namespace, name), f"read {what}", timeout_s)
        except NotFoundError:
            return None
        spec: Mapping[str, Any] = lease.get("spec") or {}
        renewed = spec.get("renewTime")
        return Holder(
            str(spec.get("holderIdentity") or ""),
            datetime.fromisoformat(renewed).timestamp() if renewed else None,
            float(spec.get("leaseDurationSeconds") or 0.0),
        )

    def clock(self, timeout_s: float) -> float | None:
        """Its time in seconds since the epoch, to the second; None where it does not say."""
        return self._connection.server_time("/version", "read the time", timeout_s)
