"""Other kinds than Deployments: their pods by the scale's selector, their replicas alone."""

from __future__ import annotations

from typing import Any

import pytest

from controlloop.actuator.diff import Means, plan
from controlloop.actuator.templates import AcceleratorTemplate
from controlloop.api.decision import (
    Action,
    Decision,
    Decisions,
    Patch,
    SwitchStep,
    TemplateChange,
)
from controlloop.api.holds import Forbids, HoldReason
from controlloop.api.observation import Observation, ServerObservation, Workload, WorkloadRef
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.switching import PodTemplate
from controlloop.api.system import Allocation
from controlloop.errors import InvalidObjectError
from controlloop.kube.access import Needs, rights
from controlloop.kube.resources import kind_at
from controlloop.kube.scale_targets import Selector, parse_scaled
from controlloop.kube.selectors import selector_text, selects
from controlloop.kube.writes import send_patch

STATEFUL_SETS = kind_at("StatefulSet", "apps/v1/statefulsets")
LABELS = {
    "inferno.server.name": "chat",
    "inferno.server.model": "m",
    "inferno.server.allocation.accelerator": "A100",
}
DONE = {"observedGeneration": 4, "replicas": 2, "updatedReplicas": 2}


def pod(name: str, namespace: str = "llm", ready: str = "True", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    }


def parsed(status: dict[str, Any] | None = None, selector: Selector | None = None) -> Workload:
    metadata = {"namespace": "llm", "name": "chat", "generation": 4, "labels": LABELS}
    thing = {"metadata": metadata, "spec": {"replicas": 2}, "status": status or DONE}
    selector = selector or Selector("app=chat")
    pods = selector.of(
        [
            pod("chat-1", app="chat", ready="False"),
            pod("chat-0", app="chat"),
            pod("other", app="other"),
            pod("chat-0", "elsewhere", app="chat"),
        ],
        "llm",
    )
    return parse_scaled(thing, STATEFUL_SETS, selector, pods, None)


def test_its_pods_are_those_that_its_scale_selects() -> None:
    workload = parsed()
    assert str(workload.ref) == "StatefulSet llm/chat"
    assert [each.name for each in workload.pods] == ["chat-0", "chat-1"]
    assert (workload.replicas, workload.ready_replicas) == (2, 1)
    assert workload.keep_accelerator
    assert workload.keep_batch
    assert workload.rollable is None
    assert workload.holds == ()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({**DONE, "observedGeneration": 3}, "has seen generation 3 of 4"),
        ({**DONE, "currentRevision": "a", "updateRevision": "b"}, "2 of 2 pods are made from"),
        ({**DONE, "updatedReplicas": 1}, "1 of 2 pods"),
        ({"replicas": 1}, "1 of 2 pods"),
    ],
)
def test_what_is_not_yet_as_its_spec_says_does_not_shrink(
    status: dict[str, Any], said: str
) -> None:
    (hold,) = parsed(status).holds
    assert (hold.reason, hold.forbids) == (HoldReason.ROLLOUT, Forbids.DECREASE)
    assert said in hold.detail


def test_one_whose_pods_are_not_known_is_held_and_told() -> None:
    workload = parsed(selector=Selector(problem="its scale subresource: not found"))
    (hold,) = workload.holds
    assert (hold.reason, hold.forbids) == (HoldReason.LABELS_INVALID, Forbids.CHANGE)
    assert workload.pods == ()


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", True),
        ("app=chat", True),
        ("app == chat,tier!=back", True),
        ("app in (a, chat),!gone,tier", True),
        ("app notin (chat)", False),
        ("app!=chat", False),
        ("gone", False),
        ("!app", False),
        ("leaderworkerset.sigs.k8s.io/name=chat", False),
    ],
)
def test_selectors_mean_what_they_mean_to_the_api_server(text: str, chosen: bool) -> None:
    assert selects(text, {"app": "chat", "tier": "front"}) is chosen


def test_a_selector_of_an_object_selects_as_a_query() -> None:
    selector = {
        "matchLabels": {"app": "chat"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "gone", "operator": "DoesNotExist"},
            {"key": "app", "operator": "Exists"},
            {"key": "app", "operator": "NotIn", "values": ["x"]},
        ],
    }
    assert selects(selector_text(selector), {"app": "chat", "tier": "back"})
    assert not selects(selector_text(selector), {"app": "chat", "tier": "back", "gone": ""})


@pytest.mark.parametrize("text", ["a b", "=x", "a in b", "a=b,,c"])
def test_what_is_no_selector_selects_nothing_unnoticed(text: str) -> None:
    with pytest.raises(InvalidObjectError, match="no label selector"):
        selects(text, {})


def test_a_change_of_anything_but_replicas_is_refused_before_it_is_sent() -> None:
    desired = Allocation("H100", 2, 0)
    decision = Decision("chat", Action.SWITCH, Allocation("A100", 2), desired, "why", surge=2)
    solution = Solution({}, (), SolveStatus.OPTIMAL, "greedy", 0.0)
    templates = {name: AcceleratorTemplate() for name in ("A100", "H100")}
    seen = Observation(0.0, (ServerObservation(parsed()),))
    planned = plan(Decisions((decision,), solution), seen, Means(templates))
    assert planned.patches == ()
    assert "a StatefulSet changes its replicas only" in planned.refusals[0].reason
    change = TemplateChange(SwitchStep.BEGIN, {}, PodTemplate())
    patch = Patch(WorkloadRef("llm", "chat", "u", "1"), "chat", 2, 2, {}, "", change=change)
    with pytest.raises(InvalidObjectError, match="only its replicas"):
        send_patch(None, patch, 1.0, "us", dry_run=False, scaled=STATEFUL_SETS)  # type: ignore[arg-type]


def test_its_rights_are_asked_for() -> None:
    asked = {str(each) for each in rights(Needs(namespaces=["llm"], kinds=[STATEFUL_SETS]))}
    for what in ("list statefulsets", "get statefulsets/scale", "patch statefulsets/scale"):
        assert f"{what} in namespace llm" in asked
    assert "patch statefulsets in namespace llm" not in asked
