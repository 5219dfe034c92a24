"""The work of a cycle on a fleet of 200 Deployments, counted where it arrives."""

from __future__ import annotations

import json
from collections.abc import Callable

from testbed.control_plane import ControlPlane
from testbed.daemon import Daemon
from testbed.emulator import Emulator
from testbed.fleet import Fleet
from testbed.objects import GpuNode, ManagedServer
from testbed.prometheus import Prometheus
from testbed.proxy import Proxy
from testbed.replica import Load
from testbed.waiting import until

SERVERS = 200
MOST_QUERIES = 12


def test_200_deployments_cost_no_more_queries_than_one(
    fleet: Fleet,
    emulator: Emulator,
    prometheus: Prometheus,
    prometheus_proxy: Proxy,
    api_proxy: Proxy,
    control_plane: ControlPlane,
    new_daemon: Callable[..., Daemon],
) -> None:
    fleet.add_nodes(GpuNode(gpus=64), count=4)
    names = [f"server-{number:03}" for number in range(SERVERS)]
    fleet.add_servers(*(ManagedServer(name) for name in names))
    for name in names:
        emulator.set_load(name, Load(rate_rps=5.0))
    fleet.await_pods_ready(SERVERS)
    until(
        lambda: (
            prometheus.value("count(count_over_time(vllm:num_requests_running[10s]) >= 8)")
            == SERVERS
        ),
        "samples of all pods",
        timeout_s=120.0,
    )
    daemon = new_daemon(
        control_plane.kubeconfig("admin", api_proxy.url),
        prometheus_proxy.url,
        capacity={"A100": 256},
    )
    before = fleet.resource_versions()
    done = daemon.once("--dry-run", "--format", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["servers"]) == SERVERS
    states = {server["signals"]["arrivalRate"]["state"] for server in report["servers"]}
    assert states == {"present"}
    queries = [each.path for each in prometheus_proxy.requests()]
    assert 0 < len(queries) <= MOST_QUERIES, queries
    assert len(api_proxy.requests()) <= MOST_QUERIES
    assert api_proxy.requests(writes=True) == []
    assert fleet.resource_versions() == before
