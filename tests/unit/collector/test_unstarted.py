"""Pods that were added and do not start: it is told, and no more of the same are added."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Pod, ServerObservation, Workload, WorkloadRef
from controlloop.collector.unstarted import Patience, without_unstarted
from controlloop.kube.parsing import parse_pod

NOW = 10_000.0
OLD = Pod("a", started_at=1_000.0, ready_since=1_040.0)
"""Its start took 40 s."""
STUCK = Pod("s", ready=False, started_at=NOW - 700.0, unready_since=NOW - 699.0)
PATIENCE = Patience(least_s=600.0, factor=3.0)


def server(*pods: Pod, holds: tuple[Hold, ...] = ()) -> ServerObservation:
    named = tuple(replace(pod, name=f"{pod.name}{at}") for at, pod in enumerate(pods))
    ref = WorkloadRef("llm", "chat")
    workload = Workload(ref, "chat", "m", "Free", "A100", 32, len(pods), pods=named, holds=holds)
    return ServerObservation(workload)


def limit_of(*pods: Pod, patience: Patience = PATIENCE) -> int | None:
    """The most replicas that are allowed; None: as many as one likes."""
    holds = without_unstarted(server(*pods), NOW, patience).holds
    return holds[0].limit if holds else None


def test_it_is_told_with_its_numbers_and_forbids_growth_alone() -> None:
    (hold,) = without_unstarted(server(OLD, STUCK, STUCK), NOW, PATIENCE).holds
    assert hold.reason is HoldReason.GROWTH_NOT_READY
    assert hold.detail == (
        "2 of 3 pods are not ready after 600 s, the first started 700 s ago; 0 became ready since"
    )
    assert hold.binds(Forbids.INCREASE, 3, 4)
    assert not hold.binds(Forbids.DECREASE, 3, 1)


def test_one_pod_alone_may_have_a_broken_node_so_one_more_is_tried() -> None:
    assert limit_of(OLD, STUCK) == 3
    # That one is under way: it shows which of the two it is.
    under_way = Pod("n", ready=False, started_at=NOW - 10.0, unready_since=NOW - 10.0)
    assert limit_of(OLD, STUCK, under_way) == 3
    assert limit_of(OLD, STUCK, replace(under_way, started_at=None)) == 3


def test_as_many_more_are_allowed_as_started_since() -> None:
    fresh = Pod("f", started_at=NOW - 650.0, ready_since=NOW - 610.0)
    assert limit_of(OLD, STUCK, STUCK, fresh, fresh) == 7


def test_those_under_way_are_counted_so_that_no_cycle_adds_as_many_again() -> None:
    fresh = Pod("f", started_at=NOW - 650.0, ready_since=NOW - 610.0)
    under_way = Pod("n", ready=False, started_at=NOW - 10.0, unready_since=NOW - 10.0)
    assert limit_of(OLD, STUCK, STUCK, fresh, fresh, under_way) == 7
    assert limit_of(OLD, STUCK, STUCK, fresh, fresh, under_way, under_way) == 7
    # Asked for, and not made yet.
    seen = server(OLD, STUCK, STUCK, fresh, fresh)
    asked = replace(seen, workload=replace(seen.workload, replicas=7))
    assert without_unstarted(asked, NOW, PATIENCE).holds[0].limit == 7


@pytest.mark.parametrize(
    "pod",
    [
        replace(STUCK, started_at=NOW - 599.0, unready_since=NOW - 599.0),
        replace(STUCK, terminating=True),
        replace(STUCK, ready=True),
        # It was ready, and is not any more: that is no start.
        replace(STUCK, started_at=1_000.0, unready_since=NOW - 700.0),
        # What finds no node is told as that.
        replace(STUCK, unplaced_since=NOW - 700.0),
        replace(STUCK, started_at=None),
    ],
)
def test_pods_that_start_in_time_or_are_no_start_are_left_alone(pod: Pod) -> None:
    seen = server(OLD, pod)
    assert without_unstarted(seen, NOW, PATIENCE) == seen


def test_where_pods_take_long_to_start_they_have_as_much_longer() -> None:
    slow = replace(OLD, ready_since=1_300.0)
    assert limit_of(slow, STUCK) is None
    assert limit_of(slow, STUCK, patience=Patience(600.0, factor=2.0)) == 3
    # A restarted one shows the time of its restart.
    assert limit_of(replace(slow, restarts=1), STUCK) == 3


def test_while_the_template_changes_that_says_it() -> None:
    hold = Hold(HoldReason.PODS_NOT_READY, Forbids.DECREASE, "deadline")
    seen = server(OLD, STUCK, holds=(hold,))
    assert without_unstarted(seen, NOW, PATIENCE) == seen


def test_it_can_be_switched_off() -> None:
    assert limit_of(OLD, STUCK, STUCK, patience=Patience(least_s=0.0)) is None


def test_since_when_a_pod_is_unready_is_read_off_it() -> None:
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:01:00Z"}
    pod = parse_pod({"metadata": {"name": "a"}, "status": {"conditions": [ready]}})
    assert pod.unready_since == 60.0
    ready["status"] = "True"
    pod = parse_pod({"metadata": {"name": "a"}, "status": {"conditions": [ready]}})
    assert (pod.unready_since, pod.ready_since) == (None, 60.0)
