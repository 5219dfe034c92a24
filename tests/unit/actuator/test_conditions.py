"""A Deployment that another controller scales says so, for as long as that is so."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from controlloop.actuator.conditions import condition_changes
from controlloop.api import labels as keys
from controlloop.api.conditions import Condition
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Observation, ServerObservation, Workload, WorkloadRef

NOON = 1_700_049_600.0
SCALED = Hold(HoldReason.OTHER_SCALER, Forbids.CHANGE, "HorizontalPodAutoscaler llm/a scales it")
HELD = Condition("Managed", "False", "other-scaler", SCALED.detail, "2023-11-15T12:00:00Z")


def seen(*holds: Hold, says: str | None = None, kind: str = "Deployment") -> Observation:
    ref = WorkloadRef("llm", "chat", "uid", "7", kind)
    labels = {keys.MODEL: "m"} | ({} if says is None else {keys.CONDITION: says})
    workload = Workload(ref, "chat", "m", "Free", "A100", 8, 2, labels=labels, holds=holds)
    return Observation(NOON, (ServerObservation(workload),))


def text(condition: Condition) -> str:
    return json.dumps(asdict(condition))


def test_another_scaler_is_said_with_its_name_and_since_when() -> None:
    (change,) = condition_changes(seen(SCALED))
    assert (change.server, change.ref.resource_version) == ("chat", "7")
    assert change.condition == HELD


def test_what_is_said_already_is_not_said_again() -> None:
    earlier = replace(HELD, lastTransitionTime="2023-11-15T09:00:00Z")
    assert condition_changes(seen(SCALED, says=text(earlier))) == ()


def test_another_scaler_in_the_place_of_the_first_is_said_and_the_time_stays() -> None:
    earlier = replace(HELD, message="somebody scales it", lastTransitionTime="2023-11-15T09:00:00Z")
    (change,) = condition_changes(seen(SCALED, says=text(earlier)))
    assert change.condition == replace(HELD, lastTransitionTime="2023-11-15T09:00:00Z")


def test_when_it_ends_the_condition_goes() -> None:
    (change,) = condition_changes(seen(says=text(HELD)))
    assert change.condition is None


def test_a_managed_deployment_says_nothing() -> None:
    other = Hold(HoldReason.ROLLOUT, Forbids.DECREASE, "1 of 2 pods")
    assert condition_changes(seen(other)) == ()


def test_what_somebody_else_wrote_there_stays_while_there_is_nothing_to_say() -> None:
    assert condition_changes(seen(says="a note")) == ()
    assert condition_changes(seen(says='{"type": "Managed"}')) == ()


def test_what_is_unreadable_is_replaced_where_there_is_something_to_say() -> None:
    (change,) = condition_changes(seen(SCALED, says="a note"))
    assert change.condition == HELD


def test_of_a_kind_of_which_only_the_scale_is_ours_nothing_is_written() -> None:
    assert condition_changes(seen(SCALED, kind="StatefulSet")) == ()


def test_a_sibling_that_another_controller_scales_says_so_itself() -> None:
    (server,) = seen().servers
    (scaled,) = seen(SCALED).servers
    sibling = replace(scaled.workload, ref=WorkloadRef("llm", "chat-h100", "u2", "9"))
    found = condition_changes(Observation(NOON, (replace(server, siblings=(sibling,)),)))
    assert [(each.ref.name, each.condition) for each in found] == [("chat-h100", HELD)]
