"""StatefulSets and objects of the shape of a LeaderWorkerSet: scaled with the shipped rights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from testbed.acting import TIMEOUT_S, a_patch, apply
from testbed.fleet import Fleet
from testbed.objects import GpuNode, ManagedServer
from testbed.waiting import until

from controlloop.api.decision import PatchStatus
from controlloop.api.holds import HoldReason
from controlloop.api.observation import Workload
from controlloop.errors import ConflictError
from controlloop.kube.cluster import ClusterOptions, KubeCluster
from controlloop.kube.connection import Connection
from controlloop.kube.nodes import NodeOptions
from controlloop.kube.resources import kind_at

USER = "plain"
KINDS = {
    "StatefulSet": "apps/v1/statefulsets",
    "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1/leaderworkersets",
}
CHAT = ManagedServer("chat", replicas=2)
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "leaderworkersets.leaderworkerset.x-k8s.io"},
    "spec": {
        "group": "leaderworkerset.x-k8s.io",
        "scope": "Namespaced",
        "names": {"kind": "LeaderWorkerSet", "plural": "leaderworkersets"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": ANYTHING},
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.hpaPodSelector",
                    },
                },
            }
        ],
    },
}


@pytest.fixture
def cluster(fleet: Fleet, root: Path, connected: Callable[..., Connection]) -> KubeCluster:
    """Both kinds managed, with the rights of the base and of the overlay, and no others."""
    for path in ("base/rbac.yaml", "overlays/scale-targets/rbac.yaml"):
        for manifest in yaml.safe_load_all((root / "deploy" / path).read_text()):
            if manifest["kind"] == "ClusterRole":
                fleet.grant(USER, manifest["rules"])
    fleet.apply(DEFINITION)
    # A kind that is just known cannot be listed at once; it stays for the tests after this one.
    until(lambda: is_listed(fleet), "the kind")
    kinds = tuple(kind_at(kind, at) for kind, at in KINDS.items())
    nodes = NodeOptions(accelerator_types={"A100": "A100"})
    options = ClusterOptions((fleet.namespace,), nodes=nodes, kinds=kinds)
    return KubeCluster(connected(USER), options)


def is_listed(fleet: Fleet) -> bool:
    try:
        fleet.kubectl("get", "leaderworkersets.leaderworkerset.x-k8s.io")
    except RuntimeError:
        return False
    return True


def an_object(fleet: Fleet, kind: str) -> dict[str, Any]:
    """The same server as another kind."""
    found = CHAT.manifest(fleet.namespace)
    group, version, _ = KINDS[kind].split("/")
    found |= {"apiVersion": f"{group}/{version}", "kind": kind}
    if kind == "StatefulSet":
        found["spec"]["serviceName"] = "chat"
    return found


def workload(cluster: KubeCluster) -> Workload:
    (found,) = cluster.workloads(TIMEOUT_S)
    return found


@pytest.mark.parametrize("kind", list(KINDS))
def test_its_replicas_are_set_through_its_scale_and_nothing_else(
    fleet: Fleet, cluster: KubeCluster, kind: str
) -> None:
    fleet.add_nodes(GpuNode(gpus=8))
    fleet.apply(an_object(fleet, kind))
    if kind == "LeaderWorkerSet":
        # Nobody makes its pods here: a bare pod stands for the first leader.
        status = {"replicas": 2, "updatedReplicas": 2, "hpaPodSelector": "app=chat"}
        fleet.kubectl(
            "patch", kind, "chat", "--subresource=status", "--type=merge",
            "-p", yaml.safe_dump({"status": status}),
        )  # fmt: skip
        pod = CHAT.manifest(fleet.namespace)["spec"]["template"]
        pod["metadata"]["name"] = "chat-0"
        fleet.apply({"apiVersion": "v1", "kind": "Pod", **pod})
    ready = 2 if kind == "StatefulSet" else 1
    until(lambda: workload(cluster).ready_replicas == ready, "ready pods")
    until(lambda: not workload(cluster).holds, "a settled object")
    before = workload(cluster)
    assert (before.ref.kind, before.server, before.replicas) == (kind, "chat", 2)
    assert cluster.capacity(TIMEOUT_S).cards["A100"] == 8
    assert apply(cluster, a_patch(before, 3)) == [(PatchStatus.APPLIED, "")]
    after = yaml.safe_load(fleet.kubectl("get", kind, "chat", "-o", "yaml"))
    assert after["spec"]["replicas"] == 3
    assert workload(cluster).replicas == 3
    stale = replace(a_patch(before, 1), replicas_before=3)
    with pytest.raises(ConflictError):
        cluster.patch(stale, TIMEOUT_S, dry_run=False)
    assert cluster.workload(before.ref, TIMEOUT_S).replicas == 3
    events = fleet.core.list_namespaced_event(fleet.namespace).items
    told = [each for each in events if each.reason == "ScaledUp"]
    assert [each.involved_object.kind for each in told] == [kind]
    fleet.kubectl("delete", kind, "chat")
    until(lambda: cluster.workloads(TIMEOUT_S) == (), "its end")


def test_a_kind_that_is_not_there_hinders_nothing(
    fleet: Fleet, connected: Callable[..., Connection]
) -> None:
    kinds = (kind_at("Widget", "example.org/v1/widgets"),)
    fleet.add_servers(ManagedServer("chat", replicas=0))
    cluster = KubeCluster(connected(), ClusterOptions((fleet.namespace,), kinds=kinds))
    assert workload(cluster).server == "chat"


def test_an_autoscaler_on_a_stateful_set_holds_it(fleet: Fleet, cluster: KubeCluster) -> None:
    fleet.apply(an_object(fleet, "StatefulSet"))
    target = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "chat"}
    fleet.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "theirs"},
            "spec": {"scaleTargetRef": target, "maxReplicas": 3},
        }
    )
    assert HoldReason.OTHER_SCALER in {hold.reason for hold in workload(cluster).holds}
    fleet.kubectl("delete", "StatefulSet", "chat")
