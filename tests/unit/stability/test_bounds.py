from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.decision import Action, Problem, Situation
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Observation, ServerObservation, Workload, WorkloadRef
from controlloop.api.solution import Solution, SolveStatus, Unserved, UnservedReason
from controlloop.api.system import Allocation, Load, Server, System
from controlloop.stability.bounds import Bounds, BoundsPolicy

LOAD = Load(2.0, 100.0, 200.0)


def a_workload(replicas: int = 4, least: int | None = None, most: int | None = None) -> Workload:
    return Workload(
        ref=WorkloadRef("ns", "chat"),
        server="chat",
        model="m",
        service_class="Premium",
        accelerator="A100",
        max_batch=32,
        replicas=replicas,
        min_replicas=least,
        max_replicas=most,
    )


def a_situation(
    workload: Workload, holds: tuple[Hold, ...] = (), now: float = 1000.0, since: float = 0.0
) -> Situation:
    server = Server(
        "chat",
        "m",
        "Premium",
        current=Allocation(workload.accelerator, workload.replicas, workload.max_batch, load=LOAD),
    )
    seen = Observation(now, (ServerObservation(workload),))
    return Situation(now, since, System(servers=(server,)), {"chat": holds}, seen)


def answered(replicas: int, accelerator: str = "A100", max_batch: int = 32) -> Solution:
    found = Allocation(accelerator, replicas, max_batch, 1.0, 20.0, 300.0, LOAD)
    return Solution({"chat": found}, (), SolveStatus.FEASIBLE, "greedy", 0.0)


def unserved(reason: UnservedReason) -> Solution:
    entry = Unserved("chat", reason, "why not")
    return Solution({}, (entry,), SolveStatus.FEASIBLE, "greedy", 0.0)


def shaped(workload: Workload, holds: tuple[Hold, ...] = (), **times: float) -> Problem:
    return BoundsPolicy(Bounds(down_window_s=300.0)).shape(a_situation(workload, holds, **times))


def hold(forbids: Forbids, reason: HoldReason = HoldReason.POD_GONE) -> Hold:
    return Hold(reason, forbids, "detail")


def test_accelerator_and_batch_are_held_as_they_run() -> None:
    bound = shaped(a_workload()).constraints["chat"]
    assert (bound.accelerator, bound.max_batch) == ("A100", 32)


def test_at_least_one_replica_and_no_upper_bound_by_default() -> None:
    bound = shaped(a_workload()).constraints["chat"]
    assert (bound.min_replicas, bound.max_replicas, bound.keep) == (1, None, False)


def test_a_workloads_own_bounds_come_before_the_settings() -> None:
    policy = BoundsPolicy(Bounds(min_replicas=2, max_replicas=9))
    own = policy.shape(a_situation(a_workload(least=3, most=5))).constraints["chat"]
    default = policy.shape(a_situation(a_workload())).constraints["chat"]
    assert (own.min_replicas, own.max_replicas) == (3, 5)
    assert (default.min_replicas, default.max_replicas) == (2, 9)


def test_a_minimum_of_zero_is_one_since_nothing_shows_demand_at_zero_replicas() -> None:
    assert shaped(a_workload(least=0)).constraints["chat"].min_replicas == 1


def test_no_decrease_until_a_whole_down_window_in_control() -> None:
    early = shaped(a_workload(), now=1000.0, since=701.0)
    late = shaped(a_workload(), now=1000.0, since=700.0)
    assert early.constraints["chat"].min_replicas == 4
    (up,) = BoundsPolicy().steady(early, answered(7)).decisions
    assert (up.action, up.desired.replicas) == (Action.SCALE_UP, 7)
    assert [each.reason for each in early.holds["chat"]] == [HoldReason.WARMING_UP]
    assert late.constraints["chat"].min_replicas == 1
    assert late.holds["chat"] == ()


@pytest.mark.parametrize("reason", list(HoldReason))
def test_every_reason_that_forbids_a_decrease_holds_it_back_and_lets_an_increase_through(
    reason: HoldReason,
) -> None:
    problem = shaped(a_workload(), (hold(Forbids.DECREASE, reason),))
    assert problem.constraints["chat"].min_replicas == 4
    assert problem.constraints["chat"].max_replicas is None
    policy = BoundsPolicy()
    (down,) = policy.steady(problem, answered(2)).decisions
    (up,) = policy.steady(problem, answered(7)).decisions
    assert (down.action, down.desired.replicas) == (Action.HOLD, 4)
    assert str(reason) in down.reason
    assert (up.action, up.desired.replicas) == (Action.SCALE_UP, 7)


def test_a_floor_of_safety_stands_above_a_ceiling_of_thrift() -> None:
    bound = shaped(a_workload(replicas=8, most=5), (hold(Forbids.DECREASE),)).constraints["chat"]
    assert (bound.min_replicas, bound.max_replicas) == (8, 8)


def test_a_hold_of_every_change_keeps_the_server_whatever_the_solver_says() -> None:
    problem = shaped(a_workload(), (hold(Forbids.CHANGE, HoldReason.SIGNAL_MISSING),))
    assert problem.constraints["chat"].keep
    for solution in (answered(9), answered(1), unserved(UnservedReason.NO_CAPACITY)):
        (kept,) = BoundsPolicy().steady(problem, solution).decisions
        assert (kept.action, kept.desired.replicas) == (Action.HOLD, 4)
        assert "signal-missing" in kept.reason


