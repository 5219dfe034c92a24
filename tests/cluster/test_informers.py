"""Lists kept up to date by watches, against the real API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from testbed.control_plane import ADMIN, ControlPlane
from testbed.daemon import Daemon
from testbed.fleet import Fleet
from testbed.objects import GpuNode, ManagedServer
from testbed.prometheus import Prometheus
from testbed.proxy import Fault, Proxy, Request
from testbed.waiting import until

from controlloop.errors import ClusterError
from controlloop.kube.cluster import ClusterOptions, KubeCluster
from controlloop.kube.connection import ConnectionOptions, connect
from controlloop.kube.informers import Informers

TIMEOUT_S = 10.0


def is_watch(request: Request) -> bool:
    return "watch=true" in request.query


class Watched:
    """A cluster read by informers through a proxy that counts."""

    def __init__(self, cluster: KubeCluster, proxy: Proxy) -> None:
        self.cluster = cluster
        self.proxy = proxy

    def replicas(self) -> dict[str, tuple[int, int]]:
        """Asked for and ready, by name."""
        found = self.cluster.workloads(TIMEOUT_S)
        return {each.ref.name: (each.replicas, each.ready_replicas) for each in found}

    def asked(self) -> list[str]:
        """Requests since the last `forget` but watches and lists of kinds that are not there."""
        return [
            one.path
            for one in self.proxy.requests()
            if not is_watch(one) and "scaledobjects" not in one.path
        ]


@pytest.fixture
def watched(fleet: Fleet, api_proxy: Proxy) -> Iterator[Watched]:
    kubeconfig = fleet.control_plane.kubeconfig(ADMIN, api_proxy.url)
    with closing(connect(ConnectionOptions(str(kubeconfig)))) as connection:
        informers = Informers(connection)
        with closing(informers):
            options = ClusterOptions((fleet.namespace,))
            yield Watched(KubeCluster(connection, options, informers), api_proxy)


def test_what_changes_shows_without_another_list(fleet: Fleet, watched: Watched) -> None:
    fleet.add_nodes(GpuNode(gpus=8))
    fleet.add_servers(ManagedServer("a", replicas=1))
    watched.replicas()
    until(lambda: watched.replicas() == {"a": (1, 1)}, "the first list and its watch")
    watched.proxy.forget()
    fleet.add_servers(ManagedServer("b", replicas=2))
    fleet.scale("a", 3)
    until(lambda: watched.replicas() == {"a": (3, 3), "b": (2, 2)}, "both changes")
    fleet.delete("b")
    until(lambda: watched.replicas() == {"a": (3, 3)}, "the deletion")
    assert watched.asked() == []


def test_a_watch_that_is_cut_is_listed_anew_and_followed_again(
    fleet: Fleet, watched: Watched
) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    until(lambda: watched.replicas() == {"a": (0, 0)}, "the first list")
    until(lambda: sum(map(is_watch, watched.proxy.requests())) >= 4, "watches")
    not_now = Fault(is_watch, status=503)
    with watched.proxy.fault(not_now):
        watched.proxy.cut_connections()
        fleet.scale("a", 2)
        until(lambda: watched.replicas()["a"][0] == 2, "the change, by a list")
        assert watched.asked()

    def without_a_list() -> bool:
        watched.proxy.forget()
        watched.replicas()
        return watched.asked() == []

    until(without_a_list, "a read without a list")
    fleet.scale("a", 5)
    until(lambda: watched.replicas()["a"][0] == 5, "the change, by the watch")


def test_an_api_server_that_is_gone_is_not_covered_up_by_what_is_remembered(
    fleet: Fleet, control_plane: ControlPlane, watched: Watched
) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    until(lambda: watched.replicas() == {"a": (0, 0)}, "the first list")
    until(lambda: sum(map(is_watch, watched.proxy.requests())) >= 4, "watches")
    control_plane.kill_api_server()

    def refused() -> bool:
        try:
            watched.replicas()
        except ClusterError:
            return True
        return False

    until(refused, "an error instead of old facts")
    control_plane.start()
    until(lambda: not refused(), "it is read again")


def test_a_version_that_is_too_old_to_go_on_from_is_listed_anew(
    fleet: Fleet, watched: Watched
) -> None:
    fleet.add_servers(ManagedServer("a", replicas=0))
    gone = b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}\n'
    with watched.proxy.fault(Fault(is_watch, times=8, status=200, body=gone)):
        until(lambda: watched.replicas() == {"a": (0, 0)}, "the list")
    fleet.scale("a", 4)
    until(lambda: watched.replicas()["a"][0] == 4, "the change")


def test_a_steady_cycle_asks_the_api_server_for_next_to_nothing(
    fleet: Fleet,
    api_proxy: Proxy,
    prometheus: Prometheus,
    new_daemon: Callable[..., Daemon],
) -> None:
    fleet.add_servers(*(ManagedServer(f"s{number}", replicas=0) for number in range(20)))
    daemon = new_daemon(fleet.control_plane.kubeconfig(ADMIN, api_proxy.url), prometheus.url)
    daemon.start()
    for _ in range(3):
        daemon.await_report(lambda report: report["succeeded"], "a cycle")
    api_proxy.forget()
    before = len(daemon.reports())
    until(lambda: len(daemon.reports()) >= before + 3, "three more cycles")
    asked = [
        one.path for one in api_proxy.requests() if not is_watch(one) and "/leases" not in one.path
    ]
    cycles = len(daemon.reports()) - before
    assert len(asked) <= 4 * cycles, asked
    assert not any("deployments" in path or "pods" in path for path in asked)
