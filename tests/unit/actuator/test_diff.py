from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.actuator.diff import plan, revise
from controlloop.api.decision import Action, Decision, Decisions, Patch, Plan
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Observation, ServerObservation, Workload, WorkloadRef
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import Allocation

SOLUTION = Solution({}, (), SolveStatus.OPTIMAL, "unlimited", 0.0)
LABELS = {"inferno.server.name": "s", "inferno.server.allocation.accelerator": "A100"}
ROLLOUT = Hold(HoldReason.ROLLOUT, Forbids.DECREASE, "1 of 3 pods")
PAUSED = Hold(HoldReason.PAUSED, Forbids.CHANGE, "inferno.server.paused is set")
SCALED = Hold(HoldReason.OTHER_SCALER, Forbids.CHANGE, "HorizontalPodAutoscaler a/b scales it")
STALE = Hold(HoldReason.SIGNAL_STALE, Forbids.DECREASE, "arrivals are 90 s old")


def a_workload(name: str = "s", replicas: int = 4, **changes: Any) -> Workload:
    ref = WorkloadRef("llm", name, f"uid-{name}", "7")
    workload = Workload(ref, name, "m", "Premium", "A100", 32, replicas, labels=LABELS)
    return replace(workload, **changes)


def a_decision(
    server: str = "s",
    replicas: int = 6,
    action: Action | None = None,
    before: int = 4,
    **desired: Any,
) -> Decision:
    if action is None:
        action = Action.SCALE_UP if replicas > before else Action.SCALE_DOWN
    wanted = replace(Allocation("A100", replicas, 32), **desired)
    return Decision(server, action, Allocation("A100", before, 32), wanted, "because")


def planned(
    *decisions: Decision, seen: list[Workload] | None = None, holds: tuple[Hold, ...] = ()
) -> Plan:
    workloads = [a_workload()] if seen is None else seen
    servers = tuple(ServerObservation(workload, holds=holds) for workload in workloads)
    return plan(Decisions(decisions, SOLUTION), Observation(0.0, servers))


def refused(result: Plan) -> str:
    assert result.patches == ()
    (refusal,) = result.refusals
    assert refusal.server == "s"
    return refusal.reason


@pytest.mark.parametrize("replicas", [6, 2])
def test_a_change_of_replicas_is_one_patch_that_says_what_it_rests_on(replicas: int) -> None:
    result = planned(a_decision(replicas=replicas))
    assert result.refusals == ()
    assert result.patches == (Patch(a_workload().ref, "s", 4, replicas, {}, "because", LABELS),)


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert planned(a_decision(replicas=4, action=Action.SCALE_UP)) == Plan()
    assert planned() == Plan()


@pytest.mark.parametrize("action", [Action.KEEP, Action.HOLD])
def test_keep_and_hold_never_become_a_patch(action: Action) -> None:
    assert planned(a_decision(replicas=9, action=action)) == Plan()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accelerator": "H100"}, "accelerator 'A100' -> 'H100'"),
        ({"accelerator": ""}, "accelerator 'A100' -> ''"),
        ({"max_batch": 64}, "maximum batch 32 -> 64"),
    ],
)
def test_what_no_template_makes_real_is_refused_whole(change: dict[str, Any], said: str) -> None:
    reason = refused(planned(a_decision(action=Action.SWITCH, **change)))
    assert said in reason
    assert "no template" in reason


def test_no_replicas_of_nothing_is_no_change_of_accelerator() -> None:
    (patch,) = planned(a_decision(replicas=0, accelerator="", max_batch=0)).patches
    assert patch.replicas == 0


def test_a_server_that_does_not_say_its_batch_may_still_scale() -> None:
    (patch,) = planned(a_decision(max_batch=64), seen=[a_workload(max_batch=0)]).patches
    assert patch.replicas == 6
    assert patch.labels == {}


@pytest.mark.parametrize("hold", [ROLLOUT, STALE, PAUSED])
def test_a_decrease_against_a_hold_is_refused_with_its_reason(hold: Hold) -> None:
    reason = refused(planned(a_decision(replicas=2), holds=(hold,)))
    assert hold.reason in reason
    assert hold.detail in reason


def test_an_increase_passes_holds_that_forbid_a_decrease() -> None:
    assert len(planned(a_decision(replicas=6), holds=(ROLLOUT, STALE)).patches) == 1


def test_a_decision_whose_numbers_contradict_its_action_is_refused() -> None:
    assert "cannot go" in refused(planned(a_decision(replicas=2, action=Action.SCALE_UP)))


def test_servers_of_one_name_are_all_refused_and_told() -> None:
    twins = [a_workload(), replace(a_workload(), ref=WorkloadRef("other", "twin", "u2", "9"))]
    result = planned(a_decision(), seen=twins)
    assert result.patches == ()
    assert [refusal.ref for refusal in result.refusals] == [twin.ref for twin in twins]
    assert all("Deployment other/twin" in refusal.reason for refusal in result.refusals)


def test_a_server_that_was_not_seen_is_refused() -> None:
    assert "no workload" in refused(planned(a_decision(), seen=[]))


def test_a_hold_that_only_the_owner_can_mend_is_told_to_the_owner() -> None:
    decision = replace(a_decision(action=Action.HOLD), holds=(SCALED,))
    result = planned(decision, holds=(SCALED, STALE))
    assert refused(result) == "other-scaler: HorizontalPodAutoscaler a/b scales it"
    assert result.refusals[0].ref == a_workload().ref


def test_patches_stand_in_order_of_server_name() -> None:
    names = ["c", "a", "b"]
    result = planned(*map(a_decision, names), seen=[a_workload(name) for name in names])
    assert [patch.server for patch in result.patches] == ["a", "b", "c"]


