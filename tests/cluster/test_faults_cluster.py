"""Faults of the cluster below: nodes that go, pods that do not come, others that interfere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from testbed.control_plane import ADMIN
from testbed.daemon import Daemon, holds_of
from testbed.emulator import without_series
from testbed.objects import READY_AFTER, GpuNode, ManagedServer
from testbed.replica import Load
from testbed.stand import BUSY, Stand
from testbed.waiting import until
from typer.testing import CliRunner

from controlloop.cli.app import app
from controlloop.composition.cluster import ClusterChoice
from controlloop.composition.configuration import load_settings
from controlloop.composition.doctor import build_doctor
from controlloop.daemon.doctor import Finding, Level

CONDITION = "inferno.server.condition"
SERVERS = ("cordoned", "tainted", "deleted", "hpa", "quota", "silent")


@pytest.fixture(scope="module")
def loop(stand: Stand) -> Daemon:
    servers = [ManagedServer(name) for name in SERVERS]
    stand.start(ManagedServer("unready", replicas=2), *servers, nodes=2)
    nodes = {"source": "nodes", "accelerator_types": {"A100": "A100"}}
    return stand.begin(stand.daemon({"capacity": nodes}))


@pytest.fixture(autouse=True)
def nothing_lowered(stand: Stand, loop: Daemon) -> Iterator[None]:
    yield
    stand.assert_nothing_was_lowered()


def nodes_of(stand: Stand) -> list[str]:
    mine = stand.fleet.namespace
    names = [one.metadata.name for one in stand.fleet.core.list_node().items]
    return [name for name in names if name.startswith(mine)]


def cordon(stand: Stand) -> Callable[[], object]:
    def set_to(value: bool) -> None:
        for name in nodes_of(stand):
            stand.fleet.core.patch_node(name, {"spec": {"unschedulable": value}})

    set_to(True)
    return lambda: set_to(False)


def taint(stand: Stand) -> Callable[[], object]:
    taints = [{"key": "maintenance", "effect": "NoSchedule"}]
    for name in nodes_of(stand):
        stand.fleet.core.patch_node(name, {"spec": {"taints": taints}})

    def mend() -> None:
        for name in nodes_of(stand):
            stand.fleet.core.patch_node(name, {"spec": {"taints": []}})

    return mend


def delete(stand: Stand) -> Callable[[], object]:
    for name in nodes_of(stand):
        stand.fleet.core.delete_node(name)
    return lambda: stand.fleet.add_nodes(GpuNode(gpus=32), count=2)


@pytest.mark.parametrize(
    ("name", "fault"), [("cordoned", cordon), ("tainted", taint), ("deleted", delete)]
)
def test_nodes_that_go_evict_nobody_and_stop_growth_with_a_reason(
    stand: Stand, loop: Daemon, name: str, fault: Callable[[Stand], Callable[[], object]]
) -> None:
    mend = fault(stand)
    until(lambda: loop.metric("controlloop_capacity_cards", type="A100") == 0, "no card is left")
    stand.emulator.set_load(name, BUSY)
    assert_held(stand, loop, name, "no-capacity", "no-capacity")
    assert stand.writes_to(name) == []
    mend()
    stand.await_growth(name)


def test_pods_that_never_become_ready_cost_no_pod_that_serves(stand: Stand, loop: Daemon) -> None:
    serving = set(stand.fleet.ready_pods("unready"))
    never = {"metadata": {"annotations": {READY_AFTER: "never"}}}
    stand.fleet.patch("unready", {"spec": {"template": never, "progressDeadlineSeconds": 2}})
    # Less than half of its load: who took it for a fleet at rest would shrink it.
    stand.emulator.set_load("unready", Load(rate_rps=1.0))
    assert_held(stand, loop, "unready", "pods-not-ready", "progress")
    loop.await_reports(8)
    assert set(stand.fleet.ready_pods("unready")) == serving
    assert stand.writes_to("unready") == []


def test_a_quota_that_is_hit_is_named_and_costs_no_pod(stand: Stand, loop: Daemon) -> None:
    pods = str(len(stand.fleet.pods()))
    stand.fleet.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few"},
            "spec": {"hard": {"pods": pods}},
        }
    )
    until(lambda: quota_counted(stand), "the quota counted")
    stand.emulator.set_load("quota", BUSY)
    stand.await_growth("quota")
    assert_held(stand, loop, "quota", "pods-refused", "exceeded quota: few")
    stand.fleet.kubectl("delete", "resourcequota", "few")


def quota_counted(stand: Stand) -> bool:
    (quota,) = stand.fleet.core.list_namespaced_resource_quota(stand.fleet.namespace).items
    return bool((quota.status.used or {}).get("pods"))


def assert_held(stand: Stand, loop: Daemon, name: str, reason: str, words: str) -> None:
    """The hold stands in a report, in the log, in a metric and in an event."""
    loop.await_report(lambda one: reason in holds_of(one, name), f"{reason} of {name}")
    assert loop.metric("controlloop_holds", reason=reason) >= 1
    stand.await_event(name, "ChangeRefused", words)
    assert any(one["server"] == name and reason in one["reason"] for one in loop.events("refused"))


def test_an_autoscaler_that_comes_while_running_is_given_way_to(stand: Stand, loop: Daemon) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hpa"}
    stand.fleet.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "theirs"},
            "spec": {"scaleTargetRef": target, "maxReplicas": 3},
        }
    )
    loop.await_report(lambda one: "other-scaler" in holds_of(one, "hpa"), "the hold")
    stand.emulator.set_load("hpa", BUSY)
    stand.await_event("hpa", "ChangeRefused", "theirs")
    loop.await_reports(3)
    assert loop.metric("controlloop_holds", reason="other-scaler") == 1
    assert any(one["server"] == "hpa" for one in loop.events("refused"))
    assert_says_who_scales_it(stand, "hpa", "theirs")
    found = examined(stand, loop)["hpa"]
    assert "other-scaler: HorizontalPodAutoscaler" in found.found
    assert found.advice == "remove the other scaler, or the label inferno.server.managed"
    stand.fleet.kubectl("delete", "hpa", "theirs")
    stand.await_growth("hpa")
    until(lambda: CONDITION not in carried_by(stand, "hpa"), "the condition gone")


def assert_says_who_scales_it(stand: Stand, name: str, scaler: str) -> None:
    """The Deployment carries the condition, which is all that was written to it, once."""
    (write,) = stand.writes_to(name)
    assert set(json.loads(write.body)) == {"metadata"}
    said = json.loads(carried_by(stand, name)[CONDITION])
    assert (said["type"], said["status"], said["reason"]) == ("Managed", "False", "other-scaler")
    assert scaler in said["message"]


def carried_by(stand: Stand, name: str) -> dict[str, str]:
    found = stand.fleet.apps.read_namespaced_deployment(name, stand.fleet.namespace)
    return dict(found.metadata.annotations or {})


def examined(stand: Stand, loop: Daemon) -> dict[str, Finding]:
    """What the doctor finds with the daemon's configuration, by subject."""
    settings = load_settings(loop.folder, {})
    choice = ClusterChoice(stand.control_plane.kubeconfig(ADMIN))
    return {one.subject: one for one in build_doctor(settings, loop.folder, choice).examine()}


def test_a_server_without_series_is_named_with_its_query_and_shown_as_unknown(
    stand: Stand, loop: Daemon
) -> None:
    (pod,) = stand.fleet.ready_pods("silent")
    stand.emulator.set_fault(pod, without_series)
    # Prometheus remembers what was scraped: longer than the window.
    loop.await_report(lambda one: "inert" in holds_of(one, "silent"), "an inert server")
    found = examined(stand, loop)
    assert found["silent"].level is Level.PROBLEM
    assert "vllm:request_success_total" in found["silent"].found
    assert found["clock"].level is Level.OK
    assert found["lease"].found.endswith("decides and writes")
    assert found["permissions"].level is Level.OK
    shown = CliRunner().invoke(app, ["status", "--url", loop.url])
    rows = {words[0]: words for line in shown.stdout.splitlines() if (words := line.split())}
    # Replicas, ready, requests/min, ITL seen and predicted, ...
    assert rows["silent"][1:5] == ["A100", "1", "1", "?"]
    assert "inert" in rows["silent"][-1]
    busy = rows["hpa"]
    assert float(busy[4].replace(",", "")) > 0
    stand.emulator.set_fault(pod, None)
