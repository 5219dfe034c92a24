"""What others set is left alone and named; and a daemon that dies anywhere loses none of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testbed.daemon import Daemon, holds_of, server_of
from testbed.objects import ManagedServer
from testbed.proxy import Fault, Request
from testbed.stand import BUSY, Stand
from testbed.waiting import until

WINDOWS, OTHERS = "windows", "others"


@pytest.fixture(scope="module")
def loop(stand: Stand) -> Daemon:
    stand.start(
        ManagedServer("hand"),
        ManagedServer("tool"),
        ManagedServer("kept"),
        ManagedServer("bounded"),
        ManagedServer("dies", replicas=2),
    )
    home = stand.fleet.namespace
    daemon = stand.daemon(
        {
            "stability": {"state_config_map": f"{home}/{WINDOWS}"},
            "actuator": {
                "respect_s": 6.0,
                "revert_limit": 2,
                "revert_backoff_s": 600.0,
                "state_config_map": f"{home}/{OTHERS}",
            },
        }
    )
    return stand.begin(daemon)


def test_what_a_person_scales_is_left_alone_for_a_while_and_named(
    stand: Stand, loop: Daemon
) -> None:
    stand.fleet.kubectl("scale", "deployment", "hand", "--replicas=4")
    report = loop.await_report(lambda one: "manual-change" in holds_of(one, "hand"), "the hold")
    (hold,) = (
        one for one in server_of(report, "hand")["holds"] if one["reason"] == "manual-change"
    )
    assert hold["detail"].startswith("kubectl set replicas from 1 to 4")
    assert loop.metric("controlloop_interventions", manager="kubectl", kind="manual") == 1
    stand.await_event("hand", "ChangeRefused", "kubectl set replicas")
    assert [one["manager"] for one in loop.events("intervention")] == ["kubectl"]
    assert stand.writes_to("hand") == []
    until(lambda: stand.fleet.replicas("hand") == 1, "what is needed, once the time is up")
    assert loop.metric("controlloop_interventions", manager="kubectl") == 0


def test_a_tool_that_puts_ours_back_is_named_and_not_fought(stand: Stand, loop: Daemon) -> None:
    stand.emulator.set_load("tool", BUSY)
    for _ in range(2):
        until(lambda: stand.fleet.replicas("tool") > 1, "our write", 30.0, 0.05)
        back = json.dumps({"spec": {"replicas": 1}})
        stand.fleet.kubectl("patch", "deployment", "tool", "--field-manager=gitops", "-p", back)
    report = loop.await_report(lambda one: "reverted" in holds_of(one, "tool"), "the hold")
    (hold,) = (one for one in server_of(report, "tool")["holds"] if one["reason"] == "reverted")
    assert hold["detail"].startswith("gitops put our replicas back 2 times on end")
    stand.await_event("tool", "ChangeRefused", "gitops put our replicas back")
    assert loop.metric("controlloop_interventions", manager="gitops", kind="reverting") == 1
    written = len(stand.writes_to("tool"))
    loop.await_reports(8)
    assert len(stand.writes_to("tool")) == written == 2
    assert stand.fleet.replicas("tool") == 1


def test_the_maintenance_switch_is_thrown_while_it_runs(stand: Stand, loop: Daemon) -> None:
    key = "inferno.platform.ai/maintenance"
    annotate = ("annotate", "lease", "controlloop")
    stand.fleet.kubectl(*annotate, f"{key}=cables are changed")
    loop.await_report(lambda one: one["maintenance"] == "Lease: cables are changed", "maintenance")
    stand.emulator.set_load("kept", BUSY)
    report = loop.await_report(
        lambda one: server_of(one, "kept")["action"] == "scale-up", "a decision"
    )
    assert {one["status"] for one in report["patches"]} == {"not-sent"}
    loop.await_reports(2)
    assert stand.writes_to("kept") == []
    assert loop.metric("controlloop_trouble", kind="maintenance") == 1
    ready = loop.get("/readyz")
    assert ready is not None
    assert ready.json()["remarks"] == ["maintenance, nothing is written: Lease: cables are changed"]
    stand.await_event("controlloop", "MaintenanceBegan", "cables are changed")
    stand.fleet.kubectl(*annotate, f"{key}-")
    stand.await_growth("kept")
    stand.await_event("controlloop", "MaintenanceEnded")


def test_a_quota_on_cards_bounds_growth_before_any_pod_is_refused(
    stand: Stand, loop: Daemon
) -> None:
    def at_rest() -> int:
        """How many pods there are, once nothing was written for longer than the down window."""
        written = [one["patches"] for one in loop.await_reports(8)]
        wanted = sum(stand.fleet.replicas(name) for name in stand.floors)
        pods = len(stand.fleet.pods())
        return pods if pods == wanted and not any(written) else 0

    few = until(at_rest, "no server grows or shrinks") + 1
    stand.fleet.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few"},
            "spec": {"hard": {"requests.nvidia.com/gpu": str(few)}},
        }
    )
    quotas = stand.fleet.core.list_namespaced_resource_quota
    until(lambda: quotas(stand.fleet.namespace).items[0].status.used, "the quota counted")
    loop.await_reports(2)
    stand.emulator.set_load("bounded", BUSY)
    report = loop.await_report(lambda one: "quota" in holds_of(one, "bounded"), "the hold")
    assert "ResourceQuota" in server_of(report, "bounded")["reason"]
    until(lambda: stand.fleet.replicas("bounded") == 2, "what the quota leaves")
    loop.await_report(
        lambda one: server_of(one, "bounded")["action"] == "hold", "no more than that"
    )
    assert "pods-refused" not in holds_of(loop.reports()[-1], "bounded")
    stand.fleet.kubectl("delete", "resourcequota", "few")
    stand.await_growth("bounded")


def test_a_daemon_that_is_killed_anywhere_starts_again_with_what_it_knew(
    stand: Stand, loop: Daemon
) -> None:
    """After the test before: what the tool did is what must not be forgotten."""

    def of(name: str, **what: Any) -> Fault:
        def matches(request: Request) -> bool:
            return request.method == "PATCH" and request.path.endswith(f"/{name}")

        fault = Fault(matches, times=1, **what)
        stand.api.add_fault(fault)
        return fault

    def die(fault: Fault) -> None:
        until(lambda: fault.times == 0, "the request")
        loop.program.kill()
        until(lambda: not loop.program.running, "the daemon dead")

    def rise() -> None:
        loop.start()
        report = loop.await_report(lambda one: one["succeeded"], "a cycle")
        assert "reverted" in holds_of(report, "tool")
        assert not any("no good" in note or "anew" in note for note in report["notes"])

    die(of(f"configmaps/{WINDOWS}", before=loop.program.kill, cut=True))
    rise()
    die(of(f"configmaps/{WINDOWS}", cut_after=True))
    rise()
    lost = of("deployments/dies", before=loop.program.kill, cut=True)
    stand.emulator.set_load("dies", BUSY)
    die(lost)
    assert stand.fleet.replicas("dies") == 2
    made = of("deployments/dies", cut_after=True)
    loop.start()
    die(made)
    # The proxy counts the request as it comes; the API server answers it a little later.
    stand.await_growth("dies")
    rise()
    # It knows the write for its own, although it never heard that it was made.
    assert "manual-change" not in holds_of(loop.reports()[-1], "dies")
    assert stand.fleet.replicas("tool") == 1
    stand.assert_nothing_was_lowered()