holds_of = st.lists(
    st.builds(
        Hold, st.sampled_from(HoldReason), st.sampled_from(Forbids), st.sampled_from(["", "why"])
    ),
    max_size=3,
).map(tuple)
decisions_of = st.builds(
    Decision,
    st.just("s"),
    st.sampled_from(Action),
    st.builds(Allocation, st.just("A100"), st.integers(0, 9)),
    st.builds(
        Allocation,
        st.sampled_from(["A100", "H100", ""]),
        st.integers(-1, 9),
        st.sampled_from([0, 32, 64]),
    ),
    st.just("because"),
    holds_of,
)


@given(decisions_of, st.integers(0, 9), holds_of)
def test_a_patch_is_only_what_decision_and_holds_allow(
    decision: Decision, replicas: int, holds: tuple[Hold, ...]
) -> None:
    result = planned(decision, seen=[a_workload(replicas=replicas)], holds=holds)
    for patch in result.patches:
        assert decision.action not in (Action.KEEP, Action.HOLD)
        assert patch.replicas == decision.desired.replicas != replicas
        assert patch.labels == {}
        assert decision.desired.accelerator in ("A100", "")
        direction = Forbids.INCREASE if patch.replicas > replicas else Forbids.DECREASE
        for hold in decision.holds + holds:
            assert not hold.binds(direction, replicas, patch.replicas)


@given(decisions_of, st.integers(0, 9))
def test_what_is_already_so_needs_no_patch(decision: Decision, replicas: int) -> None:
    same = replace(decision, desired=Allocation("A100", replicas, 32))
    assert planned(same, seen=[a_workload(replicas=replicas)]).patches == ()


def a_patch(replicas: int) -> Patch:
    return planned(a_decision(replicas=replicas)).patches[0]


@pytest.mark.parametrize("replicas", [6, 2])
def test_a_patch_is_repeated_on_the_new_version_where_only_the_status_changed(
    replicas: int,
) -> None:
    newer = replace(a_workload().ref, resource_version="8")
    patch = a_patch(replicas)
    assert revise(patch, a_workload(ref=newer)) == replace(patch, ref=newer)


def test_growth_that_does_not_start_is_told_although_nothing_is_to_be_changed() -> None:
    stuck = Hold(HoldReason.GROWTH_NOT_READY, Forbids.INCREASE, "2 of 4 pods", 4)
    kept = a_decision(replicas=4, action=Action.KEEP)
    assert planned(kept).refusals == ()
    (told,) = planned(kept, holds=(stuck, STALE)).refusals
    assert (told.server, told.kinds) == ("s", ("growth-not-ready",))
    assert told.ref == a_workload().ref
    assert told.reason == "growth-not-ready: 2 of 4 pods"
    # The same kind of refusal whatever was decided: it is told once.
    held = a_decision(replicas=4, action=Action.HOLD)
    (again,) = planned(held, holds=(stuck,)).refusals
    assert again.kinds == told.kinds


def test_our_own_condition_that_came_or_went_meanwhile_stops_no_patch() -> None:
    newer = replace(a_workload().ref, resource_version="8")
    fresh = a_workload(ref=newer, labels=LABELS | {"inferno.server.condition": "{}"})
    assert revise(a_patch(6), fresh) == replace(a_patch(6), ref=newer)


def test_an_increase_still_adds_to_what_somebody_added() -> None:
    revised = revise(a_patch(6), a_workload(replicas=5))
    assert isinstance(revised, Patch)
    assert (revised.replicas_before, revised.replicas) == (5, 6)


@pytest.mark.parametrize(("wanted", "now"), [(6, 3), (6, 8), (2, 3), (2, 5), (2, 1)])
def test_who_set_replicas_meanwhile_is_not_overruled(wanted: int, now: int) -> None:
    said = revise(a_patch(wanted), a_workload(replicas=now))
    assert isinstance(said, str)
    assert f"set to {now}" in said


@pytest.mark.parametrize(
    ("wanted", "change", "said"),
    [
        (2, {"holds": (ROLLOUT,)}, "rollout-in-progress"),
        (2, {"holds": (PAUSED,)}, "paused"),
        (6, {"holds": (SCALED,)}, "other-scaler"),
        (2, {"labels": {**LABELS, "inferno.server.model": "other"}}, "labels"),
        (6, {"labels": {}}, "labels"),
    ],
)
def test_a_patch_is_not_repeated_where_other_facts_changed(
    wanted: int, change: dict[str, Any], said: str
) -> None:
    answer = revise(a_patch(wanted), a_workload(**change))
    assert isinstance(answer, str)
    assert said in answer


def test_an_increase_is_repeated_during_a_rollout() -> None:
    assert isinstance(revise(a_patch(6), a_workload(holds=(ROLLOUT,))), Patch)


def test_a_load_that_was_written_anew_does_not_stop_a_patch() -> None:
    fresh = a_workload(labels={**LABELS, "inferno.server.load.rpm": "90"})
    assert isinstance(revise(a_patch(2), fresh), Patch)


def test_what_a_change_makes_room_for_goes_with_its_patch() -> None:
    decision = replace(a_decision(replicas=2), makes_room_for=("high",))
    (patch,) = planned(decision).patches
    assert patch.makes_room_for == ("high",)


def test_a_hold_with_a_limit_lets_a_decrease_go_as_far_as_that() -> None:
    limited = (Hold(HoldReason.DOWN_WINDOW, Forbids.DECREASE, "needed 3 a minute ago", limit=3),)
    (patch,) = planned(
        a_decision(replicas=3, before=5), seen=[a_workload(replicas=5)], holds=limited
    ).patches
    further = planned(
        a_decision(replicas=2, before=5), seen=[a_workload(replicas=5)], holds=limited
    )
    assert patch.replicas == 3
    assert "down-window" in refused(further)
