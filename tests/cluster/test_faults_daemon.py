"""Faults of the daemon's own: its data, its state, its clock, and its death."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import testbed
from testbed.control_plane import ADMIN
from testbed.daemon import Daemon, data_files, holds_of, server_of
from testbed.objects import ManagedServer
from testbed.proxy import Fault, Proxy
from testbed.stand import BUSY, Stand
from testbed.waiting import until

from controlloop.kube.state_config_map import ASIDE, KEY

LEARNED = "learned"
HOUR_S = 3600.0
SHIFTED = Path(testbed.__path__[0]) / "shifted.py"
CONFIG_MAP_LIMIT_BYTES = 1 << 20


def newer(kind: str) -> str:
    return json.dumps({"kind": kind, "version": 2, "what": "is not known here"})


@pytest.fixture(scope="module")
def shift_file(stand: Stand) -> Path:
    return stand.folder / "shift"


@pytest.fixture(scope="module")
def loop(stand: Stand, shift_file: Path) -> Daemon:
    """Starts on state that is torn, of a newer version, and something else."""
    stand.start(ManagedServer("chat", replicas=2), ManagedServer("code"))
    torn = base64.b64encode(b"torn").decode()
    stand.fleet.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": LEARNED},
            "binaryData": {KEY: torn},
        }
    )
    windows, history = stand.folder / "windows", stand.folder / "history"
    windows.write_text(newer("controlloop stability state"))
    history.write_bytes(b"PK\x03\x04 half a file")
    settings = {
        "estimator": {"name": "ekf", "state_config_map": f"{stand.fleet.namespace}/{LEARNED}"},
        "stability": {"state_file": str(windows)},
        "forecaster": {"name": "ensemble", "state_file": str(history)},
    }
    daemon = stand.daemon(
        settings,
        more={
            "command": (sys.executable, str(SHIFTED)),
            "environment": {"SHIFT_FILE": str(shift_file)},
        },
    )
    return stand.begin(daemon)


@pytest.fixture(autouse=True)
def nothing_lowered(stand: Stand, loop: Daemon) -> Iterator[None]:
    yield
    stand.assert_nothing_was_lowered()


def test_state_that_cannot_be_read_is_set_aside_and_told(stand: Stand, loop: Daemon) -> None:
    assert loop.metric("controlloop_moments_total", kind="StateSetAside") == 3
    logged = [one["detail"] for one in loop.events("moment") if one["kind"] == "StateSetAside"]
    for part in ("estimator", "stability", "forecaster"):
        assert any(part in one for one in logged)
        stand.await_event("controlloop", "StateSetAside", f"the {part}'s state was not usable")
    assert len(list(stand.folder.glob("windows.bad-*"))) == 1
    assert len(list(stand.folder.glob("history.bad-*"))) == 1
    until((stand.folder / "windows").exists, "state that is kept from now on")


def test_a_store_that_is_full_costs_what_was_learned_and_nothing_else(
    stand: Stand, loop: Daemon
) -> None:
    full = {
        "data": {"filler": "x" * (CONFIG_MAP_LIMIT_BYTES - 100)},
        "binaryData": {KEY: None, ASIDE: None},
    }
    stand.fleet.core.patch_namespaced_config_map(LEARNED, stand.fleet.namespace, full)
    until(lambda: loop.metric("controlloop_trouble", kind="state-not-kept") == 1, "the trouble")
    loop.await_report(lambda one: "Too long" in str(one["notes"]), "the API server's own words")
    stand.await_event("controlloop", "StateNotKept", "estimator")
    assert any(one["kind"] == "state-not-kept" for one in loop.events("trouble-began"))
    for report in loop.await_reports(2):
        assert report["succeeded"]
    nothing = {"data": None}
    stand.fleet.core.patch_namespaced_config_map(LEARNED, stand.fleet.namespace, nothing)
    stand.await_event("controlloop", "StateKeptAgain")
    assert loop.metric("controlloop_trouble", kind="state-not-kept") == 0


def test_data_that_is_broken_keeps_the_last_good_in_force_until_it_is_mended(
    stand: Stand, loop: Daemon
) -> None:
    words = "must be >= 0, got -4"
    loop.write_text("capacity-data.json", '{"count": [{"type": "A100", "count": -4}]}')
    until(lambda: loop.metric("controlloop_trouble", kind="data-bad") == 1, "the trouble")
    for report in loop.await_reports(1):
        assert report["succeeded"]
        assert server_of(report, "chat")["desired"]["numReplicas"] == 2
    ready = loop.get("/readyz")
    assert ready is not None
    assert (ready.status_code, words in ready.json()["reasons"][0]) == (503, True)
    assert words in loop.events("data-bad")[0]["problem"]
    stand.await_event("controlloop", "DataBad", words)
    loop.write_data(data_files({"A100": 64}))
    stand.await_event("controlloop", "DataGoodAgain")
    assert loop.metric("controlloop_data_problem") == 0


def test_a_clock_that_jumps_by_an_hour_stops_no_cycle_and_shrinks_nothing(
    stand: Stand, loop: Daemon, shift_file: Path
) -> None:
    for ahead_s, words in ((HOUR_S, "+3600"), (0.0, "-3600")):
        jumps = loop.metric("controlloop_moments_total", kind="ClockJumped")
        part = shift_file.with_suffix(".part")
        part.write_text(str(ahead_s))
        part.replace(shift_file)
        until(
            lambda n=jumps: loop.metric("controlloop_moments_total", kind="ClockJumped") == n + 1,  # type: ignore[misc]
            "the jump noticed",
        )
        began = time.monotonic()
        after = loop.await_reports(2)
        assert time.monotonic() - began < 20.0
        assert all(report["patches"] == [] for report in after)
        stand.await_event("controlloop", "ClockJumped", words)
        if ahead_s:
            # How old a sample is cannot be told, so that nothing is known.
            assert after[-1]["metricsProblem"]
    stand.await_work(loop)
    assert loop.metric("controlloop_leader") == 1


def test_of_two_daemons_the_leader_dies_in_the_middle_of_a_write(
    stand: Stand, loop: Daemon
) -> None:
    with closing(Proxy(stand.control_plane.url, stand.control_plane.ca_file)) as own:
        own.start()
        second = stand.daemon(kubeconfig=stand.control_plane.kubeconfig(ADMIN, own.url))
        second.start()
        until(lambda: second.events("standby"), "the second stands by")
        assert own.requests(writes=True) == []
        standby = second.get("/readyz")
        assert standby is not None
        assert standby.status_code == 200
        assert [one.metric("controlloop_leader") for one in (loop, second)] == [1, 0]
        stand.api.add_fault(
            Fault(
                lambda one: one.method == "PATCH" and one.path.endswith("/deployments/code"),
                times=1,
                before=loop.program.kill,
            )
        )
        stand.emulator.set_load("code", BUSY)
        until(lambda: not loop.program.running, "the first is dead")
        died_at = time.time()
        stand.await_growth("code")
        until(lambda: second.events("lease-taken"), "the second leads")
        # A lease of 6 s, renewed each second.
        first_write = own.requests(writes=True)[0]
        assert first_write.at - died_at > 3.0
        assert "/leases/" in first_write.path
        # What the first knew of the past, the second does not: it takes nothing away yet.
        first_report = until(second.reports, "its first report")[0]
        assert "warming-up" in holds_of(first_report, "chat")
        until(
            lambda: second.metric("controlloop_moments_total", kind="LeaseTaken") == 1,
            "the moment counted",
        )
        until(
            lambda: [one["reason"] for one in stand.events("controlloop")].count("LeaseTaken") == 2,
            "an event of each that led",
        )
        assert second.metric("controlloop_leader") == 1
        lowering = [
            request
            for request in own.requests(writes=True)
            if "/deployments/" in request.path
            and json.loads(request.body).get("spec", {}).get("replicas", 9) < 2
        ]
        assert lowering == []
        second.program.kill()
