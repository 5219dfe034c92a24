"""Faults of the API server and of what happens between a look and a write (docs/faults.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from testbed.daemon import Daemon, server_of
from testbed.objects import ManagedServer
from testbed.proxy import Fault, Request
from testbed.stand import BUSY, NEEDED_WHEN_BUSY, Stand
from testbed.waiting import until

REFUSALS = (
    ("conflict", {"status": 409}, "ConflictError"),
    ("expired", {"status": 410}, "ExpiredError"),
    ("throttled", {"status": 429, "headers": {"Retry-After": "1"}}, "UnavailableError"),
    ("broken", {"status": 500}, "UnavailableError"),
    ("stalled", {"delay_s": 30.0}, "UnavailableError"),
)
OTHERS = ("cut", "deleted", "killed", "besides")


@pytest.fixture(scope="module")
def loop(stand: Stand) -> Daemon:
    names = [name for name, _, _ in REFUSALS] + list(OTHERS)
    stand.start(*(ManagedServer(name) for name in names))
    return stand.begin(stand.daemon())


@pytest.fixture(autouse=True)
def nothing_lowered(stand: Stand, loop: Daemon) -> Iterator[None]:
    yield
    stand.assert_nothing_was_lowered()
    stand.await_work(loop)


def patches(name: str) -> Any:
    return lambda one: one.method == "PATCH" and one.path.endswith(f"/deployments/{name}")


def is_watch(request: Request) -> bool:
    return "watch=true" in request.query


def outcome_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next((one for one in report["patches"] if one["server"] == name), {})


@pytest.mark.parametrize(("name", "fault", "error"), REFUSALS)
def test_a_write_that_fails_is_told_and_made_in_a_later_cycle(
    stand: Stand, loop: Daemon, name: str, fault: dict[str, Any], error: str
) -> None:
    # Both tries of a conflict are refused: the second is after the Deployment was read again.
    times = 2 if error == "ConflictError" else 1
    said = json.dumps({"kind": "Status", "message": f"no, {name}"}).encode()
    stand.api.add_fault(Fault(patches(name), times=times, body=said, **fault))
    stand.emulator.set_load(name, BUSY)
    report = loop.await_report(lambda one: bool(outcome_of(one, name)), f"a patch of {name}")
    outcome = outcome_of(report, name)
    assert (outcome["status"], outcome["error"]) == ("failed", error)
    assert report["succeeded"]
    logged = [one for one in loop.events("patch") if one["server"] == name]
    assert (logged[0]["status"], logged[0]["error"]) == ("failed", error)
    assert loop.metric("controlloop_patches_total", status="failed", error=error) >= 1
    stand.await_event(name, "ChangeFailed", "replicas are not set")
    stand.await_growth(name)
    stand.await_event(name, "ScaledUp")


def test_a_deployment_deleted_between_look_and_write_harms_no_other(
    stand: Stand, loop: Daemon
) -> None:
    stand.api.add_fault(
        Fault(patches("deleted"), times=1, before=lambda: stand.fleet.delete("deleted"))
    )
    del stand.floors["deleted"]
    stand.emulator.set_load("deleted", BUSY)
    stand.emulator.set_load("besides", BUSY)
    report = loop.await_report(lambda one: bool(outcome_of(one, "deleted")), "its patch")
    assert outcome_of(report, "deleted")["error"] == "NotFoundError"
    assert report["succeeded"]
    assert loop.metric("controlloop_patches_total", status="failed", error="NotFoundError") == 1
    stand.await_growth("besides")


def test_watches_that_are_cut_and_lists_that_fail_end_the_cycle_and_nothing_changes(
    stand: Stand, loop: Daemon
) -> None:
    def lists(request: Request) -> bool:
        return request.method == "GET" and "/leases/" not in request.path

    with stand.api.fault(Fault(lists, status=500)):
        stand.api.cut_connections()
        stand.api.forget()
        failed = loop.await_report(lambda one: not one["succeeded"], "a cycle that fails")
        assert failed["failure"]["stage"] == "observe"
        assert failed["failure"]["error"] == "UnavailableError"
        assert loop.events("watch-cut")
        ready, alive = loop.get("/readyz"), loop.get("/healthz")
        assert ready is not None
        assert ready.status_code == 503
        assert alive is not None
        assert alive.status_code == 200
        assert loop.metric("controlloop_trouble", kind="cycle-failed") == 1
        written = [one.path for one in stand.api.requests(writes=True)]
        assert not any("/deployments/" in path for path in written)
    stand.await_event("controlloop", "CycleFailed", "UnavailableError")
    stand.await_event("controlloop", "CyclesResumed")
    assert loop.metric("controlloop_cycle_failures_total", error="UnavailableError") >= 1
    assert loop.events("trouble-began")[-1]["kind"] == "cycle-failed"
    assert loop.metric("controlloop_trouble", kind="cycle-failed") == 0


def test_a_watch_that_is_too_old_is_listed_anew(stand: Stand, loop: Daemon) -> None:
    gone = b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}\n'
    before = len(loop.events("watch-expired"))
    fault = Fault(is_watch, times=2, status=200, body=gone)
    stand.api.add_fault(fault)
    stand.api.cut_connections()
    until(lambda: len(loop.events("watch-expired")) > before, "an expired watch in the log")
    stand.emulator.set_load("cut", BUSY)
    stand.await_growth("cut")


def test_an_api_server_that_is_killed_in_the_middle_of_a_write_leaves_nothing_half_done(
    stand: Stand, loop: Daemon
) -> None:
    stand.api.add_fault(
        Fault(patches("killed"), times=1, before=stand.control_plane.kill_api_server)
    )
    stand.emulator.set_load("killed", BUSY)
    report = loop.await_report(lambda one: bool(outcome_of(one, "killed")), "the patch")
    assert outcome_of(report, "killed")["error"] == "UnavailableError"
    assert "shows in the next cycle" in outcome_of(report, "killed")["detail"]
    alive = loop.get("/healthz")
    assert alive is not None
    assert alive.status_code == 200
    stand.control_plane.start()
    stand.await_growth("killed")
    logged = [one for one in loop.events("patch") if one["server"] == "killed"]
    assert logged[0]["error"] == "UnavailableError"
    done = loop.await_report(lambda one: one["succeeded"], "a cycle that is done")
    assert server_of(done, "killed")["current"]["numReplicas"] >= NEEDED_WHEN_BUSY
    container = stand.fleet.deployment("killed").spec.template.spec.containers[0]
    assert container.args[-1] == "--max-num-seqs=32"
