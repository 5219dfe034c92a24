"""Builds the doctor."""

from __future__ import annotations

from pathlib import Path

from controlloop.clock import SystemClock
from controlloop.composition.cluster import (
    ClusterChoice,
    cluster_options,
    connection_options,
    scale_targets,
)
from controlloop.composition.sensor import build_sensor
from controlloop.composition.source import build_source
from controlloop.composition.state import config_maps
from controlloop.daemon.doctor import Doctor
from controlloop.kube.access import ApiAccount, Needs, rights
from controlloop.kube.cluster import KubeCluster
from controlloop.kube.connection import connect
from controlloop.settings.tree import Settings


def build_doctor(settings: Settings, config: Path, choice: ClusterChoice) -> Doctor:
    """Examines what `build_daemon` would run on.

    Raises:
        SettingsError: a setting names what cannot be had.
        UnknownPluginError: a plug-in is not known.

    """
    clock, writes = SystemClock(), settings.actuator.mode == "apply"
    connection = connect(connection_options(settings, choice))
    sensor = build_sensor(settings, KubeCluster(connection, cluster_options(settings)), clock)
    leased = writes and settings.lease.enabled
    lease = (settings.lease.namespace, settings.lease.name) if leased else None
    needs = Needs(
        namespaces=settings.cluster.namespaces,
        writes=settings.actuator.mode != "dry-run",
        events=settings.actuator.events and writes,
        nodes=settings.capacity.source == "nodes",
        lease=lease,
        kept=config_maps(settings),
        keeps=writes,
        kinds=scale_targets(settings),
        objects=settings.data.namespace if settings.data.source == "crds" else "",
        watches=settings.cluster.watch,
        siblings=settings.actuator.siblings,
    )
    queries = sensor.queries if settings.prometheus.url else {}
    timeout_s = settings.cluster.request_timeout_s
    source = build_source(settings, config, connection)
    account = ApiAccount(connection)
    return Doctor(account, rights(needs), source, sensor, queries, clock, timeout_s, lease)
