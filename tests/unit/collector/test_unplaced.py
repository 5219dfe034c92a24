from __future__ import annotations

from dataclasses import replace

import pytest

from controlloop.api.assembly import assemble
from controlloop.api.decision import Estimate, Forecast
from controlloop.api.holds import Forbids, HoldReason
from controlloop.api.node_cards import NodeCards
from controlloop.api.observation import Observation, Pod, ServerObservation, Workload, WorkloadRef
from controlloop.api.system import Accelerator, PerfParameters, System
from controlloop.collector.unplaced import without_unplaced
from controlloop.kube.parsing import parse_pod

WHY = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
WAITS = Pod(
    "b", phase="Pending", ready=False, scheduled=False, unplaced_since=100.0, unplaced_why=WHY
)
NOW = 400.0


def server(*pods: Pod) -> ServerObservation:
    workload = Workload(WorkloadRef("llm", "chat"), "chat", "m", "Free", "A100", 32, 3, pods=pods)
    return ServerObservation(workload)


def test_pods_that_find_no_node_forbid_more_of_them_and_nothing_else() -> None:
    seen = without_unplaced(server(Pod("a"), WAITS, WAITS), NOW, 300.0)
    (hold,) = seen.holds
    assert hold.reason is HoldReason.UNPLACED
    assert hold.detail == f"2 of 3 pods find no node, the first for 300 s: {WHY}"
    assert seen.unplaced == 2
    assert hold.binds(Forbids.INCREASE, 3, 4)
    assert not hold.binds(Forbids.DECREASE, 3, 1)


@pytest.mark.parametrize(
    "pod",
    [
        replace(WAITS, unplaced_since=101.0),
        replace(WAITS, unplaced_since=None),
        replace(WAITS, terminating=True),
        replace(WAITS, scheduled=True),
    ],
)
def test_pods_that_wait_a_moment_or_go_are_counted_on(pod: Pod) -> None:
    assert without_unplaced(server(pod), NOW, 300.0) == server(pod)


def test_it_can_be_switched_off() -> None:
    assert without_unplaced(server(WAITS), 1e9, 0.0).unplaced == 0


def test_the_schedulers_words_are_read_off_the_pod() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": WHY,
        "lastTransitionTime": "1970-01-01T00:01:40Z",
    }
    pod = parse_pod({"metadata": {"name": "b"}, "status": {"conditions": [condition]}})
    assert (pod.unplaced_since, pod.unplaced_why) == (100.0, WHY)
    gated = {**condition, "reason": "SchedulingGated"}
    assert (
        parse_pod({"metadata": {"name": "b"}, "status": {"conditions": [gated]}}).unplaced_since
        is None
    )


@pytest.mark.parametrize(
    ("nodes", "elastic", "cards"),
    [(None, (), 6), ((), ("A100",), 6), ((NodeCards("n", "A100", 0),), (), 10)],
)
def test_cards_that_are_waited_for_in_vain_are_not_there_unless_nodes_show_them(
    nodes: tuple[NodeCards, ...] | None, elastic: tuple[str, ...], cards: int
) -> None:
    perf = PerfParameters("m", "A100", (1.0, 1.0, 1.0, 1.0), 32, 64, accelerators_per_replica=2)
    catalog = System(
        accelerators=(Accelerator("A100", "A100", cost_per_hour=1.0),),
        capacity={"A100": 10},
        perf=(perf,),
    )
    seen = without_unplaced(server(Pod("a"), WAITS, WAITS), NOW, 300.0)
    observation = Observation(NOW, (seen,), nodes=nodes, elastic=elastic)
    estimate, forecast = Estimate((perf,)), Forecast({})
    found = assemble(NOW, 0.0, catalog, observation, estimate, forecast, 0.0)
    assert found.system.capacity == {"A100": cards}