@pytest.mark.parametrize("reason", list(UnservedReason))
def test_a_server_without_allocation_keeps_what_it_has(reason: UnservedReason) -> None:
    (kept,) = BoundsPolicy().steady(shaped(a_workload()), unserved(reason)).decisions
    assert (kept.action, kept.desired.replicas) == (Action.HOLD, 4)
    assert "why not" in kept.reason
    expected = (
        HoldReason.NO_CAPACITY if reason is UnservedReason.NO_CAPACITY else HoldReason.NO_CANDIDATE
    )
    assert [each.reason for each in kept.holds] == [expected]


def test_a_solver_that_forgets_a_server_does_not_shrink_it() -> None:
    forgotten = Solution({}, (), SolveStatus.FEASIBLE, "greedy", 0.0)
    (kept,) = BoundsPolicy().steady(shaped(a_workload()), forgotten).decisions
    assert (kept.action, kept.desired.replicas) == (Action.HOLD, 4)


def test_a_decrease_that_nothing_forbids_is_made_with_its_reason() -> None:
    (made,) = BoundsPolicy().steady(shaped(a_workload()), answered(2)).decisions
    assert (made.action, made.desired.replicas) == (Action.SCALE_DOWN, 2)
    assert made.reason.startswith("4 -> 2 of A100: sized for 120.0 req/min of 100 in, 200 out")


def test_one_replica_is_kept_not_held() -> None:
    problem = shaped(a_workload(replicas=1), (hold(Forbids.DECREASE),))
    (kept,) = BoundsPolicy().steady(problem, answered(1)).decisions
    assert kept.action is Action.KEEP


def test_another_accelerator_or_batch_is_a_switch() -> None:
    problem = shaped(a_workload())
    for solution in (answered(4, accelerator="L40S"), answered(4, max_batch=16)):
        (made,) = BoundsPolicy().steady(problem, solution).decisions
        assert made.action is Action.SWITCH


@given(
    replicas=st.integers(1, 50),
    wanted=st.integers(0, 50),
    kinds=st.lists(st.sampled_from(list(Forbids)), max_size=3),
)
def test_no_decision_ever_goes_where_a_hold_forbids(
    replicas: int, wanted: int, kinds: list[Forbids]
) -> None:
    problem = shaped(a_workload(replicas), tuple(hold(kind) for kind in kinds))
    (made,) = BoundsPolicy().steady(problem, answered(wanted)).decisions
    if Forbids.CHANGE in kinds:
        assert made.desired.replicas == replicas
    if Forbids.DECREASE in kinds:
        assert made.desired.replicas >= replicas
    if Forbids.INCREASE in kinds:
        assert made.desired.replicas <= replicas


def test_a_server_that_asks_for_no_replica_at_least_has_said_so() -> None:
    policy = BoundsPolicy(Bounds(min_replicas=3))
    assert policy.shape(a_situation(a_workload())).constraints["chat"].min_replicas == 3
    own = policy.shape(a_situation(a_workload(least=0))).constraints["chat"]
    assert own.min_replicas == 1


@pytest.mark.parametrize(
    ("running", "asked", "action"),
    [(4, 0, Action.HOLD), (4, 1, Action.HOLD), (1, 2, Action.SCALE_UP), (9, 7, Action.SCALE_DOWN),
     (4, 9, Action.HOLD), (4, 2, Action.SCALE_DOWN), (4, 6, Action.SCALE_UP)],
)  # fmt: skip
def test_a_solver_that_leaves_the_bounds_is_not_obeyed(
    running: int, asked: int, action: Action
) -> None:
    policy = BoundsPolicy(Bounds(down_window_s=0.0))
    problem = policy.shape(a_situation(a_workload(running, least=2, most=6)))
    (decision,) = policy.steady(problem, answered(asked)).decisions
    assert decision.action is action
    if action is Action.HOLD:
        assert decision.desired == decision.current
        assert f"asks for {asked} replicas" in decision.reason


def test_a_decision_says_for_whom_replicas_are_given_up() -> None:
    entry = Unserved("chat", UnservedReason.RECLAIMED, "gave 2", ("high",))
    solution = replace(answered(2), unserved=(entry,))
    policy = BoundsPolicy(Bounds(down_window_s=0.0))
    (decision,) = policy.steady(policy.shape(a_situation(a_workload())), solution).decisions
    assert decision.makes_room_for == ("high",)


def test_a_hold_with_a_limit_bounds_a_decrease_and_is_named() -> None:
    limited = Hold(HoldReason.DOWN_WINDOW, Forbids.DECREASE, "needed 3 a minute ago", limit=3)
    problem = shaped(a_workload(replicas=6), (limited,))
    (down,) = BoundsPolicy().steady(problem, answered(3)).decisions
    (further,) = BoundsPolicy().steady(problem, answered(2)).decisions
    assert problem.constraints["chat"].min_replicas == 3
    assert (down.action, down.desired.replicas) == (Action.SCALE_DOWN, 3)
    assert "no further: down-window (needed 3 a minute ago)" in down.reason
    assert (further.action, further.desired.replicas) == (Action.HOLD, 6)


def test_an_increase_that_a_hold_stops_is_a_hold_and_not_a_keep() -> None:
    slow = Hold(HoldReason.UP_WINDOW, Forbids.INCREASE, "needed 4 a minute ago")
    problem = shaped(a_workload(), (slow,))
    short = Unserved("chat", UnservedReason.AT_MAXIMUM, "asks for 7, 4 allowed")
    solution = replace(answered(4), unserved=(short,))
    (decision,) = BoundsPolicy().steady(problem, solution).decisions
    assert decision.action is Action.HOLD
    assert "no increase: up-window" in decision.reason
