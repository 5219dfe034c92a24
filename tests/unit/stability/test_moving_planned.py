"""Moves with the real planner: what is wished for is what is decided, within the cards."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from controlloop.api.decision import Action, Decision, Situation
from controlloop.api.observation import Observation, ServerObservation, Workload, WorkloadRef
from controlloop.api.switching import PodTemplate, Rollable
from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    PerfParameters,
    Server,
    ServiceClass,
    System,
    Target,
)
from controlloop.optimizer.planner import Planner
from controlloop.stability.bounds import Bounds, BoundsPolicy
from controlloop.stability.moving import MoveOptions, MovingPolicy

CYCLES = 3
BOTH = frozenset({"A100", "H100"})


@dataclass
class Loop:
    """Chat on A100 with a small batch; H100 is as fast, and dearer or cheaper."""

    a100: int = 16
    h100: int = 0
    h100_cost: float = 40.0
    rate_rps: float = 70.0
    replicas: int = 7

    def __post_init__(self) -> None:
        planner = Planner(solver="greedy")
        options = MoveOptions(BOTH, cycles=CYCLES)
        self.policy = MovingPolicy(BoundsPolicy(Bounds(down_window_s=0)), options, planner.solve)
        self.planner = planner

    def cycle(self) -> Decision:
        load = Load(self.rate_rps, 128.0, 64.0)
        workload = Workload(
            WorkloadRef("ns", "chat"),
            "chat",
            "m",
            "Free",
            "A100",
            8,
            self.replicas,
            rollable=Rollable(PodTemplate("engine")),
        )
        current = Allocation("A100", self.replicas, 8, 40.0 * self.replicas, load=load)
        parameters = (8.0, 0.2, 5.0, 0.005)
        system = System(
            accelerators=(
                Accelerator("A100", "A100", 1, 40.0),
                Accelerator("H100", "H100", 1, self.h100_cost),
            ),
            capacity={"A100": self.a100, "H100": self.h100},
            perf=tuple(PerfParameters("m", name, parameters, 32, 64) for name in sorted(BOTH)),
            classes=(ServiceClass("Free", 100, (Target("m", 12.0, 1000.0),)),),
            servers=(Server("chat", "m", max_batch=8, current=current),),
        )
        seen = Observation(0.0, (ServerObservation(workload),))
        problem = self.policy.shape(Situation(0.0, 0.0, system, {"chat": ()}, seen))
        (decision,) = self.policy.steady(problem, self.planner.solve(problem)).decisions
        return decision

    def last(self) -> Decision:
        *before, last = (self.cycle() for _ in range(CYCLES))
        assert all(each.action is not Action.SWITCH for each in before)
        return last


@pytest.mark.parametrize(("cards", "surge"), [(16, None), (8, 1)])
def test_a_larger_batch_is_decided_whole_or_rolled_within_what_is_free(
    cards: int, surge: int | None
) -> None:
    decision = Loop(a100=cards).last()
    assert decision.action is Action.SWITCH
    assert decision.desired.accelerator == "A100"
    assert decision.desired.max_batch > 8
    assert decision.desired.replicas < 7
    assert decision.surge == (decision.desired.replicas if surge is None else surge)


def test_a_cheaper_accelerator_is_taken_with_the_batch_that_needs_least() -> None:
    decision = Loop(h100=16, h100_cost=20.0).last()
    assert (decision.action, decision.desired.accelerator) == (Action.SWITCH, "H100")
    assert decision.desired.max_batch > 8


def test_one_replica_moves_nowhere_for_a_batch_that_saves_nothing() -> None:
    assert Loop(rate_rps=5.0, replicas=1).last().action is Action.KEEP


def test_a_load_that_its_cards_cannot_serve_goes_where_it_can_be_served() -> None:
    decision = Loop(a100=7, h100=16, h100_cost=41.0, rate_rps=300.0).last()
    assert (decision.action, decision.desired.accelerator) == (Action.SWITCH, "H100")
