"""A server moves where that pays, for long enough, and old and new fit the cards at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlloop.api.decision import Action, Problem, Situation
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Observation, ServerObservation, Workload, WorkloadRef
from controlloop.api.solution import Solution, SolveStatus, Unserved, UnservedReason
from controlloop.api.switching import (
    Place,
    PodTemplate,
    Rollable,
    RolloutShape,
    SwitchFailure,
    SwitchRecord,
    SwitchState,
)
from controlloop.api.system import Accelerator, Allocation, Load, PerfParameters, Server, System
from controlloop.stability.bounds import Bounds, BoundsPolicy
from controlloop.stability.moving import MoveOptions, MovingPolicy

LOAD = Load(2.0, 100.0, 200.0)
ROLLABLE = Rollable(PodTemplate("engine"))
BOTH = frozenset({"A100", "H100"})
THERE = Allocation("H100", 2, 32, 50.0, load=LOAD)
STAY = Allocation("A100", 8, 32, 80.0, load=LOAD)
RECORD = SwitchRecord(
    SwitchState.STARTING,
    Place("A100", 32, 8),
    Place("H100", 32, 2),
    0,
    9,
    PodTemplate(),
    RolloutShape(),
)


class Stand:
    """A policy, and a solver that always answers the same: `answer` to who may move."""

    def __init__(
        self,
        answer: Allocation = THERE,
        cycles: int = 3,
        stay: Allocation = STAY,
        unserved: tuple[Unserved, ...] = (),
    ) -> None:
        self.answer = Solution({"chat": answer}, (), SolveStatus.FEASIBLE, "greedy", 0.0)
        self.stay = Solution({"chat": stay}, unserved, SolveStatus.FEASIBLE, "greedy", 0.0)
        options = MoveOptions(BOTH, margin=0.1, cycles=cycles)
        self.asked: list[Problem] = []
        self.policy = MovingPolicy(BoundsPolicy(Bounds(down_window_s=0.0)), options, self.solve)

    def solve(self, problem: Problem) -> Solution:
        self.asked.append(problem)
        return self.stay if problem.constraints["chat"].choices is None else self.answer

    def shape(self, h100: int = 2, a100: int = 8, **changes: Any) -> Problem:
        workload = replace(
            Workload(
                WorkloadRef("ns", "chat"), "chat", "m", "Free", "A100", 32, 8, rollable=ROLLABLE
            ),
            **changes,
        )
        current = Allocation(workload.accelerator, workload.replicas, 32, 80.0, load=LOAD)
        system = System(
            accelerators=(Accelerator("A100", "A100", 1, 10.0), Accelerator("H100", "H100", 1, 25)),
            capacity={"A100": a100, "H100": h100},
            perf=tuple(PerfParameters("m", name, (1.0,) * 4, 32, 64) for name in sorted(BOTH)),
            servers=(Server("chat", "m", "Free", current=current),),
        )
        seen = Observation(100.0, (ServerObservation(workload),))
        return self.policy.shape(Situation(100.0, 0.0, system, {"chat": workload.holds}, seen))


def test_a_move_is_free_only_after_it_won_for_several_cycles() -> None:
    stand = Stand()
    places = [stand.shape().constraints["chat"].accelerator for _ in range(4)]
    assert places == ["A100", "A100", "H100", "H100"]
    assert stand.asked[0].constraints["chat"].choices == {"A100": (32, 8), "H100": (32, 8)}


def test_the_decision_says_how_many_fit_and_the_old_cards_are_nobody_elses_yet() -> None:
    stand = Stand(cycles=1)
    problem = stand.shape()
    (decision,) = stand.policy.steady(problem, stand.answer).decisions
    assert (decision.action, decision.surge) == (Action.SWITCH, 2)
    assert problem.system.capacity["A100"] == 0


def test_where_both_do_not_fit_it_is_put_off_with_its_reason() -> None:
    problem = Stand(cycles=1).shape(h100=1)
    assert problem.constraints["chat"].accelerator == "A100"
    (hold,) = problem.holds["chat"]
    assert hold.reason is HoldReason.SWITCH_NO_ROOM
    assert "1 cards of type H100 are free" in hold.detail
    assert not hold.binds(Forbids.INCREASE, 8, 100)


@pytest.mark.parametrize(
    "changes",
    [
        {"keep_accelerator": True, "keep_batch": True},
        {"holds": (Hold(HoldReason.POD_GONE, Forbids.DECREASE, "d"),)},
        {"rollable": None},
        {"rollable": replace(ROLLABLE, settled=False)},
        {"rollable": replace(ROLLABLE, failure=SwitchFailure(RECORD.after, 1, 101.0, ""))},
        {"max_batch": 64, "keep_batch": True},
    ],
)
def test_who_may_not_move_is_not_asked(changes: dict[str, Any]) -> None:
    stand = Stand(cycles=1)
    assert stand.shape(**changes).constraints["chat"].accelerator == "A100"
    assert stand.asked == []


def test_a_saving_below_the_margin_is_no_reason_to_move() -> None:
    stand = Stand(replace(THERE, cost_per_hour=75.0), cycles=1)
    assert stand.shape().constraints["chat"].accelerator == "A100"


def test_during_a_switch_old_and_new_cards_count() -> None:
    switching = replace(ROLLABLE, switch=RECORD)
    problem = Stand().shape(accelerator="H100", rollable=switching)
    assert problem.system.capacity == {"A100": 0, "H100": 2}


def test_another_batch_on_the_same_cards_is_chosen_like_another_accelerator() -> None:
    stand = Stand(replace(STAY, replicas=5, max_batch=8, cost_per_hour=50.0), cycles=2)
    stand.shape(a100=13)
    problem = stand.shape(a100=13, keep_accelerator=True)
    assert stand.asked[-2].constraints["chat"].choices == {"A100": (32, 8)}
    found = problem.constraints["chat"]
    assert (found.accelerator, found.max_batch) == ("A100", 8)
    (decision,) = stand.policy.steady(problem, stand.answer).decisions
    assert (decision.action, decision.surge) == (Action.SWITCH, 5)
    assert "8 -> 5 of A100, maximum batch 32 -> 8" in decision.reason
    assert problem.system.capacity["A100"] == 5


def test_a_batch_that_wavers_is_not_a_move_that_lasts() -> None:
    stand = Stand(replace(STAY, replicas=5, max_batch=8, cost_per_hour=50.0), cycles=2)
    stand.shape()
    stand.answer = replace(stand.answer, allocations={"chat": THERE})
    assert stand.shape().constraints["chat"].accelerator == "A100"


def test_a_batch_that_does_not_fit_beside_the_old_rolls_within_what_is_free() -> None:
    stand = Stand(replace(STAY, replicas=5, max_batch=8, cost_per_hour=50.0), cycles=1)
    problem = stand.shape(a100=10)
    (decision,) = stand.policy.steady(problem, stand.answer).decisions
    assert decision.surge == 2
    held = Stand(replace(STAY, replicas=5, max_batch=8, cost_per_hour=50.0), cycles=1).shape(a100=8)
    assert [each.reason for each in held.holds["chat"]] == [HoldReason.SWITCH_NO_ROOM]


def test_a_move_must_save_against_staying_not_against_what_runs() -> None:
    growing = Stand(replace(THERE, cost_per_hour=100.0), cycles=1, stay=replace(STAY, replicas=12))
    growing.stay = replace(
        growing.stay, allocations={"chat": replace(STAY, replicas=12, cost_per_hour=120.0)}
    )
    assert growing.shape().constraints["chat"].accelerator == "H100"
    shrinking = Stand(cycles=1, stay=replace(STAY, replicas=5, cost_per_hour=50.0))
    assert shrinking.shape().constraints["chat"].accelerator == "A100"


def test_who_gets_less_than_it_needs_where_it_runs_moves_to_where_it_gets_it() -> None:
    short = Unserved("chat", UnservedReason.NO_CAPACITY, "needs more")
    stand = Stand(replace(THERE, cost_per_hour=200.0), cycles=1, unserved=(short,))
    assert stand.shape().constraints["chat"].accelerator == "H100"
