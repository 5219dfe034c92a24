"""What earlier cycles saw of the pods: the cluster itself forgets a pod that is gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from controlloop.api.observation import Pod, Workload
from controlloop.collector.fleet import PodKey

WorkloadKey = tuple[str, str]
"""Namespace and name of a workload."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """One pod that carried load. `gone_at`, `restarted_at`: when a cycle first found it so."""

    workload: WorkloadKey
    pod: PodKey
    restarts: int
    gone_at: float | None = None
    restarted_at: float | None = None


Memory = Mapping[str, Remembered]
"""By the pod's uid, or its namespace and name where it has none."""


def remember(before: Memory, workloads: Iterable[Workload], now: float, window_s: float) -> Memory:
    """The memory after this cycle.

    A pod is gone from the first cycle that does not find it carrying load, and is forgotten a
    window later; so even a cycle long after the one before learns of it once.
    """
    after: dict[str, Remembered] = {}
    for workload in workloads:
        for pod in workload.pods:
            if pod.carries_load:
                key = (workload.ref.namespace, pod.name)
                uid = _identity(key, pod)
                after[uid] = _seen_again(before.get(uid), workload, key, pod, now)
    for uid, known in before.items():
        gone_at = now if known.gone_at is None else known.gone_at
        if uid not in after and now - gone_at <= window_s:
            after[uid] = replace(known, gone_at=gone_at)
    return after


def workload_key(workload: Workload) -> WorkloadKey:
    """The key of a workload."""
    return workload.ref.namespace, workload.ref.name


def _seen_again(
    known: Remembered | None, workload: Workload, key: PodKey, pod: Pod, now: float
) -> Remembered:
    restarted_at = None if known is None else known.restarted_at
    if known is not None and pod.restarts > known.restarts:
        restarted_at = now
    return Remembered(
        workload_key(workload), key, pod.restarts, gone_at=None, restarted_at=restarted_at
    )


def _identity(key: PodKey, pod: Pod) -> str:
    return pod.uid or "/".join(key)
