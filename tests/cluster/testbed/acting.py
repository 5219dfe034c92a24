"""Reads and writes workloads as the loop does, without a daemon."""

from __future__ import annotations

from typing import Any

from controlloop.actuator.apply import ClusterActuator
from controlloop.actuator.options import ActuatorOptions, Mode
from controlloop.api.decision import Patch, PatchStatus, Plan
from controlloop.api.observation import Workload
from controlloop.clock import Deadline, SystemClock
from controlloop.kube.cluster import KubeCluster
from testbed.waiting import until

TIMEOUT_S = 30.0


class NoEnd:
    """A guard that always lets write."""

    def remaining_s(self) -> float:
        return float("inf")


def read(cluster: KubeCluster, name: str) -> Workload:
    found = {workload.ref.name: workload for workload in cluster.workloads(TIMEOUT_S)}
    return found[name]


def settled(cluster: KubeCluster, name: str) -> Workload:
    """The workload once its rollout is over and its status no longer changes."""

    seen: list[Workload] = []

    def quiet() -> bool:
        seen.append(read(cluster, name))
        now = seen[-1]
        return now.ready_replicas == now.replicas and not now.holds and now in seen[-3:-1]

    until(quiet, f"{name} settled", pause_s=0.2)
    return seen[-1]


def a_patch(workload: Workload, replicas: int) -> Patch:
    return Patch(
        workload.ref, workload.server, workload.replicas, replicas, {}, "because", workload.labels
    )


def apply(
    cluster: KubeCluster, *patches: Patch, mode: Mode = Mode.APPLY, guard: Any = None
) -> list[tuple[PatchStatus, str]]:
    actuator = ClusterActuator(cluster, guard or NoEnd(), ActuatorOptions(mode=mode))
    outcome = actuator.apply(Plan(patches), Deadline(SystemClock(), TIMEOUT_S))
    return [(each.status, each.detail) for each in outcome.patches]
