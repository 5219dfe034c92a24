"""Pods of plain growth that do not start are told, and no more of the same are added."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from testbed.daemon import Daemon, holds_of, server_of
from testbed.objects import READY_AFTER, ManagedServer
from testbed.replica import Load
from testbed.stand import BUSY, Stand
from testbed.waiting import until

NAME = "grows"
FAR_BUSIER = Load(rate_rps=200.0)


@pytest.fixture(scope="module")
def loop(stand: Stand) -> Daemon:
    """Of one server whose pods never come up, but for the first."""
    with ThreadPoolExecutor(1) as beside:
        first = beside.submit(come_up, stand, "1s")
        stand.start(ManagedServer(NAME, ready_after="never"))
        first.result()
    patience = {"startup_s": 2.0, "startup_factor": 1.5}
    return stand.begin(stand.daemon({"collector": patience}))


def come_up(stand: Stand, after: str) -> None:
    """Let the models of the pods that there are, or will be, come up so much later."""
    body = {"metadata": {"annotations": {READY_AFTER: after}}}
    for pod in until(lambda: stand.fleet.pods(NAME), "a pod"):
        stand.fleet.core.patch_namespaced_pod(pod.metadata.name, stand.fleet.namespace, body)


def test_growth_whose_models_do_not_come_up_is_told_and_goes_no_further(
    stand: Stand, loop: Daemon
) -> None:
    stand.emulator.set_load(NAME, BUSY)
    loop.await_report(lambda one: "growth-not-ready" in holds_of(one, NAME), "the hold")
    wanted = stand.fleet.replicas(NAME)
    assert wanted > 1
    assert loop.metric("controlloop_holds", reason="growth-not-ready") == 1
    stand.await_event(NAME, "ChangeRefused", "growth-not-ready")
    assert any("growth-not-ready" in one["reason"] for one in loop.events("refused"))

    stand.emulator.set_load(NAME, FAR_BUSIER)
    reports = loop.await_reports(5)
    assert all(server_of(one, NAME)["desired"]["numReplicas"] == wanted for one in reports)
    assert stand.fleet.replicas(NAME) == wanted

    come_up(stand, "1s")
    until(lambda: stand.fleet.replicas(NAME) > wanted, "it grows again")
    loop.await_report(lambda one: "growth-not-ready" not in holds_of(one, NAME), "no hold")
    stand.assert_nothing_was_lowered()
