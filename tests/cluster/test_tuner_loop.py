"""A daemon that is told wrong parameters finds those of the servers that it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from testbed.daemon import Daemon, data_files, server_of
from testbed.emulator import Emulator
from testbed.fleet import Fleet
from testbed.objects import GpuNode, ManagedServer
from testbed.prometheus import Prometheus
from testbed.replica import Load
from testbed.waiting import until

TRUTH = (8.0, 0.2, 5.0, 0.005)
"""What the emulator's replicas are, and what the data of the testbed says by default."""
CONFIGURED = {
    "slow-8b": tuple(1.4 * value for value in TRUTH),
    "fast-8b": tuple(value / 1.4 for value in TRUTH),
    # What `tune seed` makes of measured kernels for Llama-3.1-8B on an A100.
    "seeded-8b": (11.0, 0.195, 63.7, 0.00515),
}
SERVERS = tuple(ManagedServer(model.removesuffix("-8b"), model, replicas=3) for model in CONFIGURED)
LOAD = Load(rate_rps=55.0)
CYCLES = 10
CAPACITY = {"A100": 64}
PLAIN: dict[str, dict[str, Any]] = {
    "forecaster": {"name": "last-value"},
    "cycle": {"period_s": 4.0, "deadline_s": 4.0},
    "collector": {"window_s": 4.0, "stale_after_s": 3.0, "metrics_timeout_s": 3.0},
    "stability": {"down_window_s": 0.0},
}
"""Decisions that rest on the load as it is, and, as by default, a window as long as a period."""


def data(parameters: dict[str, tuple[float, ...]]) -> dict[str, Any]:
    """The testbed's data with these parameters of each model."""
    files = data_files(CAPACITY, tuple(CONFIGURED))
    for entry in files["model-data.json"]["models"]:
        alpha, beta, gamma, delta = parameters.get(entry["name"], TRUTH)
        entry["decodeParms"] = {"alpha": alpha, "beta": beta}
        entry["prefillParms"] = {"gamma": gamma, "delta": delta}
    return files


def replicas(report: dict[str, Any]) -> dict[str, int]:
    """What is decided for each server."""
    return {
        server.name: server_of(report, server.name)["desired"]["numReplicas"] for server in SERVERS
    }


@pytest.fixture
def busy(fleet: Fleet, emulator: Emulator, prometheus: Prometheus) -> Fleet:
    """Three servers under load, with a whole window of samples."""
    fleet.add_nodes(GpuNode(gpus=32), count=2)
    fleet.add_servers(*SERVERS)
    emulator.set_loads({server.name: LOAD for server in SERVERS})
    for server in SERVERS:
        fleet.await_ready(server.name, server.replicas)
    until(
        lambda: (
            prometheus.value("min(count_over_time(vllm:num_requests_running[10s]))") == 10
            and prometheus.value("count(vllm:num_requests_running)") == 9
        ),
        "ten seconds of samples of nine pods",
    )
    return fleet


def test_after_ten_cycles_decisions_are_those_made_with_the_truth(
    busy: Fleet, new_daemon: Callable[..., Daemon]
) -> None:
    def decided(parameters: dict[str, tuple[float, ...]]) -> dict[str, int]:
        other = new_daemon(settings=PLAIN, capacity=CAPACITY)
        other.write_data(data(parameters))
        done = other.once("--dry-run")
        assert done.returncode == 0, done.stderr
        return replicas(other.reports()[-1])

    wrong, right = decided(CONFIGURED), decided({})
    assert all(wrong[name] != right[name] for name in right)

    learning = {"name": "ekf", "mode": "apply"}
    daemon = new_daemon(settings=PLAIN | {"estimator": learning}, capacity=CAPACITY)
    daemon.write_data(data(CONFIGURED))
    daemon.start()
    # What the wrong parameters ask for is begun: a change under way teaches nothing.
    daemon.await_report(
        lambda report: all(server_of(report, one.name)["action"] == "keep" for one in SERVERS),
        "a cycle that changes nothing",
    )
    daemon.await_reports(CYCLES)
    for report in daemon.await_reports(2):
        assert report["succeeded"]
        assert replicas(report) == right
    for estimate in report["estimates"]:
        assert estimate["plannedWith"] in {"learned", "last-trusted"}
        assert estimate["parameters"]["alpha_ms"] == pytest.approx(TRUTH[0], rel=0.1)
