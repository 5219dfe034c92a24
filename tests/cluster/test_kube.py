"""Reading and writing a real cluster as the loop does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from testbed.acting import TIMEOUT_S, NoEnd, a_patch, apply, read, settled
from testbed.control_plane import ADMIN
from testbed.fleet import Fleet
from testbed.objects import GPU, GpuNode, ManagedServer
from testbed.proxy import Fault, Proxy
from testbed.waiting import until

from controlloop.actuator.apply import ClusterActuator
from controlloop.actuator.options import Mode
from controlloop.api.decision import PatchStatus, Plan, Refusal
from controlloop.api.holds import Forbids, HoldReason
from controlloop.clock import Deadline, SystemClock
from controlloop.errors import ConflictError, ForbiddenError, NotFoundError, UnavailableError
from controlloop.kube.cluster import ClusterOptions, KubeCluster
from controlloop.kube.connection import Connection, ConnectionOptions, connect
from controlloop.kube.lease import Lease, LeaseOptions
from controlloop.kube.nodes import NodeOptions
from controlloop.kube.state_config_map import ConfigMapName, ConfigMapStateStore

Connect = Callable[..., Connection]


def test_managed_deployments_are_read_with_all_pods_they_own(
    fleet: Fleet, cluster: KubeCluster
) -> None:
    fleet.add_nodes(GpuNode(gpus=16))
    fleet.add_servers(
        ManagedServer("b", replicas=5, model="meta-llama/Llama-3.1-8B"),
        ManagedServer("a", replicas=2),
        ManagedServer("unmanaged", replicas=2, managed=False),
    )
    fleet.await_pods_ready(9)
    settled(cluster, "b")
    first, second = cluster.workloads(TIMEOUT_S)
    assert (first.server, second.server) == ("a", "b")
    assert second.model == "meta-llama/Llama-3.1-8B"
    assert second.replicas == second.ready_replicas == 5
    assert [pod.name for pod in second.pods] == sorted(pod.metadata.name for pod in fleet.pods("b"))
    assert all(pod.carries_load and pod.scheduled for pod in second.pods)
    assert cluster.workload(second.ref, TIMEOUT_S) == second


def test_during_a_rollout_pods_of_both_replica_sets_count_and_nothing_shrinks(
    fleet: Fleet, cluster: KubeCluster
) -> None:
    fleet.add_nodes(GpuNode(gpus=16))
    fleet.add_servers(ManagedServer("a", replicas=3))
    fleet.await_ready("a", 3)
    settled(cluster, "a")
    template = {"metadata": {"annotations": {"testbed/ready-after": "never"}}}
    fleet.patch("a", {"spec": {"template": template}})
    until(lambda: len(fleet.pods("a")) > 3, "a pod of the new ReplicaSet")
    workload = read(cluster, "a")
    replica_sets = {pod.name.rsplit("-", 1)[0] for pod in workload.pods}
    assert len(replica_sets) == 2
    assert [(hold.reason, hold.forbids) for hold in workload.holds] == [
        (HoldReason.ROLLOUT, Forbids.DECREASE)
    ]


def test_a_deployment_that_is_being_deleted_is_left_out(fleet: Fleet, cluster: KubeCluster) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    workload = read(cluster, "a")
    fleet.patch("a", {"metadata": {"finalizers": ["testbed/wait"]}})
    fleet.delete("a")
    assert cluster.workloads(TIMEOUT_S) == ()
    with pytest.raises(NotFoundError, match="being deleted"):
        cluster.workload(workload.ref, TIMEOUT_S)
    fleet.patch("a", {"metadata": {"finalizers": None}})


def test_an_autoscaler_on_a_deployment_holds_it(fleet: Fleet, cluster: KubeCluster) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0), ManagedServer("b", replicas=0))
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}
    fleet.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "theirs"},
            "spec": {"scaleTargetRef": target, "maxReplicas": 3},
        }
    )
    held = [hold for hold in read(cluster, "a").holds if hold.reason is HoldReason.OTHER_SCALER]
    assert [hold.forbids for hold in held] == [Forbids.CHANGE]
    assert f"HorizontalPodAutoscaler {fleet.namespace}/theirs" in held[0].detail
    assert not any(hold.reason is HoldReason.OTHER_SCALER for hold in read(cluster, "b").holds)


def test_capacity_leaves_out_what_our_pods_could_not_use(fleet: Fleet, connected: Connect) -> None:
    product = f"NVIDIA-{fleet.namespace}"
    kept_away = {"key": "maintenance", "effect": "NoSchedule"}
    usual = {"key": GPU, "value": "present", "effect": "NoSchedule"}
    fleet.add_nodes(GpuNode(product, 8))
    fleet.add_nodes(GpuNode(product, 8, taints=[usual]))
    fleet.add_nodes(GpuNode(product, 8, unschedulable=True))
    fleet.add_nodes(GpuNode(product, 8, taints=[kept_away]))
    fleet.add_servers(
        ManagedServer("ours", replicas=2, gpus=2, product=product),
        ManagedServer("theirs", replicas=1, gpus=3, product=product, managed=False),
    )
    fleet.await_pods_ready(3)
    types = NodeOptions(accelerator_types={product: "X"})
    cluster = KubeCluster(connected(), ClusterOptions((fleet.namespace,), nodes=types))
    assert cluster.capacity(TIMEOUT_S).cards["X"] == 13
    elsewhere = KubeCluster(connected(), ClusterOptions(("default",), nodes=types))
    assert elsewhere.capacity(TIMEOUT_S).cards["X"] == 9


def test_a_patch_changes_replicas_under_our_name_and_tells_why(
    fleet: Fleet, cluster: KubeCluster
) -> None:
    fleet.add_nodes(GpuNode(gpus=8))
    fleet.add_servers(ManagedServer("a", replicas=1))
    fleet.await_ready("a", 1)
    assert apply(cluster, a_patch(settled(cluster, "a"), 3)) == [(PatchStatus.APPLIED, "")]
    fleet.await_ready("a", 3)
    managers = {field.manager for field in fleet.deployment("a").metadata.managed_fields}
    assert "controlloop" in managers
    (event,) = fleet.control_plane.get(
        f"/apis/events.k8s.io/v1/namespaces/{fleet.namespace}/events?fieldSelector=reason=ScaledUp"
    )["items"]
    assert event["note"] == "because"
    assert event["regarding"]["name"] == "a"


def test_a_patch_of_an_older_version_is_refused_and_decided_again(
    fleet: Fleet, cluster: KubeCluster
) -> None:
    fleet.add_nodes(GpuNode(gpus=16))
    fleet.add_servers(*(ManagedServer(name, replicas=3) for name in "abc"))
    fleet.await_pods_ready(9)
    patches = [a_patch(settled(cluster, name), 2) for name in "abc"]
    fleet.patch("a", {"metadata": {"annotations": {"unrelated": "yes"}}})
    fleet.scale("b", 5)
    fleet.patch("c", {"metadata": {"annotations": {"inferno.server.paused": "true"}}})
    for patch in patches:
        with pytest.raises(ConflictError, match="the object has been modified"):
            cluster.patch(patch, TIMEOUT_S, dry_run=False)
    settled(cluster, "a")
    (a, _), (b, why_b), (c, why_c) = apply(cluster, *patches)
    assert (a, b, c) == (PatchStatus.APPLIED, PatchStatus.NOT_SENT, PatchStatus.NOT_SENT)
    assert "set to 5" in why_b or "rollout" in why_b
    assert "labels or annotations changed" in why_c
    assert [fleet.replicas(name) for name in "abc"] == [2, 5, 3]


def test_a_deployment_deleted_or_made_anew_meanwhile_harms_no_other(
    fleet: Fleet, cluster: KubeCluster
) -> None:
    fleet.add_nodes(GpuNode(gpus=8))
    fleet.add_servers(*(ManagedServer(name, replicas=2) for name in "abc"))
    fleet.await_pods_ready(6)
    patches = [a_patch(settled(cluster, name), 1) for name in "abc"]
    fleet.delete("a")
    fleet.delete("b")
    fleet.add_servers(ManagedServer("b", replicas=2))
    (a, why_a), (b, why_b), (c, _) = apply(cluster, *patches)
    assert (a, b, c) == (PatchStatus.FAILED, PatchStatus.FAILED, PatchStatus.APPLIED)
    assert "not found" in why_a
    assert "made anew" in why_b
    assert fleet.replicas("b") == 2
    assert fleet.replicas("c") == 1


@pytest.mark.parametrize("mode", [Mode.DRY_RUN, Mode.SERVER_DRY_RUN])
def test_a_dry_run_leaves_every_version_as_it_was(
    fleet: Fleet, cluster: KubeCluster, mode: Mode
) -> None:
    fleet.add_nodes(GpuNode(gpus=8))
    fleet.add_servers(ManagedServer("a", replicas=2))
    patch = a_patch(settled(cluster, "a"), 1)
    before = fleet.resource_versions()
    assert apply(cluster, patch, mode=mode) == [(PatchStatus.DRY_RUN, "")]
    assert fleet.resource_versions() == before


def test_a_server_side_dry_run_still_finds_conflicts(fleet: Fleet, cluster: KubeCluster) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    patch = a_patch(read(cluster, "a"), 1)
    fleet.patch("a", {"metadata": {"annotations": {"unrelated": "yes"}}})
    with pytest.raises(ConflictError):
        cluster.patch(patch, TIMEOUT_S, dry_run=True)


def test_a_refusal_is_an_event_on_the_workload(fleet: Fleet, cluster: KubeCluster) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    actuator = ClusterActuator(cluster, NoEnd())
    plan = Plan((), (Refusal("a", "an autoscaler scales it", read(cluster, "a").ref),))
    for _ in range(3):
        actuator.apply(plan, Deadline(SystemClock(), TIMEOUT_S))
    said = fleet.kubectl("events", "--for=deployment/a")
    assert said.count("ChangeRefused") == 1
    assert "an autoscaler scales it" in said


def test_an_api_server_that_is_gone_or_stalls_is_unavailable(
    fleet: Fleet, cluster: KubeCluster
) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    patch = a_patch(read(cluster, "a"), 1)
    control_plane = fleet.control_plane
    control_plane.api_server.stall()
    try:
        with pytest.raises(UnavailableError):
            cluster.workloads(1.0)
        ((status, detail),) = apply(cluster, patch)
        assert status is PatchStatus.FAILED
        assert "whether it was applied shows in the next cycle" in detail
    finally:
        control_plane.api_server.resume()
    control_plane.kill_api_server()
    with pytest.raises(UnavailableError, match="list deployments"):
        cluster.workloads(TIMEOUT_S)
    control_plane.start()
    assert read(cluster, "a").server == "a"


def test_many_servers_are_read_with_no_more_requests_than_one(
    fleet: Fleet, api_proxy: Proxy
) -> None:
    kubeconfig = fleet.control_plane.kubeconfig(ADMIN, api_proxy.url)
    with closing(connect(ConnectionOptions(str(kubeconfig)))) as connection:
        cluster = KubeCluster(connection, ClusterOptions((fleet.namespace,)))

        def requests() -> int:
            api_proxy.forget()
            cluster.workloads(TIMEOUT_S)
            cluster.capacity(TIMEOUT_S)
            return len(api_proxy.requests())

        fleet.add_servers(ManagedServer("a", replicas=0))
        for_one = requests()
        fleet.add_servers(*(ManagedServer(f"b{number}", replicas=2) for number in range(20)))
        # A list of each kind, quotas on cards among them; watches spare a steady cycle these.
        assert requests() == for_one <= 10
        assert len(cluster.workloads(TIMEOUT_S)) == 21
        assert api_proxy.requests(writes=True) == []


def test_a_patch_whose_answer_was_lost_is_unsure_and_then_seen(
    fleet: Fleet, api_proxy: Proxy
) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    kubeconfig = fleet.control_plane.kubeconfig(ADMIN, api_proxy.url)
    with closing(connect(ConnectionOptions(str(kubeconfig)))) as connection:
        cluster = KubeCluster(connection, ClusterOptions((fleet.namespace,)))
        patch = a_patch(settled(cluster, "a"), 1)
        with api_proxy.fault(Fault(matches=lambda each: each.method == "PATCH", cut_after=True)):
            ((status, detail),) = apply(cluster, patch)
        assert status is PatchStatus.FAILED
        assert "whether it was applied shows in the next cycle" in detail
        assert read(cluster, "a").replicas == 1
        assert apply(cluster, patch) == [(PatchStatus.UNNECESSARY, "it has these replicas by now")]


def manifests(root: Path, namespace: str) -> list[dict[str, Any]]:
    """The shipped manifests, put into the test's namespace under names of its own."""
    found: list[dict[str, Any]] = []
    for path in sorted((root / "deploy" / "base").glob("*.yaml")):
        if path.name != "kustomization.yaml":
            found += yaml.safe_load_all(path.read_text())
    for manifest in found:
        if "namespace" in manifest["metadata"] or manifest["kind"] == "ConfigMap":
            manifest["metadata"]["namespace"] = namespace
        elif manifest["kind"] != "Namespace":
            manifest["metadata"]["name"] = f"{namespace}-controlloop"
        if manifest["kind"] == "ClusterRoleBinding":
            manifest["roleRef"]["name"] = f"{namespace}-controlloop"
    return [manifest for manifest in found if manifest["kind"] != "Namespace"]


