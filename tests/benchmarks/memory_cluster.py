"""What a cluster lists of a fleet: objects as the API server gives them, kept as informers do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from testbed.objects import GPU, GpuNode, ManagedServer

from controlloop.kube.connection import JSON, Object, Query
from controlloop.kube.resources import Resource

NAMESPACE = "bench"
MADE_AT = 1_700_000_000.0
"""When all of it began, seconds since the epoch."""


def names(servers: int) -> list[str]:
    """The names of the servers."""
    return [f"server-{number:04}" for number in range(servers)]


def pods_of(server: str, replicas: int) -> list[str]:
    """The names of its pods."""
    return [f"{server}-5d4f7c9b8-{number:05}" for number in range(replicas)]


class MemoryLister:
    """Implements `Lister`: every object of a kind, the same ones each time."""

    def __init__(self, servers: int, replicas: int, nodes: int) -> None:
        cards = -(-2 * servers * replicas // nodes)
        self._objects: dict[str, list[Object]] = {
            "deployments": [_deployment(name, replicas) for name in names(servers)],
            "replicasets": [_replica_set(name) for name in names(servers)],
            "pods": [
                _pod(server, name, f"node-{at % nodes:04}")
                for at, (server, name) in enumerate(all_pods(servers, replicas))
            ],
            "nodes": [_node(f"node-{at:04}", cards) for at in range(nodes)],
        }

    def items(
        self,
        resource: Resource,
        timeout_s: float,
        namespace: str = "",
        query: Query = (),
        accept: str = JSON,
    ) -> list[Object]:
        """Every object of a kind, none of one that there is not."""
        return list(self._objects.get(resource.plural, ()))


def all_pods(servers: int, replicas: int) -> Iterator[tuple[str, str]]:
    """Each pod with its server before it."""
    return ((server, pod) for server in names(servers) for pod in pods_of(server, replicas))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seen(thing: dict[str, Any], uid: str) -> dict[str, Any]:
    more = {"uid": uid, "resourceVersion": "1000", "creationTimestamp": _time(MADE_AT)}
    thing["metadata"] |= more | {"generation": 1}
    return thing


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    made = _seen(ManagedServer(name, replicas=replicas).manifest(NAMESPACE), f"uid-{name}")
    counts = ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
    made["status"] = dict.fromkeys(counts, replicas) | {"observedGeneration": 1}
    return made


def _owner(kind: str, name: str, uid: str) -> list[dict[str, Any]]:
    return [{"kind": kind, "name": name, "uid": uid, "controller": True}]


def _replica_set(name: str) -> dict[str, Any]:
    owner = _owner("Deployment", name, f"uid-{name}")
    metadata = {"name": f"{name}-5d4f7c9b8", "namespace": NAMESPACE, "ownerReferences": owner}
    return _seen({"metadata": metadata}, f"uid-{name}-5d4f7c9b8")


def _pod(server: str, name: str, node: str) -> dict[str, Any]:
    template = ManagedServer(server).manifest(NAMESPACE)["spec"]["template"]
    owner = _owner("ReplicaSet", f"{server}-5d4f7c9b8", f"uid-{server}-5d4f7c9b8")
    labels = {**template["metadata"]["labels"], "pod-template-hash": "5d4f7c9b8"}
    metadata = {"name": name, "namespace": NAMESPACE, "ownerReferences": owner, "labels": labels}
    true = {"status": "True", "lastTransitionTime": _time(MADE_AT)}
    conditions = [{"type": kind, **true} for kind in ("Initialized", "Ready", "PodScheduled")]
    status = {
        "phase": "Running",
        "startTime": _time(MADE_AT),
        "conditions": conditions,
        "containerStatuses": [{"name": "server", "restartCount": 0, "ready": True}],
    }
    pod = {"metadata": metadata, "spec": {**template["spec"], "nodeName": node}, "status": status}
    return _seen(pod, f"uid-{name}")


def _node(name: str, cards: int) -> dict[str, Any]:
    node = _seen(GpuNode(gpus=cards).manifest(name), f"uid-{name}")
    node["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    node["status"]["allocatable"][GPU] = str(cards)
    return node
