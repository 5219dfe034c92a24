"""What an autoscaler sees of one server, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from controlloop.api.observation import Workload, WorkloadRef
from controlloop.simulator.plant import Meter, Plant


@dataclass(frozen=True, slots=True)
class ServerView:
    """One server at one moment.

    `wanted` replicas are asked for: `ready` ones serve, `starting` ones hold cards and show no
    metrics yet, `pending` ones wait for cards. `in_flight` requests are inside, `waiting` of
    them in a queue; `arrived` counts since the start.
    """

    ref: WorkloadRef
    wanted: int
    ready: int
    starting: int
    pending: int
    in_flight: float
    waiting: float
    arrived: float
    least: int = 1
    most: int | None = None

    def bounded(self, replicas: int) -> int:
        """`replicas` within what the server allows."""
        least = max(replicas, self.least)
        return least if self.most is None else min(least, max(self.most, self.least))


class Autoscaler(Protocol):
    """Decides for one server; what it remembers is its own."""

    def decide(self, now: float, view: ServerView) -> int | None:
        """Replicas to ask for at `now` in seconds; None is no decision, which changes nothing."""
        ...


def views(plant: Plant) -> Mapping[str, ServerView]:
    """Every server of a plant, in order of name."""
    meters = plant.meters()
    return {one.server: _view(one, meters[one.server]) for one in plant.workloads()}


def _view(workload: Workload, meter: Meter) -> ServerView:
    pods = [pod for pod in workload.pods if not pod.terminating]
    ready = sum(pod.ready for pod in pods)
    pending = sum(pod.phase == "Pending" for pod in pods)
    return ServerView(
        ref=workload.ref,
        wanted=workload.replicas,
        ready=ready,
        starting=len(pods) - ready - pending,
        pending=pending,
        in_flight=meter.running + meter.waiting,
        waiting=meter.waiting,
        arrived=meter.arrived,
        least=workload.min_replicas or 1,
        most=workload.max_replicas,
    )
