"""The kinds of objects that are read or written, and their paths at the API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind: `group_path` is where its API group and version live."""

    group_path: str
    plural: str
    kind: str

    def path(self, namespace: str = "", name: str = "") -> str:
        """The path of one object, or of the list where `name` is empty.

        Without a namespace: all namespaces, or an object that belongs to none.
        """
        scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return f"{self.group_path}{scope}/{self.plural}" + (f"/{quote(name, safe='')}" * bool(name))

    @property
    def api_version(self) -> str:
        """Group and version, as objects name them."""
        return self.group_path.removeprefix("/apis/").removeprefix("/api/")

    def named(self, namespace: str, name: str) -> str:
        """One object in the words of a message."""
        return f"{self.kind} {namespace}/{name}" if namespace else f"{self.kind} {name}"


def kind_at(kind: str, place: str) -> Resource:
    """A kind by its place in the API, group/version/plural: "apps/v1/statefulsets"."""
    group_version, _, plural = place.rpartition("/")
    return Resource(f"/apis/{group_version}", plural, kind)


DEPLOYMENTS: Final = Resource("/apis/apps/v1", "deployments", "Deployment")
REPLICA_SETS: Final = Resource("/apis/apps/v1", "replicasets", "ReplicaSet")
PODS: Final = Resource("/api/v1", "pods", "Pod")
RESOURCE_QUOTAS: Final = Resource("/api/v1", "resourcequotas", "ResourceQuota")
NODES: Final = Resource("/api/v1", "nodes", "Node")
AUTOSCALERS: Final = Resource(
    "/apis/autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"
)
SCALED_OBJECTS: Final = Resource("/apis/keda.sh/v1alpha1", "scaledobjects", "ScaledObject")
LEASES: Final = Resource("/apis/coordination.k8s.io/v1", "leases", "Lease")
EVENTS: Final = Resource("/apis/events.k8s.io/v1", "events", "Event")
CONFIG_MAPS: Final = Resource("/api/v1", "configmaps", "ConfigMap")
