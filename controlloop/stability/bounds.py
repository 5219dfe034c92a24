"""The simplest honest policy: bounds on replicas, holds obeyed, a reason for every decision."""

from __future__ import annotations

from dataclasses import dataclass

from controlloop.api.decision import Decisions, Problem, Situation
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.placing import room_of
from controlloop.api.quotas import quotas_of
from controlloop.api.solution import Solution
from controlloop.stability.constraints import ReplicaBounds, constraint_of
from controlloop.stability.deciding import decide_all
from controlloop.stability.node_fit import within_nodes
from controlloop.stability.quota_fit import within_quotas


@dataclass(frozen=True, slots=True)
class Bounds:
    """What bounds every server that does not say otherwise of itself.

    Attributes:
        min_replicas: never fewer; at least 1, since nothing shows demand at zero replicas.
        max_replicas: never more; None is no upper bound.
        down_window_s: no decrease until this process has been in control for so long; 0 is off.

    """

    min_replicas: int = 1
    max_replicas: int | None = None
    down_window_s: float = 180.0


class BoundsPolicy:
    """Bounds the optimizer by min and max, by holds, and by what can be made real."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()

    def shape(self, situation: Situation) -> Problem:
        """Bounds for each server, with the holds they come from."""
        workloads = {server.name: server.workload for server in situation.observation.servers}
        warming = warming_up(situation.now, situation.since, self._bounds.down_window_s)
        holds = {name: own + warming for name, own in situation.holds.items()}
        replicas = ReplicaBounds(self._bounds.min_replicas, self._bounds.max_replicas)
        constraints = {
            name: constraint_of(workload, replicas, holds[name])
            for name, workload in workloads.items()
        }
        room, quotas = room_of(situation.observation), quotas_of(situation.observation)
        return Problem(situation.system, constraints, holds, room=room, quotas=quotas)

    def steady(self, problem: Problem, solution: Solution) -> Decisions:
        """One decision for each server of the problem."""
        decisions = within_nodes(decide_all(problem, solution), problem)
        return Decisions(within_quotas(decisions, problem), solution)


def warming_up(now: float, since: float, window_s: float) -> tuple[Hold, ...]:
    """What forbids a decrease until a process has been in control for a whole window."""
    in_control_s = max(now - since, 0.0)
    if in_control_s >= window_s:
        return ()
    detail = f"in control for {in_control_s:.0f} s of the {window_s:.0f} s down window"
    return (Hold(HoldReason.WARMING_UP, Forbids.DECREASE, detail),)
