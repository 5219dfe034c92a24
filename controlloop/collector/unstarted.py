"""Pods that were added and never became ready: more of them is no help until one starts."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import Final

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Pod, ServerObservation

SAID_ALREADY: Final = frozenset(
    {HoldReason.ROLLOUT, HoldReason.PODS_REFUSED, HoldReason.PODS_NOT_READY, HoldReason.SWITCHING}
)
"""Holds of a Deployment whose template changes: what they say of its pods is of that change."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a pod may take to become ready.

    Attributes:
        least_s: what it has at least, seconds; 0 waits for ever.
        factor: of the start-up time that the server's ready pods showed, where that is more.

    """

    least_s: float = 600.0
    factor: float = 3.0


def without_unstarted(seen: ServerObservation, now: float, patience: Patience) -> ServerObservation:
    """The server with what its pods that do not start forbid.

    As many are allowed to be under way as started since. Where a single pod does not start, one
    more is: it may be its node that is broken.

    Args:
        seen: the server.
        now: the time, seconds since the epoch.
        patience: how long a pod may take.

    """
    workload = seen.workload
    if patience.least_s <= 0 or any(hold.reason in SAID_ALREADY for hold in workload.holds):
        return seen
    limit_s = _limit_s(workload.pods, patience)
    starting = {pod.name: pod.started_at for pod in workload.pods if _starts(pod)}
    begun = [at for at in starting.values() if at is not None and now - at > limit_s]
    if not begun:
        return seen
    oldest = min(begun)
    proven = sum(pod.ready and (pod.started_at or 0.0) >= oldest for pod in workload.pods)
    detail = (
        f"{len(begun)} of {workload.replicas} pods are not ready after {limit_s:.0f} s, the first"
        f" started {now - oldest:.0f} s ago; {proven} became ready since"
    )
    present = sum(not pod.terminating for pod in workload.pods)
    under_way = len(starting) - len(begun) + max(workload.replicas - present, 0)
    more = proven + (len(begun) == 1) - under_way
    limit = workload.replicas + max(more, 0)
    hold = Hold(HoldReason.GROWTH_NOT_READY, Forbids.INCREASE, detail, limit)
    return replace(seen, holds=(*seen.holds, hold))


def _limit_s(pods: tuple[Pod, ...], patience: Patience) -> float:
    took_s = [
        pod.ready_since - pod.started_at
        for pod in pods
        if pod.ready_since is not None and pod.started_at is not None and not pod.restarts
    ]
    shown_s = statistics.median(took_s) if took_s else 0.0
    return max(patience.least_s, patience.factor * shown_s)


def _starts(pod: Pod) -> bool:
    return pod.never_ready and pod.unplaced_since is None
