"""Pods for which no node is found: what they were to serve is not counted on."""

from __future__ import annotations

from dataclasses import replace

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Pod, ServerObservation


def without_unplaced(seen: ServerObservation, now: float, after_s: float) -> ServerObservation:
    """The server with what its pods without a node forbid: no more of what finds none.

    Args:
        seen: the server.
        now: the time, seconds since the epoch.
        after_s: how long a pod may wait and still be counted on; 0 is for ever.

    """
    waiting = [pod for pod in seen.workload.pods if _waits(pod, now, after_s)]
    if not waiting:
        return seen
    longest = min(waiting, key=lambda pod: pod.unplaced_since or now)
    waited_s = now - (longest.unplaced_since or now)
    replicas = seen.workload.replicas
    detail = (
        f"{len(waiting)} of {replicas} pods find no node, the first for {waited_s:.0f} s: "
        f"{longest.unplaced_why or 'the scheduler gives no reason'}"
    )
    hold = Hold(HoldReason.UNPLACED, Forbids.INCREASE, detail, replicas)
    return replace(seen, holds=(*seen.holds, hold), unplaced=len(waiting))


def _waits(pod: Pod, now: float, after_s: float) -> bool:
    since = pod.unplaced_since
    if since is None or pod.terminating or pod.scheduled or after_s <= 0:
        return False
    return now - since >= after_s
