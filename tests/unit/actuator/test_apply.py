from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Barrier, Lock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.actuator.apply import ClusterActuator
from controlloop.actuator.maintenance import MaintenanceSwitch
from controlloop.actuator.options import ActuatorOptions, Mode
from controlloop.api.conditions import Condition, ConditionChange
from controlloop.api.decision import (
    Birth,
    Patch,
    PatchOutcome,
    PatchStatus,
    Plan,
    Refusal,
)
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.node_cards import CountedCards
from controlloop.api.observation import Workload, WorkloadRef
from controlloop.api.switching import PodTemplate
from controlloop.clock import Deadline, ManualClock
from controlloop.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)

LABELS = {"inferno.server.name": "s"}
ROLLOUT = Hold(HoldReason.ROLLOUT, Forbids.DECREASE, "1 of 3 pods")


@dataclass
class MemoryCluster:
    """Workloads in memory; a patch of another version than the stored one conflicts."""

    stored: dict[str, Workload] = field(default_factory=dict)
    faults: dict[str, ClusterError] = field(default_factory=dict)
    event_fault: ClusterError | None = None
    before_patch: Callable[[Patch], None] = lambda _: None
    sent: list[Patch] = field(default_factory=list)
    dry: list[Patch] = field(default_factory=list)
    timeouts_s: list[float] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    annotated: list[tuple[str, Mapping[str, str | None]]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def add(self, name: str, replicas: int) -> Workload:
        ref = WorkloadRef("llm", name, f"uid-{name}", "1")
        self.stored[name] = Workload(ref, name, "m", "Premium", "A100", 32, replicas, labels=LABELS)
        return self.stored[name]

    def change(self, name: str, **changes: object) -> None:
        """Somebody else writes the workload."""
        workload = self.stored[name]
        version = str(int(workload.ref.resource_version) + 1)
        ref = replace(workload.ref, resource_version=version)
        self.stored[name] = replace(workload, ref=ref, **changes)  # type: ignore[arg-type]

    def replicas(self) -> dict[str, int]:
        return {name: workload.replicas for name, workload in self.stored.items()}

    def workloads(self, timeout_s: float) -> tuple[Workload, ...]:
        return tuple(self.stored.values())

    def workload(self, ref: WorkloadRef, timeout_s: float) -> Workload:
        if ref.name not in self.stored:
            raise NotFoundError(f"{ref} is gone")
        return self.stored[ref.name]

    def capacity(self, timeout_s: float) -> CountedCards:
        return CountedCards()

    def patch(self, patch: Patch, timeout_s: float, *, dry_run: bool) -> None:
        self.before_patch(patch)
        with self.lock:
            self.timeouts_s.append(timeout_s)
            if patch.ref.name in self.faults:
                raise self.faults[patch.ref.name]
            now = self.workload(patch.ref, timeout_s)
            if now.ref.resource_version != patch.ref.resource_version:
                raise ConflictError(f"{patch.ref} changed")
            (self.dry if dry_run else self.sent).append(patch)
            if not dry_run:
                self.change(patch.ref.name, replicas=patch.replicas)

    def annotate(
        self, ref: WorkloadRef, annotations: Mapping[str, str | None], timeout_s: float
    ) -> None:
        with self.lock:
            if ref.name in self.faults:
                raise self.faults[ref.name]
            if self.workload(ref, timeout_s).ref.resource_version != ref.resource_version:
                raise ConflictError(f"{ref} changed")
            self.annotated.append((ref.name, annotations))

    def record(self, ref: WorkloadRef, reason: str, message: str, timeout_s: float) -> None:
        with self.lock:
            if self.event_fault is not None:
                raise self.event_fault
            self.events.append((ref.name, reason, message))


@dataclass
class Guard:
    left_s: float = 60.0

    def remaining_s(self) -> float:
        return self.left_s


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


def a_patch(cluster: MemoryCluster, name: str, before: int, after: int) -> Patch:
    ref = cluster.add(name, before).ref
    return Patch(ref, name, before, after, {}, f"{before} -> {after}", LABELS)


def applied(
    cluster: MemoryCluster,
    *patches: Patch,
    options: ActuatorOptions | None = None,
    left_s: float = 60.0,
    budget_s: float = 30.0,
) -> list[PatchOutcome]:
    actuator = ClusterActuator(cluster, Guard(left_s), options)
    outcome = actuator.apply(Plan(patches), Deadline(ManualClock(), budget_s))
    return list(outcome.patches)


def statuses(outcomes: list[PatchOutcome]) -> list[PatchStatus]:
    return [outcome.status for outcome in outcomes]


def test_every_patch_is_applied_and_reported_in_the_plans_order(cluster: MemoryCluster) -> None:
    patches = [a_patch(cluster, "a", 4, 2), a_patch(cluster, "b", 1, 3)]
    outcomes = applied(cluster, *patches)
    assert [outcome.patch for outcome in outcomes] == patches
    assert statuses(outcomes) == [PatchStatus.APPLIED] * 2
    assert cluster.replicas() == {"a": 2, "b": 3}


def test_increases_are_done_before_any_decrease_begins(cluster: MemoryCluster) -> None:
    changes = {"a": (4, 2), "b": (1, 3), "c": (5, 1), "d": (1, 2)}
    applied(cluster, *[a_patch(cluster, name, *pair) for name, pair in changes.items()])
    assert {patch.server for patch in cluster.sent[:2]} == {"b", "d"}
    assert {patch.server for patch in cluster.sent[2:]} == {"a", "c"}


def test_writes_go_out_side_by_side(cluster: MemoryCluster) -> None:
    together = Barrier(4, timeout=10.0)
    cluster.before_patch = lambda _: (together.wait(), None)[1]
    patches = [a_patch(cluster, name, 1, 2) for name in "abcd"]
    assert statuses(applied(cluster, *patches)) == [PatchStatus.APPLIED] * 4


def test_one_workloads_failure_harms_no_other(cluster: MemoryCluster) -> None:
    patches = [a_patch(cluster, name, 4, 2) for name in "abcd"]
    cluster.faults = {"a": ForbiddenError("not allowed"), "c": UnavailableError("timed out")}
    del cluster.stored["d"]
    outcomes = applied(cluster, *patches)
    failed, done = PatchStatus.FAILED, PatchStatus.APPLIED
    assert statuses(outcomes) == [failed, done, failed, failed]
    assert outcomes[0].detail == "not allowed"
    assert "whether it was applied shows in the next cycle" in outcomes[2].detail
    assert "gone" in outcomes[3].detail
    assert cluster.replicas() == {"a": 4, "b": 2, "c": 4}


def test_a_conflict_is_read_and_compared_again_and_then_sent(cluster: MemoryCluster) -> None:
    patch = a_patch(cluster, "a", 4, 2)
    cluster.change("a", ready_replicas=3)
    (outcome,) = applied(cluster, patch)
    assert outcome.status is PatchStatus.APPLIED
    assert cluster.replicas() == {"a": 2}


def test_a_second_conflict_ends_the_attempt(cluster: MemoryCluster) -> None:
    patch = a_patch(cluster, "a", 4, 2)
    cluster.before_patch = lambda _: cluster.change("a", ready_replicas=3)
    (outcome,) = applied(cluster, patch)
    assert outcome.status is PatchStatus.FAILED
    assert cluster.replicas() == {"a": 4}
    assert len(cluster.timeouts_s) == 2


def test_who_scaled_meanwhile_is_not_overruled(cluster: MemoryCluster) -> None:
    patches = [a_patch(cluster, "a", 4, 2), a_patch(cluster, "b", 4, 6)]
    cluster.change("a", replicas=9)
    cluster.change("b", replicas=9)
    outcomes = applied(cluster, *patches)
    assert statuses(outcomes) == [PatchStatus.NOT_SENT] * 2
    assert "set to 9" in outcomes[0].detail
    assert cluster.replicas() == {"a": 9, "b": 9}


def test_what_somebody_did_already_is_unnecessary(cluster: MemoryCluster) -> None:
    patch = a_patch(cluster, "a", 4, 2)
    cluster.change("a", replicas=2)
    assert statuses(applied(cluster, patch)) == [PatchStatus.UNNECESSARY]


def test_a_rollout_that_began_meanwhile_stops_a_decrease_only(cluster: MemoryCluster) -> None:
    patches = [a_patch(cluster, "a", 4, 2), a_patch(cluster, "b", 4, 6)]
    for name in "ab":
        cluster.change(name, holds=(ROLLOUT,))
    outcomes = applied(cluster, *patches)
    assert statuses(outcomes) == [PatchStatus.NOT_SENT, PatchStatus.APPLIED]
    assert "rollout-in-progress" in outcomes[0].detail


@pytest.mark.parametrize(("left_s", "sent"), [(0.0, 0), (5.0, 0), (6.0, 0), (6.1, 1)])
def test_a_write_needs_a_lease_that_outlasts_its_time_out(
    cluster: MemoryCluster, left_s: float, sent: int
) -> None:
    options = ActuatorOptions(write_timeout_s=5.0, lease_margin_s=1.0)
    (outcome,) = applied(cluster, a_patch(cluster, "a", 1, 2), options=options, left_s=left_s)
    assert len(cluster.sent) == sent
    assert outcome.status is (PatchStatus.APPLIED if sent else PatchStatus.NOT_SENT)
    assert "lease" in outcome.detail or sent


def test_a_write_gets_no_more_time_than_the_cycle_has(cluster: MemoryCluster) -> None:
    applied(cluster, a_patch(cluster, "a", 1, 2), budget_s=2.0)
    assert cluster.timeouts_s == [2.0]


def test_nothing_is_sent_once_the_cycles_time_is_up(cluster: MemoryCluster) -> None:
    (outcome,) = applied(cluster, a_patch(cluster, "a", 1, 2), budget_s=0.0)
    assert outcome.status is PatchStatus.NOT_SENT
    assert "time is up" in outcome.detail
    assert cluster.sent == []


def test_a_dry_run_sends_nothing(cluster: MemoryCluster) -> None:
    options = ActuatorOptions(mode=Mode.DRY_RUN)
    outcomes = applied(cluster, a_patch(cluster, "a", 1, 2), options=options, left_s=0.0)
    assert statuses(outcomes) == [PatchStatus.DRY_RUN]
    assert cluster.timeouts_s == []
    assert cluster.events == []


def test_a_server_side_dry_run_sends_patches_that_store_nothing(cluster: MemoryCluster) -> None:
    options = ActuatorOptions(mode=Mode.SERVER_DRY_RUN)
    outcomes = applied(cluster, a_patch(cluster, "a", 1, 2), options=options, left_s=0.0)
    assert statuses(outcomes) == [PatchStatus.DRY_RUN]
    assert len(cluster.dry) == 1
    assert cluster.replicas() == {"a": 1}
    assert cluster.events == []


def test_each_applied_change_is_an_event_with_its_reason(cluster: MemoryCluster) -> None:
    applied(
        cluster,
        a_patch(cluster, "a", 4, 2),
        a_patch(cluster, "b", 1, 3),
        replace(a_patch(cluster, "c", 1, 3), ref=WorkloadRef("llm", "gone", "u", "1")),
    )
    assert sorted(cluster.events) == [("a", "ScaledDown", "4 -> 2"), ("b", "ScaledUp", "1 -> 3")]


def test_a_refusal_that_lasts_is_told_once(cluster: MemoryCluster) -> None:
    actuator = ClusterActuator(cluster, Guard())
    deadline = Deadline(ManualClock(), 30.0)
    refusal = Refusal("a", "an autoscaler scales it", cluster.add("a", 1).ref)
    again = replace(refusal, reason="another reason")
    for plan in [Plan((), (refusal,))] * 3 + [Plan(), Plan((), (refusal,)), Plan((), (again,))]:
        actuator.apply(plan, deadline)
    told = "an autoscaler scales it"
    assert [message for _, _, message in cluster.events] == [told, told, "another reason"]
    assert {reason for _, reason, _ in cluster.events} == {"ChangeRefused"}


def test_an_event_that_cannot_be_written_fails_no_patch(cluster: MemoryCluster) -> None:
    cluster.event_fault = ForbiddenError("no events")
    assert statuses(applied(cluster, a_patch(cluster, "a", 1, 2))) == [PatchStatus.APPLIED]


def test_events_can_be_turned_off(cluster: MemoryCluster) -> None:
    applied(cluster, a_patch(cluster, "a", 1, 2), options=ActuatorOptions(events=False))
    assert cluster.events == []


faults_of = st.sampled_from(
    [None, ConflictError("c"), ForbiddenError("f"), UnavailableError("u"), NotFoundError("n")]
)
a_change = st.tuples(st.integers(0, 9), st.integers(0, 9), faults_of, st.none() | st.integers(0, 9))


@given(st.lists(a_change, max_size=8), st.sampled_from([0.0, 60.0]), st.sampled_from([0.0, 30.0]))
def test_no_failure_becomes_fewer_replicas_than_planned(
    changes: list[tuple[int, int, ClusterError | None, int | None]], left_s: float, budget_s: float
) -> None:
    """Whatever fails, each server has what it had, what was planned, or what others set."""
    cluster = MemoryCluster()
    patches = []
    for number, (before, after, fault, meanwhile) in enumerate(changes):
        name = str(number)
        patches.append(a_patch(cluster, name, before, after))
        if fault is not None:
            cluster.faults[name] = fault
        if meanwhile is not None:
            cluster.change(name, replicas=meanwhile)
    had = cluster.replicas()
    outcomes = applied(cluster, *patches, left_s=left_s, budget_s=budget_s)
    for patch, outcome in zip(patches, outcomes, strict=True):
        now = cluster.replicas()[patch.server]
        if outcome.status is PatchStatus.APPLIED:
            assert now == patch.replicas
            assert now > had[patch.server] or had[patch.server] == patch.replicas_before
        else:
            assert now == had[patch.server]


@pytest.mark.parametrize("growth", ["done", "failed", "not planned"])
def test_nobody_gives_up_replicas_for_a_growth_that_was_not_made(
    cluster: MemoryCluster, growth: str
) -> None:
    low = replace(a_patch(cluster, "low", 4, 2), makes_room_for=("high",))
    high = a_patch(cluster, "high", 1, 3)
    other = a_patch(cluster, "other", 4, 2)
    if growth == "failed":
        cluster.faults["high"] = ForbiddenError("exceeded quota")
    patches = [low, other] if growth == "not planned" else [low, other, high]
    first, second, *_ = applied(cluster, *patches)
    assert second.status is PatchStatus.APPLIED
    if growth == "done":
        assert first.status is PatchStatus.APPLIED
    else:
        assert (first.status, cluster.replicas()["low"]) == (PatchStatus.NOT_SENT, 4)
        assert "makes room for high" in first.detail


def said_of(cluster: MemoryCluster, name: str, *, ends: bool = False) -> ConditionChange:
    said = Condition("Managed", "False", "other-scaler", "an HPA scales it", "2026-01-01T00:00:00Z")
    return ConditionChange(cluster.add(name, 2).ref, name, None if ends else said)


def conditions_written(
    cluster: MemoryCluster,
    *changes: ConditionChange,
    patches: tuple[Patch, ...] = (),
    mode: Mode = Mode.APPLY,
    left_s: float = 60.0,
    maintenance: str | None = None,
) -> list[tuple[str, Mapping[str, str | None]]]:
    switch = MaintenanceSwitch(lambda: maintenance)
    options = ActuatorOptions(mode=mode)
    actuator = ClusterActuator(cluster, Guard(left_s), options, maintenance=switch)
    actuator.apply(Plan(patches, conditions=changes), Deadline(ManualClock(), 30.0))
    return cluster.annotated


def test_a_condition_is_written_as_json_and_removed_when_it_ends(cluster: MemoryCluster) -> None:
    written = conditions_written(cluster, said_of(cluster, "a"), said_of(cluster, "b", ends=True))
    one, other = dict(written)["a"], dict(written)["b"]
    assert json.loads(one["inferno.server.condition"] or "") == {
        "type": "Managed",
        "status": "False",
        "reason": "other-scaler",
        "message": "an HPA scales it",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    assert other == {"inferno.server.condition": None}


def test_conditions_keep_the_rules_of_every_write(cluster: MemoryCluster) -> None:
    change = said_of(cluster, "a")
    assert conditions_written(cluster, change, left_s=3.0) == []
    assert conditions_written(cluster, change, mode=Mode.DRY_RUN) == []
    assert conditions_written(cluster, change, mode=Mode.SERVER_DRY_RUN) == []
    assert conditions_written(cluster, change, maintenance="cables") == []
    cluster.change("a")
    assert conditions_written(cluster, change) == []


def test_what_is_patched_in_this_cycle_gets_its_condition_in_the_next(
    cluster: MemoryCluster,
) -> None:
    patch = a_patch(cluster, "a", 1, 2)
    change = ConditionChange(patch.ref, "a", None)
    assert conditions_written(cluster, change, patches=(patch,)) == []
    assert cluster.sent == [patch]


def test_a_condition_that_cannot_be_written_harms_nothing(cluster: MemoryCluster) -> None:
    cluster.faults["a"] = ForbiddenError("no")
    changes = said_of(cluster, "a"), said_of(cluster, "b")
    assert [name for name, _ in conditions_written(cluster, *changes)] == ["b"]


def a_birth(cluster: MemoryCluster) -> Patch:
    primary = cluster.add("a", 4).ref
    birth = Birth(PodTemplate("engine"), PodTemplate("engine"), {}, "digest")
    ref = WorkloadRef("llm", "a-h100")
    return Patch(ref, "a", 0, 3, {}, "it saves", birth=birth, primary=primary)


def a_removal(cluster: MemoryCluster) -> Patch:
    patch = a_patch(cluster, "a-h100", 0, 0)
    return replace(patch, server="a", primary=cluster.add("a", 4).ref)


def test_a_sibling_is_made_with_what_grows_and_removed_with_what_shrinks(
    cluster: MemoryCluster,
) -> None:
    made: list[str] = []
    cluster.before_patch = lambda patch: made.append(patch.ref.name)
    removal, birth = a_removal(cluster), replace(a_birth(cluster), ref=WorkloadRef("llm", "new"))
    applied(cluster, removal, a_patch(cluster, "down", 4, 2), birth, a_patch(cluster, "up", 1, 2))
    assert set(made[:2]) == {"new", "up"}
    assert set(made[2:]) == {"a-h100", "down"}


def test_what_becomes_of_a_sibling_is_told_on_its_primary(cluster: MemoryCluster) -> None:
    applied(cluster, replace(a_removal(cluster), reason="no pod of it is left"))
    told = "Deployment llm/a-h100: no pod of it is left"
    assert cluster.events == [("a", "SiblingRemoved", told)]


@pytest.mark.parametrize("make", [a_birth, a_removal])
def test_a_sibling_that_is_not_as_it_was_seen_is_decided_anew_and_the_owner_is_told(
    cluster: MemoryCluster, make: Callable[[MemoryCluster], Patch]
) -> None:
    patch = make(cluster)
    cluster.faults["a-h100"] = ConflictError("already exists")
    (outcome,) = applied(cluster, patch)
    assert (outcome.status, outcome.error) == (PatchStatus.NOT_SENT, "ConflictError")
    assert len(cluster.timeouts_s) == 1
    ((name, reason, message),) = cluster.events
    assert (name, reason) == ("a", "ChangeFailed")
    assert "llm/a-h100 is not" in message


@pytest.mark.parametrize("make", [a_birth, a_removal])
def test_no_sibling_is_made_or_removed_without_the_lease_or_in_a_dry_run(
    cluster: MemoryCluster, make: Callable[[MemoryCluster], Patch]
) -> None:
    patch = make(cluster)
    assert statuses(applied(cluster, patch, left_s=1.0)) == [PatchStatus.NOT_SENT]
    options = ActuatorOptions(mode=Mode.DRY_RUN)
    assert statuses(applied(cluster, patch, options=options)) == [PatchStatus.DRY_RUN]
    assert cluster.timeouts_s == []
