"""Several accelerators at once on the real control plane, with the rights of the overlay alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from testbed.control_plane import ADMIN
from testbed.daemon import Daemon, data_files, holds_of
from testbed.emulator import Emulator
from testbed.fleet import Fleet
from testbed.objects import APP, GPU, PRODUCT_LABEL, GpuNode, ManagedServer
from testbed.pods import is_ready
from testbed.prometheus import Prometheus
from testbed.proxy import Proxy
from testbed.replica import Load
from testbed.rights import Roles, used
from testbed.waiting import until

from controlloop.actuator.diff import Means, plan
from controlloop.actuator.templates import AcceleratorTemplate
from controlloop.api.decision import Action, Decision, Decisions, Patch, SiblingGoal
from controlloop.api.observation import Observation, ServerObservation, Workload
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import Allocation
from controlloop.errors import ConflictError
from controlloop.kube.cluster import ClusterOptions, KubeCluster
from controlloop.kube.connection import ConnectionOptions, connect

CHAT = ManagedServer("chat", replicas=2, ready_after="2s", siblings=True)
CARDS: Mapping[str, int] = {"A100": 2, "H100": 2}
TIMEOUT_S = 10.0
# One replica serves 26 requests/s within its objectives. Neither accelerator alone has three.
FOR_THREE, FOR_TWO = Load(rate_rps=60.0), Load(rate_rps=40.0)
TEMPLATES = {name: {"node_selector": {PRODUCT_LABEL: name}, "limits": {GPU: "1"}} for name in CARDS}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "actuator": {
        "templates": TEMPLATES,
        "siblings": True,
        "switch_cycles": 2,
        "switch_batches": False,
    },
    "cycle": {"period_s": 1.5, "deadline_s": 10.0},
    "stability": {"down_window_s": 5.0},
    # What is foreseen from half a minute of history is none of this.
    "forecaster": {"name": "last-value"},
}


def data(cards: Mapping[str, int]) -> dict[str, Any]:
    """H100 is dearer, and taken only where A100 has no cards."""
    files = data_files(cards)
    files["accelerator-data.json"]["accelerators"][1]["cost"] = 60.0
    files["optimizer-data.json"] = {"optimizer": {"heterogeneous": True, "milpSolver": True}}
    return files


@dataclass
class Watch:
    """Looks at pods each time that it is asked."""

    fleet: Fleet
    most: Counter[str] = field(default_factory=Counter)
    least_ready: int = 99

    def siblings(self) -> list[Any]:
        """Deployments besides the one that was there."""
        found = self.fleet.apps.list_namespaced_deployment(self.fleet.namespace).items
        return [each for each in found if each.metadata.name != "chat"]

    def look(self) -> Counter[str]:
        """Ready pods by the product that they ask for."""
        path = f"/api/v1/namespaces/{self.fleet.namespace}/pods"
        pods = self.fleet.get(path, labelSelector=f"{APP}=chat")["items"]
        asked = Counter(pod["spec"]["nodeSelector"][PRODUCT_LABEL] for pod in pods)
        self.most |= asked
        ready = [pod for pod in pods if is_ready(pod)]
        self.least_ready = min(self.least_ready, len(ready))
        return Counter(pod["spec"]["nodeSelector"][PRODUCT_LABEL] for pod in ready)

    def behind_the_service(self) -> Counter[str]:
        """Ready endpoints of the Service by the Deployment that their pods are named after."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.fleet.namespace}/endpointslices"
        slices = self.fleet.get(path, labelSelector="kubernetes.io/service-name=chat")["items"]
        names = [
            each["targetRef"]["name"]
            for one in slices
            for each in one.get("endpoints") or ()
            if each["conditions"].get("ready")
        ]
        return Counter(name.rsplit("-", 2)[0] for name in names)

    def mixed(self) -> bool:
        """Two of A100 and one of H100 are ready."""
        return self.look() == {"A100": 2, "H100": 1}

    def alone(self) -> bool:
        """No sibling is left."""
        self.look()
        return not self.siblings()


