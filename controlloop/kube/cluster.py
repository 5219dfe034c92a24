"""The cluster as the loop sees it: reads, patches and events over one connection."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from controlloop.api.decision import Patch
from controlloop.api.node_cards import CountedCards
from controlloop.api.observation import Workload, WorkloadRef
from controlloop.clock import Deadline, SystemClock
from controlloop.kube.connection import Connection
from controlloop.kube.informers import Lister
from controlloop.kube.nodes import NodeOptions, common_tolerations, count_cards
from controlloop.kube.resources import DEPLOYMENTS, NODES, PODS, Resource
from controlloop.kube.siblings import create_sibling, delete_sibling, renew_sibling
from controlloop.kube.workloads import UNFINISHED, WorkloadReader
from controlloop.kube.writes import FIELD_MANAGER, send_annotations, send_event, send_patch

LONGEST_INSTANCE = 128


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What is managed and how it is written.

    Attributes:
        namespaces: which to manage; none is all.
        field_manager: owner of the fields that are set.
        instance: which process of controlloop its events name; "" is the host's name.
        nodes: how capacity is read from nodes.
        kinds: what is managed besides Deployments, by its scale subresource.

    """

    namespaces: tuple[str, ...] = ()
    field_manager: str = FIELD_MANAGER
    instance: str = ""
    nodes: NodeOptions = field(default_factory=NodeOptions)
    kinds: tuple[Resource, ...] = ()


class KubeCluster:
    """Implements `protocols.Cluster`.

    Args:
        connection: to the API server.
        options: what is managed and how it is written.
        lister: gives whole lists; None asks for them by the connection.

    """

    def __init__(
        self,
        connection: Connection,
        options: ClusterOptions | None = None,
        lister: Lister | None = None,
    ) -> None:
        self._connection = connection
        self._options = options or ClusterOptions()
        self._lister = lister or connection
        chosen = self._options
        self._kinds = {each.kind: each for each in chosen.kinds}
        self._reader = WorkloadReader(
            connection, chosen.namespaces, lister, chosen.field_manager, chosen.kinds
        )
        self._log = structlog.get_logger(__name__)
        self._told: dict[str, tuple[str, ...]] = {}

    def workloads(self, timeout_s: float) -> tuple[Workload, ...]:
        """Every managed workload with its pods, in order of namespace and name."""
        listing = self._reader.all(timeout_s)
        self._tell("workloads", listing.notes)
        return listing.workloads

    def workload(self, ref: WorkloadRef, timeout_s: float) -> Workload:
        """One workload as it is now.

        Raises:
            NotFoundError: it is gone or going, was made anew, or is no longer managed.

        """
        return self._reader.one(ref, timeout_s)

    def capacity(self, timeout_s: float) -> CountedCards:
        """Cards by accelerator type that managed workloads may use, from the nodes."""
        deadline = Deadline(SystemClock(), timeout_s)
        nodes = self._lister.items(NODES, deadline.remaining_s())
        pods = self._lister.items(PODS, deadline.remaining_s(), query=[UNFINISHED])
        managed = self._reader.managed(deadline.remaining_s())
        ours = self._reader.managed_pods(managed, pods, deadline.remaining_s())
        # What the pods of other kinds tolerate is not known.
        tolerated = () if self._kinds else common_tolerations(managed)
        counted = count_cards(nodes, pods, ours, self._options.nodes, tolerated)
        self._tell("capacity", counted.notes)
        return CountedCards(counted.cards, counted.nodes)

    def patch(self, patch: Patch, timeout_s: float, *, dry_run: bool) -> None:
        """Send one patch, conditional on the resource version it rests on.

        Raises:
            ConflictError: the workload changed since it was read, or one to be made is there.

        """
        manager = self._options.field_manager
        if patch.birth is not None:
            make = renew_sibling if patch.ref.uid else create_sibling
            make(self._connection, patch, patch.birth, timeout_s, manager, dry_run=dry_run)
            return
        if patch.removes:
            delete_sibling(self._connection, patch.ref, timeout_s, dry_run=dry_run)
            return
        scaled = self._kinds.get(patch.ref.kind)
        send_patch(self._connection, patch, timeout_s, manager, dry_run=dry_run, scaled=scaled)

    def annotate(
        self, ref: WorkloadRef, annotations: Mapping[str, str | None], timeout_s: float
    ) -> None:
        """Set annotations of a Deployment at the version that was read; None removes one.

        Raises:
            ConflictError: the Deployment changed since it was read.

        """
        manager = self._options.field_manager
        send_annotations(self._connection, ref, annotations, timeout_s, manager)

    def record(self, ref: WorkloadRef, reason: str, message: str, timeout_s: float) -> None:
        """Write an event on the workload, so that its owner sees what happened."""
        instance = (self._options.instance or socket.gethostname())[:LONGEST_INSTANCE]
        version = self._kinds.get(ref.kind, DEPLOYMENTS).api_version
        send_event(self._connection, ref, reason, message, timeout_s, instance, api_version=version)

    def _tell(self, subject: str, notes: tuple[str, ...]) -> None:
        """Log what could not be looked at, once for as long as it stays so."""
        for note in notes:
            if note not in self._told.get(subject, ()):
                self._log.warning("not-looked-at", subject=subject, detail=note)
        self._told[subject] = notes
