"""Which pods a server has, which it had, and how long each can have carried its share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from controlloop.api.observation import Pod, Workload
from controlloop.collector.fleet import PodKey
from controlloop.collector.memory import Memory, WorkloadKey, workload_key

LEAST_EXPOSURE_S = 1.0


@dataclass(frozen=True, slots=True)
class Member:
    """One pod of a workload as it is now.

    Attributes:
        key: its namespace and name.
        carries: it carries load, so it must report.
        leaving: it takes no new requests, so nothing is scaled for it while it is silent.
        young: it began within the window, so it has no history to be missed.
        exposure_s: the time within the window in which it can have carried its share, seconds.

    """

    key: PodKey
    carries: bool
    leaving: bool
    young: bool
    exposure_s: float

    @property
    def counted(self) -> bool:
        """Whether the others' sums are scaled for it while it does not report."""
        return self.carries and not self.leaving


@dataclass(frozen=True, slots=True)
class Census:
    """The pods of one workload.

    `former` had samples or carried load within the window and are no longer there;
    `restarted` are names of pods of which the cluster says so.
    """

    members: tuple[Member, ...]
    former: tuple[PodKey, ...]
    restarted: tuple[str, ...]


def take_census(
    workloads: Iterable[Workload],
    memory: Memory,
    reporting: Iterable[PodKey],
    now: float,
    window_s: float,
    kinship: Mapping[WorkloadKey, WorkloadKey] = MappingProxyType({}),
) -> dict[WorkloadKey, Census]:
    """The census of each workload.

    Args:
        workloads: every managed workload.
        memory: what this and earlier cycles saw.
        reporting: every pod with samples in the window.
        now: the time that the window ends at, seconds since the epoch.
        window_s: its length, seconds.
        kinship: whose sibling a Deployment is: its pods are among the other's.

    """
    everybody = tuple(workloads)
    present = {
        (workload.ref.namespace, pod.name) for workload in everybody for pod in workload.pods
    }
    managed = {workload_key(workload) for workload in everybody}
    former: dict[WorkloadKey, dict[PodKey, None]] = {}
    for known in memory.values():
        if known.gone_at is not None:
            former.setdefault(known.workload, {})[known.pod] = None
    for pod in sorted(set(reporting) - present):
        named = _owner_by_name(pod)
        owner = kinship.get(named, named)
        if owner in managed:
            former.setdefault(owner, {})[pod] = None
    restarted = {
        known.pod
        for known in memory.values()
        if known.restarted_at is not None and now - known.restarted_at <= window_s
    }
    return {
        workload_key(workload): Census(
            tuple(_member(workload, pod, now, window_s) for pod in workload.pods),
            tuple(former.get(workload_key(workload), {})),
            tuple(
                pod.name
                for pod in workload.pods
                if (workload.ref.namespace, pod.name) in restarted
                or (pod.restarted_at is not None and now - pod.restarted_at <= window_s)
            ),
        )
        for workload in everybody
    }


def _member(workload: Workload, pod: Pod, now: float, window_s: float) -> Member:
    since = pod.ready_since if pod.ready_since is not None else pod.started_at
    exposure_s = window_s if since is None else min(max(now - since, LEAST_EXPOSURE_S), window_s)
    return Member(
        key=(workload.ref.namespace, pod.name),
        carries=pod.carries_load,
        leaving=pod.terminating,
        young=exposure_s < window_s,
        exposure_s=exposure_s,
    )


def _owner_by_name(pod: PodKey) -> WorkloadKey:
    """The Deployment whose ReplicaSet would name a pod so: <deployment>-<hash>-<suffix>."""
    namespace, name = pod
    return namespace, name.rsplit("-", 2)[0]