@pytest.fixture
def watch(fleet: Fleet, emulator: Emulator) -> Watch:
    """Two replicas on the only two A100, behind a Service, asked for what three do."""
    for product, cards in CARDS.items():
        fleet.add_nodes(GpuNode(product=product, gpus=cards))
    fleet.add_servers(CHAT)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "chat"},
        "spec": {"selector": {APP: "chat"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    fleet.apply(service)
    emulator.set_load("chat", FOR_THREE)
    fleet.await_ready("chat", 2)
    return Watch(fleet)


@pytest.fixture
def roles(fleet: Fleet, root: Path) -> Iterator[Roles]:
    folder = str(root / "deploy/overlays/siblings")
    roles = Roles(fleet, folder, {"inferno": fleet.namespace}, "controlloop")
    roles.apply()
    yield roles
    roles.remove()


def started(new_daemon: Callable[..., Daemon], cards: Mapping[str, int], **more: Any) -> Daemon:
    daemon = new_daemon(settings=SETTINGS, capacity=cards, **more)
    daemon.write_data(data(cards))
    daemon.start()
    return daemon


def test_a_server_short_of_cards_runs_on_two_accelerators_behind_one_service_until_demand_falls(
    watch: Watch,
    emulator: Emulator,
    prometheus: Prometheus,
    new_daemon: Callable[..., Daemon],
    roles: Roles,
    api_proxy: Proxy,
) -> None:
    fleet = watch.fleet
    kubeconfig = fleet.control_plane.kubeconfig("controlloop", api_proxy.url)
    daemon = started(new_daemon, CARDS, kubeconfig=kubeconfig)
    until(watch.mixed, "two and one ready", 90.0, 0.3)
    (sibling,) = watch.siblings()
    name = sibling.metadata.name
    until(lambda: watch.behind_the_service() == {"chat": 2, name: 1}, "both behind the Service")
    # The primary's controller counts its own pods, and no others.
    assert fleet.deployment("chat").status.replicas == 2
    (owner,) = sibling.metadata.owner_references
    assert (owner.name, owner.uid, owner.controller) == (
        "chat",
        fleet.deployment("chat").metadata.uid,
        False,
    )
    watch.least_ready = 99
    emulator.set_load("chat", FOR_TWO)
    until(watch.alone, "no sibling left", 90.0, 0.3)
    assert watch.least_ready >= 2
    assert fleet.replicas("chat") == 2
    assert watch.most["A100"] <= CARDS["A100"]
    assert watch.most["H100"] <= CARDS["H100"]
    reasons = {each.reason for each in fleet.core.list_namespaced_event(fleet.namespace).items}
    assert {"SiblingCreated", "SiblingRemoved"} <= reasons
    done = used(api_proxy.requests())
    made = [each for each in roles.rights if each.verb in ("create", "delete")]
    deployments = [each for each in made if each.resource == "deployments"]
    assert {each.verb for each in deployments} == {"create", "delete"}
    assert all(any(each.covers(one) for one in done) for each in deployments)
    lacking = [one for one in done if not any(each.covers(one) for each in roles.rights)]
    assert lacking == []
    daemon.program.terminate()


def test_cards_that_come_take_the_sibling_home_and_a_killed_daemon_changes_nothing_of_that(
    watch: Watch, prometheus: Prometheus, new_daemon: Callable[..., Daemon]
) -> None:
    fleet = watch.fleet
    daemon = started(new_daemon, CARDS)
    # Killed as soon as there is a sibling, whatever is under way.
    until(watch.siblings, "a sibling", 90.0, 0.1)
    daemon.program.kill()
    more = {**CARDS, "A100": 4}
    second = started(new_daemon, CARDS)
    until(watch.mixed, "two and one ready", 90.0, 0.3)
    assert len(watch.siblings()) == 1
    watch.least_ready = 99
    fleet.add_nodes(GpuNode(product="A100", gpus=2))
    second.write_data(data(more))
    until(lambda: watch.look()["A100"] == 3, "the third on A100", 90.0, 0.2)
    second.program.kill()
    third = started(new_daemon, more)
    until(watch.alone, "no sibling left", 90.0, 0.2)
    until(lambda: watch.look() == {"A100": 3}, "three on A100", 60.0, 0.2)
    assert watch.least_ready >= 3
    assert watch.most["A100"] <= more["A100"]
    third.program.terminate()


def test_a_persons_second_deployment_of_the_same_name_is_refused_as_before(
    watch: Watch, prometheus: Prometheus, new_daemon: Callable[..., Daemon]
) -> None:
    fleet = watch.fleet
    manifest = replace(CHAT, name="second", product="H100", accelerator="H100").manifest(
        fleet.namespace
    )
    manifest["metadata"]["labels"] |= {
        "inferno.server.name": "chat",
        "inferno.server.sibling": "second",
    }
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}
    owner["uid"] = fleet.deployment("chat").metadata.uid
    manifest["metadata"]["ownerReferences"] = [owner]
    fleet.apply(manifest)
    daemon = started(new_daemon, CARDS)

    def refused(report: Mapping[str, Any]) -> bool:
        held = [each for each in report["servers"] if each["server"] == "chat"]
        reasons = [{hold["reason"] for hold in each["holds"]} for each in held]
        return len(held) == 2 and all("duplicate-name" in some for some in reasons)

    daemon.await_report(refused, "both held")
    for report in daemon.await_reports(5):
        assert report["patches"] == []
    assert len(watch.siblings()) == 1


def test_a_selector_that_would_select_siblings_is_told_and_nothing_is_made(
    fleet: Fleet, emulator: Emulator, prometheus: Prometheus, new_daemon: Callable[..., Daemon]
) -> None:
    for product, cards in CARDS.items():
        fleet.add_nodes(GpuNode(product=product, gpus=cards))
    fleet.add_servers(replace(CHAT, siblings=False))
    emulator.set_load("chat", FOR_THREE)
    fleet.await_ready("chat", 2)
    daemon = started(new_daemon, CARDS)
    daemon.await_report(lambda one: "sibling-selector" in holds_of(one, "chat"), "the hold", 90.0)

    def told() -> bool:
        events = fleet.core.list_namespaced_event(fleet.namespace).items
        return any("DoesNotExist" in (each.message or "") for each in events)

    until(told, "the event")
    assert Watch(fleet).siblings() == []


# --- what the API server makes of each write


@pytest.fixture
def cluster(fleet: Fleet) -> KubeCluster:
    kubeconfig = str(fleet.control_plane.kubeconfig(ADMIN))
    connection = connect(ConnectionOptions(kubeconfig=kubeconfig))
    return KubeCluster(connection, ClusterOptions(namespaces=(fleet.namespace,)))


def by_name(cluster: KubeCluster) -> dict[str, Workload]:
    return {each.ref.name: each for each in cluster.workloads(TIMEOUT_S)}


def a_birth(cluster: KubeCluster, of: Workload | None = None) -> Patch:
    """What makes a sibling, or makes the pods of one anew."""
    workload = by_name(cluster)["chat"]
    templates = {
        name: AcceleratorTemplate(node_selector={PRODUCT_LABEL: name}, limits={GPU: "1"})
        for name in CARDS
    }
    current = Allocation("A100", workload.replicas, 32)
    goal = SiblingGoal("H100", 32, 0, 2, "test")
    if of is not None:
        goal = replace(goal, before=of.replicas, ref=of.ref, renewed=True)
    decision = Decision("chat", Action.KEEP, current, current, "", siblings=(goal,))
    solution = Solution({}, (), SolveStatus.OPTIMAL, "milp", 0.0)
    seen = Observation(0.0, (ServerObservation(workload),))
    (patch,) = plan(Decisions((decision,), solution), seen, Means(templates)).patches
    return patch


@pytest.fixture
def born(watch: Watch, cluster: KubeCluster) -> Workload:
    """A sibling of two, read back."""
    patch = a_birth(cluster)
    cluster.patch(patch, TIMEOUT_S, dry_run=False)
    until(lambda: watch.look() == {"A100": 2, "H100": 2}, "all ready")
    return by_name(cluster)[patch.ref.name]


def test_a_sibling_is_known_again_and_not_made_twice(cluster: KubeCluster, born: Workload) -> None:
    primary = by_name(cluster)["chat"]
    assert born.kinship is not None
    assert primary.rollable is not None
    assert born.kinship.owner == primary.ref.uid
    assert born.kinship.source == primary.rollable.digest
    assert (born.server, born.accelerator, born.holds) == ("chat", "H100", ())
    with pytest.raises(ConflictError, match="already exists"):
        cluster.patch(a_birth(cluster), TIMEOUT_S, dry_run=False)
    # Each Deployment has the pods of its own ReplicaSets.
    assert (len(primary.pods), len(born.pods)) == (2, 2)


def test_a_server_side_dry_run_makes_and_removes_nothing(
    watch: Watch, cluster: KubeCluster
) -> None:
    cluster.patch(a_birth(cluster), TIMEOUT_S, dry_run=True)
    assert watch.siblings() == []


def test_of_another_pod_template_than_was_looked_at_nothing_is_made(
    watch: Watch, cluster: KubeCluster
) -> None:
    patch = a_birth(cluster)
    containers = [{"name": "server", "image": "vllm/vllm-openai:next"}]
    watch.fleet.patch("chat", {"spec": {"template": {"spec": {"containers": containers}}}})
    with pytest.raises(ConflictError, match=r"pod template of .* changed"):
        cluster.patch(patch, TIMEOUT_S, dry_run=False)
    assert watch.siblings() == []


def test_a_new_pod_template_of_the_primary_is_made_the_siblings_whole(
    watch: Watch, cluster: KubeCluster, born: Workload
) -> None:
    watch.fleet.add_nodes(GpuNode(product="H100", gpus=1))
    container = {"name": "server", "image": "vllm/vllm-openai:next", "args": ["--model=other"]}
    watch.fleet.patch("chat", {"spec": {"template": {"spec": {"containers": [container]}}}})

    def renewed() -> bool:
        try:
            sibling = by_name(cluster)[born.ref.name]
            cluster.patch(a_birth(cluster, sibling), TIMEOUT_S, dry_run=False)
        except ConflictError:
            return False
        return True

    until(renewed, "renewed")
    pod = watch.fleet.deployment(born.ref.name).spec.template
    (engine,) = pod.spec.containers
    assert engine.image == "vllm/vllm-openai:next"
    # What the new template has no more is gone; what the accelerator's names is there.
    assert engine.args == ["--model=other", "--max-num-seqs=32"]
    assert engine.resources.limits == {GPU: "1"}
    assert pod.spec.node_selector == {PRODUCT_LABEL: "H100"}
    assert pod.metadata.labels["inferno.server.sibling"] == born.ref.name
    sibling, primary = by_name(cluster)[born.ref.name], by_name(cluster)["chat"]
    assert sibling.kinship is not None
    assert primary.rollable is not None
    assert sibling.kinship.source == primary.rollable.digest
    selector = f"inferno.server.sibling={born.ref.name}"

    def rolled_out() -> bool:
        path = f"/api/v1/namespaces/{watch.fleet.namespace}/pods"
        pods = watch.fleet.get(path, labelSelector=selector)["items"]
        images = [pod["spec"]["containers"][0]["image"] for pod in pods if is_ready(pod)]
        return images == ["vllm/vllm-openai:next"] * 2

    until(rolled_out, "both of the new image")


def test_a_sibling_is_removed_at_the_version_that_was_read_and_no_other(
    watch: Watch, cluster: KubeCluster, born: Workload
) -> None:
    primary = by_name(cluster)["chat"].ref
    old = by_name(cluster)[born.ref.name].ref
    watch.fleet.scale(born.ref.name, 0)
    removal = Patch(old, "chat", 0, 0, {}, "test", primary=primary)
    with pytest.raises(ConflictError):
        cluster.patch(removal, TIMEOUT_S, dry_run=False)

    def removed() -> bool:
        now = by_name(cluster)[born.ref.name]
        try:
            cluster.patch(replace(removal, ref=now.ref), TIMEOUT_S, dry_run=False)
        except ConflictError:
            return False
        return True

    until(removed, "removed")
    until(watch.alone, "gone")
    assert watch.fleet.deployment("chat").status.replicas == 2


def test_who_deletes_the_primary_deletes_its_siblings(
    watch: Watch, cluster: KubeCluster, born: Workload
) -> None:
    watch.fleet.delete("chat")

    def gone() -> bool:
        return by_name(cluster) == {} and watch.look() == {}

    until(gone, "all of it gone")
    path = f"/apis/apps/v1/namespaces/{watch.fleet.namespace}/replicasets"
    until(lambda: watch.fleet.get(path)["items"] == [], "no ReplicaSet left")
    assert json.dumps(watch.fleet.get(path)["items"]) == "[]"