@pytest.fixture
def plain_user(fleet: Fleet, root: Path) -> Iterator[str]:
    """A user without any group, bound to the shipped roles and to nothing else."""
    user = "plain"
    roles = [each for each in manifests(root, fleet.namespace) if "Role" in each["kind"]]
    for binding in roles:
        if binding["kind"].endswith("Binding"):
            group = "rbac.authorization.k8s.io"
            binding["subjects"] = [{"kind": "User", "name": user, "apiGroup": group}]
    fleet.apply(*roles)
    yield user
    name = f"{fleet.namespace}-controlloop"
    fleet.kubectl("delete", "clusterrolebinding,clusterrole", name)


def test_the_shipped_roles_allow_all_that_is_done_and_no_more(
    fleet: Fleet, connected: Connect, plain_user: str
) -> None:
    fleet.add_nodes(GpuNode(gpus=8))
    fleet.add_servers(ManagedServer("a", replicas=1))
    connection = connected(plain_user)
    cluster = KubeCluster(connection)

    def allowed() -> bool:
        try:
            return bool(cluster.workloads(TIMEOUT_S))
        except ForbiddenError:
            return False

    until(allowed, "the roles are in force")
    patch = a_patch(settled(cluster, "a"), 2)
    assert cluster.capacity(TIMEOUT_S).cards
    assert cluster.workload(patch.ref, TIMEOUT_S).server == "a"
    with closing(connection):
        assert apply(cluster, patch) == [(PatchStatus.APPLIED, "")]
        assert "ScaledUp" in fleet.kubectl("events", "--for=deployment/a")
        lease = Lease(connection, LeaseOptions(fleet.namespace))
        for _ in range(3):
            lease.step()
        assert lease.problem is None
        assert lease.remaining_s() > 0
        lease.release()
        assert lease.holder == ""
        other = Lease(connection, LeaseOptions(fleet.namespace, name="somebody-elses"))
        other.step()
        assert "forbidden" in str(other.problem)
        learned = ConfigMapName(fleet.namespace, "controlloop-learned")
        store = ConfigMapStateStore(connection, learned, TIMEOUT_S, writes=True)
        for state in (b"one", b"two"):
            store.save(state)
        assert store.load() == b"two"
        with pytest.raises(ForbiddenError, match="secrets is forbidden"):
            connection.get("/api/v1/secrets", "list secrets", TIMEOUT_S)


