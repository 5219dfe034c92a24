"""Growth stays within the quotas on cards; what runs is not touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.decision import Action, Decision, Problem
from controlloop.api.holds import HoldReason
from controlloop.api.observation import Observation, Pod, QuotaShare, ServerObservation, Workload
from controlloop.api.observation import WorkloadRef as Ref
from controlloop.api.quotas import ServerQuota, quotas_of
from controlloop.api.system import Allocation, Server, ServiceClass, System
from controlloop.kube.quotas import quota_shares
from controlloop.stability.quota_fit import within_quotas

SYSTEM = System(
    classes=(ServiceClass("first", 1), ServiceClass("last", 9)),
    servers=(Server("a", "m", "last"), Server("b", "m", "first")),
)
CARD = "nvidia.com/gpu"


def share(cards: int = 2, hard: int = 10, used: int = 4) -> QuotaShare:
    return QuotaShare("ResourceQuota llm/few", CARD, cards, hard, used)


def change(server: str, before: int, after: int, action: Action | None = None) -> Decision:
    way = Action.SCALE_UP if after > before else Action.SCALE_DOWN
    here = Allocation("A", before, 8, float(before))
    there = replace(here, replicas=after, cost_per_hour=float(after))
    return Decision(server, action or way, here, there, "because")


def fitted(quotas: dict[str, ServerQuota], *decisions: Decision) -> list[tuple[str, int]]:
    found = within_quotas(decisions, Problem(SYSTEM, {}, {}, quotas=quotas))
    return [(str(each.action), each.desired.replicas) for each in found]


def test_growth_is_cut_to_what_the_quota_leaves_and_names_it() -> None:
    quotas = {"a": ServerQuota((share(),), 0)}
    problem = Problem(SYSTEM, {}, {}, quotas=quotas)
    (cut,) = within_quotas((change("a", 2, 9),), problem)
    assert cut.desired.replicas == 5
    (hold,) = cut.holds
    assert hold.reason is HoldReason.QUOTA
    assert hold.detail == (
        "3 of 7 new replicas are allowed: each asks for 2 nvidia.com/gpu, "
        "ResourceQuota llm/few has 4 of 10 used"
    )
    assert fitted(quotas, change("a", 9, 2)) == [("scale-down", 2)]


def test_who_has_priority_has_what_is_left_first() -> None:
    quotas = {name: ServerQuota((share(),), 0) for name in ("a", "b")}
    both = (change("a", 1, 3), change("b", 1, 3))
    assert fitted(quotas, *both) == [("scale-up", 2), ("scale-up", 3)]


def test_pods_that_are_still_to_be_made_come_before_growth() -> None:
    quotas = {"a": ServerQuota((share(),), 2), "b": ServerQuota((share(),), 0)}
    assert fitted(quotas, change("b", 1, 4)) == [("scale-up", 2)]


def test_the_tightest_of_two_quotas_counts_and_no_room_is_no_change() -> None:
    other = replace(share(hard=4), quota="ResourceQuota llm/fewer")
    quotas = {"a": ServerQuota((share(), other), 0)}
    assert fitted(quotas, change("a", 2, 3)) == [("hold", 2)]
    assert fitted(quotas, change("a", 2, 3, Action.SWITCH)) == [("hold", 2)]
    assert fitted({}, change("a", 2, 9)) == [("scale-up", 9)]


@given(
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.integers(1, 4),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_never_more_than_the_quota_leaves_and_never_fewer_than_run(
    a: tuple[int, int], b: tuple[int, int], cards: int, hard: int, used: int
) -> None:
    quotas = {name: ServerQuota((share(cards, hard, used),), 0) for name in ("a", "b")}
    both = (change("a", *a), change("b", *b))
    found = within_quotas(both, Problem(SYSTEM, {}, {}, quotas=quotas))
    grown = [max(each.desired.replicas - each.current.replicas, 0) for each in found]
    assert sum(grown) * cards <= max(hard - used, 0)
    for before, after in zip(both, found, strict=True):
        assert after.desired.replicas >= min(before.desired.replicas, before.current.replicas)


def test_a_quota_is_read_with_what_each_pod_asks_for() -> None:
    def quota(**spec: Any) -> dict[str, Any]:
        used = {"requests.nvidia.com/gpu": "4"}
        hard = {"hard": {"requests.nvidia.com/gpu": "10", "pods": "3"}}
        metadata = {"namespace": "llm", "name": "few"}
        return {"metadata": metadata, "spec": hard | spec, "status": {"used": used}}

    container = {"name": "engine", "resources": {"limits": {CARD: "2"}}}
    template = {"spec": {"containers": [container]}}
    deployment = {"metadata": {"namespace": "llm"}, "spec": {"template": template}}
    elsewhere = quota() | {"metadata": {"namespace": "other", "name": "few"}}
    scoped = quota(scopes=["Terminating"])
    assert quota_shares(deployment, [quota(), elsewhere, scoped]) == (share(),)
    assert quota_shares(deployment, [quota(scopes=["NotTerminating"])]) == (share(),)
    without = {"metadata": {"namespace": "llm"}, "spec": {"template": {"spec": {}}}}
    assert quota_shares(without, [quota()]) == ()


def test_replicas_without_a_pod_are_due() -> None:
    pods = (Pod("x"), Pod("y", terminating=True))
    workload = Workload(Ref("llm", "a"), "a", "m", "last", "A", 8, 3, pods=pods, quotas=(share(),))
    found = quotas_of(Observation(0.0, (ServerObservation(workload),)))
    assert found == {"a": ServerQuota((share(),), 2)}
