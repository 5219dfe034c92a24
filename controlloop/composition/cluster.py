"""Builds what talks to a cluster."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from controlloop.clock import Clock
from controlloop.kube.cluster import ClusterOptions
from controlloop.kube.connection import Connection, ConnectionOptions
from controlloop.kube.lease import Lease, LeaseOptions
from controlloop.kube.nodes import NodeOptions
from controlloop.kube.resources import Resource, kind_at
from controlloop.settings.tree import Settings


@dataclass(frozen=True, slots=True)
class ClusterChoice:
    """Which cluster: a kubeconfig and its context; None is what a client would take by itself."""

    kubeconfig: Path | None = None
    context: str | None = None


def connection_options(settings: Settings, choice: ClusterChoice) -> ConnectionOptions:
    """How the API server is reached."""
    return ConnectionOptions(
        kubeconfig=str(choice.kubeconfig or ""),
        context=choice.context or "",
        pool_size=settings.actuator.concurrency + 4,
        page_size=settings.cluster.page_size,
    )


def cluster_options(settings: Settings) -> ClusterOptions:
    """What of the cluster is seen."""
    return ClusterOptions(
        namespaces=settings.cluster.namespaces,
        field_manager=settings.actuator.field_manager,
        nodes=NodeOptions(
            accelerator_types=settings.capacity.accelerator_types,
            tolerated_taints=settings.capacity.tolerated_taints,
        ),
        kinds=scale_targets(settings),
    )


def scale_targets(settings: Settings) -> tuple[Resource, ...]:
    """The kinds besides Deployment whose scale is set."""
    return tuple(kind_at(kind, at) for kind, at in settings.cluster.scale_targets.items())


def build_lease(settings: Settings, connection: Connection, clock: Clock) -> Lease:
    """The Lease that one writer holds."""
    options = settings.lease
    return Lease(
        connection,
        LeaseOptions(
            namespace=options.namespace,
            name=options.name,
            identity=options.identity or socket.gethostname(),
            duration_s=options.duration_s,
            renew_every_s=options.renew_every_s,
        ),
        clock,
    )