def test_without_leave_to_see_autoscalers_workloads_are_still_read(
    fleet: Fleet, connected: Connect
) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    fleet.grant(
        "plain",
        [
            {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        ],
    )
    cluster = KubeCluster(connected("plain"), ClusterOptions((fleet.namespace,)))

    def seen() -> bool:
        try:
            return [workload.server for workload in cluster.workloads(TIMEOUT_S)] == ["a"]
        except ForbiddenError:
            return False

    until(seen, "the workload is read")
    with pytest.raises(ForbiddenError, match="cannot list nodes"):
        cluster.capacity(TIMEOUT_S)


OVERLAYS = (
    "scale-targets",
    "siblings",
    "controller",
    "dry-run",
    "monitoring",
    "namespaced",
    "optimizer",
)


def operator_kind(kind: str, plural: str) -> dict[str, Any]:
    """The definition of a kind of the Prometheus operator, which is not installed here."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def test_every_shipped_manifest_is_accepted_by_the_api_server(fleet: Fleet, root: Path) -> None:
    there = ("inferno", "inference")
    fleet.apply(
        *({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": one}} for one in there)
    )
    kinds = {"PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"}
    fleet.apply(*(operator_kind(kind, plural) for kind, plural in kinds.items()))
    names = [f"crd/{plural}.monitoring.coreos.com" for plural in kinds.values()]
    fleet.kubectl("wait", "--for=condition=Established", *names)
    try:
        for folder in ("deploy", *(f"deploy/overlays/{name}" for name in OVERLAYS)):
            fleet.kubectl(
                "apply",
                "--server-side",
                "--dry-run=server",
                "--validate=strict",
                "--namespace=",
                "-k",
                str(root / folder),
            )
    finally:
        fleet.kubectl("delete", *names)
        fleet.kubectl("delete", "namespace", "--wait=false", *there)
