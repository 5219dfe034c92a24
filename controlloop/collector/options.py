"""What the collector is told: windows, time-outs, where series are found, where cards are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from controlloop.collector.unstarted import Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """A counter of arrivals kept by a gateway in front of the servers.

    Attributes:
        selector: PromQL selector of the counter, as `requests_total` or `a_total{b="c"}`.
        server_label: the label that names the server, or its Deployment.
        namespace_label: the label that names the namespace of that Deployment.

    """

    selector: str
    server_label: str
    namespace_label: str = "namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorOptions:
    """How the fleet is observed.

    Attributes:
        window_s: the time over which rates and means are taken, seconds; it must hold at least
            two scrapes.
        stale_after_s: the age, seconds, from which a sample is too old to act on, and the
            length from which a gap between samples counts as not reporting.
        metrics_timeout_s: all queries of one cycle together, seconds; at most half of what is
            left of the cycle is spent on them.
        query_timeout_s: one query, seconds.
        cluster_timeout_s: one read of the Kubernetes API, seconds.
        dialects: names of the engines' dialects (`collector.dialects`), best known first.
        namespaces: only series of these namespaces are asked for; empty: of all.
        matchers: further PromQL label matchers, as `job="vllm"`; empty: none.
        namespace_label: the label of the series that names the pod's namespace.
        pod_label: the label of the series that names the pod.
        gateway: the arrival counter of a gateway; None: there is none.
        siblings: Deployments that the loop made beside a server's own are part of the server;
            without, each is a workload of its own.
        patience: how long a pod may take to become ready before more of them are no help.

    """

    window_s: float = 60.0
    stale_after_s: float = 45.0
    metrics_timeout_s: float = 20.0
    query_timeout_s: float = 10.0
    cluster_timeout_s: float = 10.0
    dialects: tuple[str, ...] = ("vllm",)
    namespaces: tuple[str, ...] = ()
    matchers: str = ""
    namespace_label: str = "namespace"
    pod_label: str = "pod"
    gateway: GatewayOptions | None = None
    siblings: bool = False
    patience: Patience = field(default_factory=Patience)


class CapacitySource(StrEnum):
    """Where the number of cards comes from."""

    FILE = "file"
    NODES = "nodes"
    ELASTIC = "elastic"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityOptions:
    """Where capacity comes from.

    Attributes:
        source: `file` (the data files), `nodes` (counted now) or `elastic` (a cluster
            autoscaler adds nodes while pods wait, up to `maximum`).
        maximum: most cards by accelerator type for `elastic`; with `nodes`, the types of it are
            elastic.
        unplaced_after_s: pods that find no node for so long are not counted on; 0: always are.

    """

    source: CapacitySource = CapacitySource.FILE
    maximum: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    unplaced_after_s: float = 300.0
