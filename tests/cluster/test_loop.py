"""The closed loop on real components: metrics in, patched Deployments out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from testbed.control_plane import ControlPlane
from testbed.daemon import Daemon, data_files, holds_of, server_of
from testbed.emulator import Emulator
from testbed.fleet import Fleet
from testbed.objects import GpuNode, ManagedServer
from testbed.prometheus import Prometheus
from testbed.proxy import Proxy
from testbed.replica import Load
from testbed.waiting import until

from controlloop.api.report import Stage

# ITL 12 ms is 20 requests in service at once: about 26 requests/s of 128 in, 64 out.
CALM = Load(rate_rps=30.0)
CHAT = ManagedServer("chat", replicas=2)
CODE = ManagedServer("code", model="qwen-14b", service_class="Bronze", replicas=2)

NewDaemon = Callable[..., Daemon]


@pytest.fixture
def busy(fleet: Fleet, emulator: Emulator, prometheus: Prometheus) -> Fleet:
    """Two servers under a calm load, with a whole window of samples."""
    fleet.add_nodes(GpuNode(gpus=16), count=2)
    fleet.add_servers(CHAT, CODE)
    for server in (CHAT, CODE):
        emulator.set_load(server.name, CALM)
    for server in (CHAT, CODE):
        fleet.await_ready(server.name, server.replicas)
    until(
        lambda: (
            prometheus.value("min(count_over_time(vllm:num_requests_running[10s]))") == 10
            and prometheus.value("count(vllm:num_requests_running)") == 4
        ),
        "ten seconds of samples of four pods",
    )
    return fleet


def steady(daemon: Daemon, name: str = "chat") -> None:
    """Wait for a cycle in which nothing is held and nothing changes."""
    daemon.await_report(
        lambda report: report["succeeded"] and server_of(report, name)["action"] == "keep",
        f"a cycle that keeps {name}",
    )


def test_load_rises_and_falls_and_the_replicas_follow(
    busy: Fleet, emulator: Emulator, new_daemon: NewDaemon
) -> None:
    daemon = new_daemon()
    daemon.start()
    steady(daemon)
    emulator.set_load("chat", replace(CALM, rate_rps=3 * CALM.rate_rps))
    first, second = daemon.await_reports(2)
    assert "scale-up" in (server_of(first, "chat")["action"], server_of(second, "chat")["action"])
    until(lambda: busy.replicas("chat") >= 4, "replicas for three times the load")
    busy.await_ready("chat", busy.replicas("chat"))
    assert busy.replicas("code") == 2
    emulator.set_load("chat", CALM)
    until(lambda: busy.replicas("chat") == 2, "replicas for the old load", timeout_s=60.0)
    busy.await_ready("chat", 2)
    messages = [
        event.message
        for event in busy.core.list_namespaced_event(busy.namespace).items
        if event.involved_object.name == "chat"
    ]
    assert any("req/min" in message for message in messages)


def test_prometheus_dead_for_three_cycles_changes_nothing_and_is_named(
    busy: Fleet, prometheus: Prometheus, emulator: Emulator, new_daemon: NewDaemon
) -> None:
    daemon = new_daemon()
    daemon.start()
    steady(daemon)
    before = busy.deployment("chat").metadata.resource_version
    prometheus.kill()
    emulator.set_load("chat", Load(rate_rps=1.0))
    blind = daemon.await_reports(4)[1:]
    for report in blind:
        assert report["succeeded"]
        assert report["patches"] == []
        assert report["metricsProblem"]
        assert holds_of(report, "chat") & {"signal-missing", "inert"}
        assert server_of(report, "chat")["desired"]["numReplicas"] == 2
    assert busy.deployment("chat").metadata.resource_version == before
    ready, alive = daemon.get("/readyz"), daemon.get("/healthz")
    assert ready is not None
    assert (ready.status_code, ready.json()["ok"]) == (503, False)
    assert alive is not None
    assert alive.status_code == 200
    assert daemon.metric("controlloop_metric_source_problem") == 1
    prometheus.start()
    until(lambda: busy.replicas("chat") == 1, "one replica once metrics are back", timeout_s=90.0)
    mended = daemon.get("/readyz")
    assert mended is not None
    assert mended.status_code == 200


def test_a_dry_run_prints_the_decision_and_leaves_every_resource_version(
    busy: Fleet, emulator: Emulator, new_daemon: NewDaemon
) -> None:
    emulator.set_load("chat", replace(CALM, rate_rps=4 * CALM.rate_rps))
    daemon = new_daemon()
    until(lambda: "scale-up" in daemon.once("--dry-run").stdout, "a decision to scale up", 60.0)
    before = busy.resource_versions()
    done = daemon.once("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "scale-up" in done.stdout
    assert busy.resource_versions() == before


def test_a_second_run_with_nothing_changed_sends_no_write(
    busy: Fleet, api_proxy: Proxy, control_plane: ControlPlane, new_daemon: NewDaemon
) -> None:
    daemon = new_daemon(control_plane.kubeconfig("admin", api_proxy.url))
    daemon.start()
    steady(daemon)
    api_proxy.forget()
    daemon.await_reports(2)
    writes = [each.path for each in api_proxy.requests(writes=True)]
    assert [path for path in writes if "/leases/" not in path] == []
    assert writes, "the lease is renewed all the while"


def test_less_capacity_evicts_nobody(busy: Fleet, new_daemon: NewDaemon) -> None:
    daemon = new_daemon()
    daemon.start()
    steady(daemon)
    daemon.write_data(data_files({"A100": 1}))
    for report in daemon.await_reports(3):
        assert report["patches"] == []
    assert (busy.replicas("chat"), busy.replicas("code")) == (2, 2)


def test_sigterm_ends_it_cleanly_and_gives_the_lease_up(busy: Fleet, new_daemon: NewDaemon) -> None:
    daemon = new_daemon()
    daemon.start()
    steady(daemon)
    assert daemon.program.terminate() == 0
    lease = busy.control_plane.get(
        f"/apis/coordination.k8s.io/v1/namespaces/{busy.namespace}/leases/controlloop"
    )
    assert not lease["spec"].get("holderIdentity")
    assert daemon.events("stopped")


def test_each_stages_time_is_in_the_metrics_and_invoke_runs_a_cycle_now(
    busy: Fleet, new_daemon: NewDaemon
) -> None:
    daemon = new_daemon(settings={"cycle": {"period_s": 0.0}})
    daemon.start()
    invoked = until(
        lambda: (
            (answer := daemon.get("/invoke")) is not None and answer.status_code == 200 and answer
        ),
        "the lease",
    )
    assert isinstance(invoked, object)
    report = invoked.json()  # type: ignore[union-attr]  # not False once awaited
    assert {each["server"] for each in report["servers"]} == {"chat", "code"}
    for stage in report["stageSeconds"]:
        assert daemon.metric("controlloop_stage_seconds_count", stage=stage) >= 1
    # Only a dry run compares itself with what happened.
    done = [str(stage) for stage in Stage if stage is not Stage.SHADOW]
    assert list(report["stageSeconds"]) == done
