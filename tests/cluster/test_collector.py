"""The collector on a real cluster and a real Prometheus, with every fault that pods can have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from testbed.control_plane import ADMIN
from testbed.emulator import Emulator, Fault, dead, not_a_number, without_series
from testbed.fleet import Fleet
from testbed.objects import GpuNode, ManagedServer
from testbed.prometheus import Prometheus
from testbed.proxy import Proxy
from testbed.replica import Load
from testbed.waiting import until

from controlloop.api.holds import HoldReason
from controlloop.api.observation import ServerObservation
from controlloop.api.readings import Missing, Present
from controlloop.clock import Deadline, SystemClock
from controlloop.collector.options import CollectorOptions, GatewayOptions
from controlloop.collector.prometheus import PrometheusSource
from controlloop.collector.sensor import FleetSensor
from controlloop.kube.cluster import ClusterOptions, KubeCluster
from controlloop.kube.connection import ConnectionOptions, connect

RATE_RPS = 30.0
CHAT = ManagedServer("chat", replicas=3)
OPTIONS = CollectorOptions(window_s=12.0, stale_after_s=4.0)
SETTLE_S = 60.0


@dataclass
class Watch:
    """Looks at the server `chat` as a daemon does."""

    sensor: FleetSensor
    seen: list[ServerObservation] = field(default_factory=list)

    def look(self) -> ServerObservation:
        (server,) = self.sensor.observe(time.time(), Deadline(SystemClock(), 30.0)).servers
        self.seen.append(server)
        return server

    def reasons(self) -> set[HoldReason]:
        return {hold.reason for hold in self.look().holds}

    def until_known(self) -> None:
        def known() -> bool:
            server = self.look()
            rate = server.signals.arrival_rate_rps
            return not server.holds and isinstance(rate, Present) and rate.value > 0

        until(known, "everything known of chat", SETTLE_S, 0.3)

    def until_held(self, reason: HoldReason) -> None:
        until(lambda: reason in self.reasons(), f"a hold for {reason}", SETTLE_S, 0.3)

    def rate_rps(self) -> float:
        rate = self.look().signals.arrival_rate_rps
        assert isinstance(rate, Present), rate
        return rate.value


@pytest.fixture
def watch(
    fleet: Fleet, emulator: Emulator, prometheus: Prometheus, prometheus_proxy: Proxy
) -> Iterator[Watch]:
    """Three pods under a load that they can serve, all of it known."""
    fleet.add_nodes(GpuNode(gpus=16))
    fleet.add_servers(CHAT)
    fleet.await_ready("chat", 3)
    emulator.set_load("chat", Load(rate_rps=RATE_RPS))
    kubeconfig = str(fleet.control_plane.kubeconfig(ADMIN))
    connection = connect(ConnectionOptions(kubeconfig=kubeconfig))
    cluster = KubeCluster(connection, ClusterOptions(namespaces=(fleet.namespace,)))
    source = PrometheusSource(prometheus_proxy.url)
    watch = Watch(FleetSensor(cluster, source, OPTIONS))
    watch.until_known()
    yield watch
    source.close()
    connection.close()


def near(rate_rps: float) -> bool:
    return rate_rps == pytest.approx(RATE_RPS, rel=0.15)


@pytest.mark.parametrize("fault", [without_series, not_a_number, dead])
def test_a_pod_that_stops_reporting_is_held_and_its_share_is_not_lost(
    watch: Watch, fleet: Fleet, emulator: Emulator, fault: Fault
) -> None:
    until(lambda: near(watch.rate_rps()), "the whole load seen", SETTLE_S, 0.3)
    emulator.set_fault(fleet.ready_pods("chat")[0], fault)
    watch.until_held(HoldReason.POD_NOT_REPORTING)
    for _ in range(20):
        assert near(watch.rate_rps())
        time.sleep(0.3)
    server = watch.look()
    assert (server.signals.reported_pods, server.signals.expected_pods) == (2, 3)


def test_a_restart_is_noticed_by_its_counters(
    watch: Watch, fleet: Fleet, emulator: Emulator
) -> None:
    emulator.restart(fleet.ready_pods("chat")[0])
    watch.until_held(HoldReason.POD_RESTARTED)
    watch.until_known()


def test_a_restart_is_noticed_by_the_cluster(watch: Watch, fleet: Fleet) -> None:
    fleet.restart_container(fleet.ready_pods("chat")[0])
    watch.until_held(HoldReason.POD_RESTARTED)


def test_scaling_neither_multiplies_nor_hides_the_load(watch: Watch, fleet: Fleet) -> None:
    until(lambda: near(watch.rate_rps()), "the whole load seen", SETTLE_S, 0.3)
    watch.seen.clear()
    fleet.scale("chat", 6)
    fleet.await_ready("chat", 6)
    watch.until_known()
    fleet.scale("chat", 2)
    watch.until_held(HoldReason.POD_GONE)
    watch.until_known()
    rates = [one.signals.arrival_rate_rps for one in watch.seen]
    known = [rate.value for rate in rates if isinstance(rate, Present)]
    assert len(known) == len(rates)
    assert max(known) < 1.5 * RATE_RPS
    # What left with a pod may be missing while that pod's absence forbids a decrease, only then.
    acted_on = [
        one.signals.arrival_rate_rps.value
        for one in watch.seen
        if not one.holds and isinstance(one.signals.arrival_rate_rps, Present)
    ]
    assert min(known) > 0.6 * RATE_RPS
    assert min(acted_on) > 0.75 * RATE_RPS


def test_a_server_whose_pods_are_all_gone_has_no_load_of_zero(watch: Watch, fleet: Fleet) -> None:
    for name in fleet.ready_pods("chat"):
        fleet.core.delete_namespaced_pod(name, fleet.namespace)
    watch.until_held(HoldReason.POD_GONE)
    for server in watch.seen:
        rate = server.signals.arrival_rate_rps
        assert server.holds or (isinstance(rate, Present) and rate.value > 0)


def test_a_queue_is_seen_while_it_builds_and_the_gateway_agrees(
    watch: Watch, fleet: Fleet, emulator: Emulator, prometheus: Prometheus
) -> None:
    much_rps = 10 * RATE_RPS
    emulator.set_load("chat", Load(rate_rps=much_rps))
    watch.until_held(HoldReason.REQUESTS_WAITING)
    until(lambda: watch.rate_rps() > 0.95 * much_rps, "the overload seen", SETTLE_S, 0.3)
    server = watch.look()
    completions = server.signals.completion_rate_rps
    assert isinstance(completions, Present)
    assert completions.value < 0.5 * much_rps
    gateway = GatewayOptions(selector="gateway_requests_total", server_label="deployment")
    options = CollectorOptions(window_s=12.0, stale_after_s=4.0, gateway=gateway)
    connection = connect(ConnectionOptions(kubeconfig=str(fleet.control_plane.kubeconfig(ADMIN))))
    cluster = KubeCluster(connection, ClusterOptions(namespaces=(fleet.namespace,)))
    source = PrometheusSource(prometheus.url)
    by_gateway = Watch(FleetSensor(cluster, source, options))
    try:
        until(lambda: by_gateway.rate_rps() > 0.95 * much_rps, "the gateway's count", SETTLE_S, 0.3)
        assert by_gateway.rate_rps() == pytest.approx(much_rps, rel=0.05)
        assert by_gateway.reasons() == {HoldReason.REQUESTS_WAITING}
    finally:
        source.close()
        connection.close()


def test_a_prometheus_that_dies_is_named_and_recovered_from(
    watch: Watch, prometheus: Prometheus
) -> None:
    prometheus.kill()
    server = watch.look()
    assert isinstance(server.signals.arrival_rate_rps, Missing)
    assert {hold.reason for hold in server.holds} == {HoldReason.SIGNAL_MISSING}
    prometheus.start()
    watch.until_known()


def test_a_look_costs_no_more_queries_than_signals(watch: Watch, prometheus_proxy: Proxy) -> None:
    prometheus_proxy.forget()
    watch.look()
    assert 0 < len(prometheus_proxy.requests()) <= 12
