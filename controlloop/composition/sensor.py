"""Builds what observes the fleet."""

from __future__ import annotations

from controlloop.clock import Clock
from controlloop.collector.options import (
    CapacityOptions,
    CapacitySource,
    CollectorOptions,
    GatewayOptions,
)
from controlloop.collector.prometheus import Access, PrometheusSource
from controlloop.collector.rate_history import PrometheusHistory
from controlloop.collector.sensor import FleetSensor
from controlloop.collector.unstarted import Patience
from controlloop.protocols import Cluster, RateHistory
from controlloop.settings.tree import Settings


def build_sensor(settings: Settings, cluster: Cluster, clock: Clock) -> FleetSensor:
    """The sensor over a cluster and, where there is one, a Prometheus.

    Raises:
        SettingsError: Prometheus' address is none.
        UnknownPluginError: an engine's dialect is not known.

    """
    capacity = CapacityOptions(
        source=CapacitySource(settings.capacity.source),
        maximum=settings.capacity.maximum,
        unplaced_after_s=settings.capacity.unplaced_after_s,
    )
    prometheus = _prometheus(settings, clock)
    return FleetSensor(cluster, prometheus, _collector_options(settings), capacity)


def build_past(settings: Settings, clock: Clock) -> RateHistory | None:
    """What knows the past; None where there is no Prometheus."""
    source = _prometheus(settings, clock)
    if source is None:
        return None
    return PrometheusHistory(source, _collector_options(settings), clock)


def _prometheus(settings: Settings, clock: Clock) -> PrometheusSource | None:
    source = settings.prometheus
    access = Access(
        token_file=source.token_file,
        username=source.username,
        password_file=source.password_file,
        ca_file=source.ca_file,
    )
    return PrometheusSource(source.url, access, clock) if source.url else None


def _collector_options(settings: Settings) -> CollectorOptions:
    source, collector, gateway = settings.prometheus, settings.collector, settings.gateway
    return CollectorOptions(
        window_s=collector.window_s,
        stale_after_s=collector.stale_after_s,
        metrics_timeout_s=collector.metrics_timeout_s,
        query_timeout_s=source.timeout_s,
        cluster_timeout_s=settings.cluster.request_timeout_s,
        dialects=collector.dialects,
        namespaces=settings.cluster.namespaces,
        matchers=collector.matchers,
        namespace_label=collector.namespace_label,
        pod_label=collector.pod_label,
        gateway=GatewayOptions(
            selector=gateway.selector,
            server_label=gateway.server_label,
            namespace_label=gateway.namespace_label,
        )
        if gateway.selector
        else None,
        siblings=settings.actuator.siblings,
        patience=Patience(collector.startup_s, collector.startup_factor),
    )
