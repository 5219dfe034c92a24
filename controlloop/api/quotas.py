"""Quotas of namespaces on cards: what may be asked for there, whatever the nodes have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controlloop.api.observation import Observation, QuotaShare, Workload


@dataclass(frozen=True, slots=True)
class ServerQuota:
    """What the quotas of its namespace leave to one server, and its replicas without a pod.

    Attributes:
        shares: one for each quota that its pods count against.
        due: replicas that are asked for already and whose pods are not made yet.

    """

    shares: tuple[QuotaShare, ...]
    due: int


def quotas_of(observation: Observation) -> Mapping[str, ServerQuota]:
    """The quotas of each server that any bounds."""
    return {
        each.name: ServerQuota(each.workload.quotas, _due(each.workload))
        for each in observation.servers
        if each.workload.quotas
    }


def _due(workload: Workload) -> int:
    made = sum(not pod.terminating for pod in workload.pods)
    return max(workload.replicas - made, 0)
