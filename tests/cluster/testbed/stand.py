"""A loop under faults: some servers, one daemon, a proxy before each thing that may fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from testbed.control_plane import ADMIN, ControlPlane
from testbed.daemon import Daemon
from testbed.emulator import Emulator
from testbed.fleet import Fleet
from testbed.objects import GpuNode, ManagedServer
from testbed.pods import PodFollower
from testbed.prometheus import Prometheus
from testbed.proxy import Proxy, Request
from testbed.replica import Load
from testbed.waiting import until

# 26 requests/s of this form are what one replica serves within its objective.
CALM_RPS_OF_A_REPLICA = 15.0
BUSY = Load(rate_rps=60.0)
NEEDED_WHEN_BUSY = 3

QUICK: Mapping[str, Mapping[str, Any]] = {
    "cycle": {"period_s": 1.0, "deadline_s": 8.0},
    "prometheus": {"timeout_s": 1.5},
    "collector": {"window_s": 5.0, "stale_after_s": 3.0, "metrics_timeout_s": 2.0},
    "stability": {"down_window_s": 5.0},
    "lease": {"duration_s": 6, "renew_every_s": 1.0},
    "actuator": {"write_timeout_s": 1.0},
    "cluster": {"request_timeout_s": 3.0},
}


class Stand:
    """Everything of one file of tests; each test takes a server of its own.

    `daemon` sees the API server through `api` and Prometheus through `metrics`.
    """

    def __init__(
        self, control_plane: ControlPlane, programs: Mapping[str, Path], folder: Path, name: str
    ) -> None:
        self._open = ExitStack()
        self.folder = folder
        self.control_plane = control_plane
        self.fleet = Fleet(control_plane, name)
        self._open.callback(self._close_fleet)
        self.follower = PodFollower(control_plane, name)
        self._open.enter_context(closing(self.follower))
        self.emulator = Emulator(name)
        self._open.enter_context(closing(self.emulator))
        (folder / "prometheus").mkdir(parents=True)
        self.prometheus = Prometheus(programs, folder / "prometheus")
        self._open.enter_context(closing(self.prometheus))
        self.api = Proxy(control_plane.url, control_plane.ca_file)
        self._open.enter_context(closing(self.api))
        self.floors: dict[str, int] = {}

    def start(self, *servers: ManagedServer, nodes: int = 1) -> None:
        """Servers under a calm load, with a whole window of samples."""
        self.follower.start()
        self.emulator.start()
        self.follower.tell(self.emulator.set_pods)
        self.follower.tell(
            partial(self.prometheus.follow, self.emulator.namespace, self.emulator.address)
        )
        self.prometheus.start()
        self.api.start()
        self.fleet.add_nodes(GpuNode(gpus=32), count=nodes)
        self.fleet.add_servers(*servers)
        self.emulator.set_loads(
            {each.name: Load(CALM_RPS_OF_A_REPLICA * each.replicas) for each in servers}
        )
        self.floors |= {each.name: each.replicas for each in servers}
        self.fleet.await_pods_ready(sum(each.replicas for each in servers))
        count = sum(each.replicas for each in servers)
        sampled = "count(count_over_time(vllm:num_requests_running[6s]) >= 5)"
        until(lambda: self.prometheus.value(sampled) == count, "samples of every pod")

    def daemon(
        self,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        metrics: str = "",
        kubeconfig: Path | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Daemon:
        """A daemon of its own, not started; `settings` over quick ones, `more` for `Daemon`."""
        merged: dict[str, dict[str, Any]] = {key: dict(each) for key, each in QUICK.items()}
        for section, values in (settings or {}).items():
            merged.setdefault(section, {}).update(values)
        daemon = Daemon(
            self.folder / f"daemon-{len(list(self.folder.iterdir()))}",
            kubeconfig or self.control_plane.kubeconfig(ADMIN, self.api.url),
            self.fleet.namespace,
            metrics or self.prometheus.url,
            merged,
            **(more or {}),
        )
        return self._open.enter_context(closing(daemon))

    def begin(self, daemon: Daemon) -> Daemon:
        """Start it, and wait until it decides with nothing in its way."""
        daemon.start()
        daemon.await_report(_calm, "a cycle with nothing in its way")
        return daemon

    def await_work(self, daemon: Daemon) -> None:
        """Wait for a cycle that is done, with metrics: other servers may still be held."""
        daemon.await_report(
            lambda one: one["succeeded"] and not one["metricsProblem"], "a cycle that is done"
        )

    def await_growth(self, name: str) -> None:
        """Wait until the Deployment was given what it needs when it is busy."""
        until(lambda: self.fleet.replicas(name) >= NEEDED_WHEN_BUSY, f"{name} scaled up")

    def writes_to(self, name: str) -> list[Request]:
        """What the daemon asked to be changed of the Deployment `name`."""
        end = f"/deployments/{name}"
        return [one for one in self.api.requests(writes=True) if one.path.endswith(end)]

    def assert_nothing_was_lowered(self) -> None:
        """No write, carried out or not, set any server below what it began with."""
        for name, floor in self.floors.items():
            for request in self.writes_to(name):
                replicas = json.loads(request.body).get("spec", {}).get("replicas", floor)
                assert replicas >= floor, f"{name} was to get {replicas} replicas, it had {floor}"
            assert self.fleet.replicas(name) >= floor

    def events(self, name: str) -> list[dict[str, str]]:
        """Reason and note of the events on the object `name`, of whatever kind."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.fleet.namespace}/events"
        return [
            {"reason": one["reason"], "note": one["note"]}
            for one in self.fleet.get(path)["items"]
            if one["regarding"]["name"] == name
        ]

    def await_event(self, name: str, reason: str, words: str = "", timeout_s: float = 20.0) -> None:
        """Wait for an event of this reason, with these words, on the object `name`."""
        until(
            lambda: any(
                one["reason"] == reason and words in one["note"] for one in self.events(name)
            ),
            f"the event {reason} on {name}",
            timeout_s,
            0.2,
        )

    def close(self) -> None:
        """End all of it."""
        self._open.close()

    def _close_fleet(self) -> None:
        self.control_plane.start()
        self.fleet.close()


def _calm(report: dict[str, Any]) -> bool:
    unknown = {"signal-missing", "signal-stale", "inert", "warming-up", "pod-not-reporting"}
    return bool(
        report["succeeded"]
        and not report["metricsProblem"]
        and not any(
            hold["reason"] in unknown for each in report["servers"] for hold in each["holds"]
        )
    )
