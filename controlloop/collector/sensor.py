"""The sensor of a cluster: workloads, cards, and what the metric source tells of the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Observation, ServerObservation, Workload
from controlloop.api.readings import Missing, Reading
from controlloop.clock import Deadline
from controlloop.collector.aggregate import Window
from controlloop.collector.capacity import read_capacity
from controlloop.collector.census import Census, take_census
from controlloop.collector.dialects import Vocabulary, vocabulary_of
from controlloop.collector.evidence import holds_of
from controlloop.collector.families import Family, families, kin
from controlloop.collector.fleet import Fleet, ask, selectors
from controlloop.collector.gateway import gateway_rates
from controlloop.collector.memory import Memory, WorkloadKey, remember, workload_key
from controlloop.collector.options import CapacityOptions, CollectorOptions
from controlloop.collector.series import MetricSource
from controlloop.collector.server import read_server
from controlloop.collector.static_load import observe_labels
from controlloop.collector.unplaced import without_unplaced
from controlloop.collector.unstarted import without_unstarted
from controlloop.protocols import Cluster


class FleetSensor:
    """Observes the managed workloads of a cluster.

    It remembers the pods of earlier cycles, since nothing else tells that one is gone.

    Args:
        cluster: where workloads and cards are.
        source: the metric source; None: there is none, and loads come from the labels.
        options: how the fleet is observed.
        capacity: where the number of cards comes from.

    Raises:
        UnknownPluginError: the options name an engine dialect that is not known.

    """

    def __init__(
        self,
        cluster: Cluster,
        source: MetricSource | None,
        options: CollectorOptions | None = None,
        capacity: CapacityOptions | None = None,
    ) -> None:
        self._cluster = cluster
        self._source = source
        self._options = options or CollectorOptions()
        self._capacity = capacity or CapacityOptions()
        self._words = vocabulary_of(self._options.dialects)
        self._memory: Memory = MappingProxyType({})

    @property
    def queries(self) -> Mapping[str, str]:
        """What the metric source is asked, by the name of the signal."""
        asked = selectors(self._words, self._options)
        return {str(signal): selector for signal, selector in asked.items()}

    def observe(self, now: float, deadline: Deadline) -> Observation:
        """Look once. What the metric source does not tell is missing, with the reason.

        Raises:
            ClusterError: the workloads or the nodes cannot be read.
            DeadlineError: the cycle's time is up.

        """
        wanted_s = self._options.cluster_timeout_s
        workloads = self._cluster.workloads(deadline.timeout_s(wanted_s, "reading the workloads"))
        counted = read_capacity(
            self._capacity, self._cluster, deadline.timeout_s(wanted_s, "counting the cards")
        )
        cards = None if counted is None else counted.cards
        nodes = None if counted is None else counted.nodes
        elastic = () if counted is None else counted.elastic
        found = families(workloads, joined=self._options.siblings)
        if self._source is None:
            labels = [replace(observe_labels(one.primary), siblings=one.siblings) for one in found]
            servers = self._placed(labels, now)
            return Observation(now, servers, cards, nodes=nodes, elastic=elastic)
        fleet = ask(self._source, self._words, self._options, now, deadline)
        servers = self._placed(self._measure(found, fleet, now), now)
        problem, notes = fleet.problem, _notes(fleet)
        return Observation(now, servers, cards, problem, notes, nodes, elastic)

    def _placed(
        self, servers: Sequence[ServerObservation], now: float
    ) -> tuple[ServerObservation, ...]:
        after_s = self._capacity.unplaced_after_s
        placed = (without_unplaced(one, now, after_s) for one in _in_order(servers))
        return tuple(without_unstarted(one, now, self._options.patience) for one in placed)

    def _measure(
        self, found: Sequence[Family], fleet: Fleet, now: float
    ) -> tuple[ServerObservation, ...]:
        options, kinship = self._options, kin(found)
        workloads = [one.whole for one in found]
        window = Window(now, options.window_s, options.stale_after_s)
        self._memory = remember(self._memory, workloads, now, options.window_s)
        census = take_census(workloads, self._memory, fleet.pods(), now, options.window_s, kinship)
        gateway = _gateway(fleet, options, workloads, window, kinship)
        return tuple(
            _server(
                one,
                fleet,
                self._words,
                census[workload_key(one.primary)],
                window,
                gateway.get(workload_key(one.primary)),
            )
            for one in found
        )


def _server(
    family: Family,
    fleet: Fleet,
    words: Vocabulary,
    census: Census,
    window: Window,
    gateway: Reading | None,
) -> ServerObservation:
    signals, evidence = read_server(fleet, words, census, window, gateway)
    holds = holds_of(signals, evidence)
    return ServerObservation(family.primary, signals, holds, siblings=family.siblings)


def _gateway(
    fleet: Fleet,
    options: CollectorOptions,
    workloads: Sequence[Workload],
    window: Window,
    kinship: Mapping[WorkloadKey, WorkloadKey],
) -> Mapping[WorkloadKey, Reading]:
    """Arrivals by the gateway's counter; empty where none is configured."""
    if options.gateway is None:
        return {}
    if fleet.gateway is None:
        missing = Missing(fleet.gateway_problem or "no answer")
        return {workload_key(workload): missing for workload in workloads}
    return gateway_rates(fleet.gateway, options.gateway, workloads, window, kinship)


def _in_order(servers: Sequence[ServerObservation]) -> tuple[ServerObservation, ...]:
    """In order of name; of a name that several workloads claim, nobody can tell whose it is."""
    claims: dict[str, list[str]] = {}
    for server in servers:
        claims.setdefault(server.name, []).append(_claim(server.workload))
    ordered = sorted(servers, key=lambda one: (one.name, str(one.workload.ref)))
    return tuple(_undisputed(server, claims[server.name]) for server in ordered)


def _claim(workload: Workload) -> str:
    """Whose claim it is; a sibling stands for itself where `actuator.siblings` is off."""
    made = "" if workload.kinship is None else " (a sibling: see actuator.siblings)"
    return f"{workload.ref}{made}"


def _undisputed(server: ServerObservation, claims: Sequence[str]) -> ServerObservation:
    if len(claims) == 1:
        return server
    detail = f"the name {server.name!r} is claimed by {', '.join(sorted(claims))}"
    hold = Hold(HoldReason.DUPLICATE_NAME, Forbids.CHANGE, detail)
    return replace(server, holds=(hold, *server.holds))


def _notes(fleet: Fleet) -> tuple[str, ...]:
    if not fleet.unnamed:
        return ()
    return (f"{fleet.unnamed} series name no pod: no server can be told from them",)
