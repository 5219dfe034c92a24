from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.actuator.attention import Attention
from controlloop.actuator.diff import plan
from controlloop.actuator.intervention_state import decode, encode
from controlloop.actuator.interventions import (
    Change,
    InterventionOptions,
    Standing,
    Written,
    intervention_of,
    look,
    wrote,
)
from controlloop.api.decision import (
    Action,
    Decision,
    Decisions,
    Outcome,
    Patch,
    PatchOutcome,
    PatchStatus,
)
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.interventions import Author, Intervention, InterventionKind
from controlloop.api.observation import Observation, ServerObservation, Workload, WorkloadRef
from controlloop.api.report import CycleReport
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import Allocation
from controlloop.daemon.recorder import Recorder
from controlloop.replay.memory_store import MemoryStore
from controlloop.telemetry import Metrics

OURS = Author("controlloop", ours=True)
KUBECTL = Author("kubectl", 1000.0)
OPTIONS = InterventionOptions(
    respect_s=100.0, revert_limit=3, revert_window_s=1000.0, revert_backoff_s=500.0
)
REF = WorkloadRef("llm", "chat", "u1", "7")


def chat(replicas: int, by: Author | None = OURS) -> Workload:
    return Workload(REF, "chat", "m", "Free", "A100", 32, replicas, replicas_by=by)


@dataclass
class Story:
    """One workload from cycle to cycle, without a cluster."""

    attention: Attention = field(default_factory=lambda: Attention(OPTIONS))

    def see(self, now: float, workload: Workload) -> Intervention | None:
        (seen,) = self.attention.look(Observation(now, (ServerObservation(workload),))).servers
        holds = [hold.reason for hold in seen.holds]
        assert bool(holds) == (seen.intervention is not None)
        return seen.intervention

    def write(self, before: int, after: int, status: PatchStatus = PatchStatus.APPLIED) -> None:
        patch = Patch(REF, "chat", before, after, {}, "load")
        self.attention.wrote(Outcome((PatchOutcome(patch, status),)))


def test_a_change_by_hand_is_left_alone_for_its_time_and_names_who_made_it() -> None:
    story = Story()
    assert story.see(0.0, chat(3)) is None
    story.write(3, 5)
    assert story.see(60.0, chat(5)) is None
    found = story.see(120.0, chat(9, KUBECTL))
    assert found is not None
    assert (found.kind, found.manager) == (InterventionKind.MANUAL, "kubectl")
    assert "replicas from 5 to 9" in found.detail
    assert story.see(219.0, chat(9, KUBECTL)) == found
    assert story.see(220.0, chat(9, KUBECTL)) is None


def test_what_runs_as_we_wrote_it_is_nobody_elses_whoever_owned_it_before() -> None:
    story = Story()
    story.see(0.0, chat(3, Author("helm")))
    story.write(3, 5)
    assert story.see(60.0, chat(5, OURS)) is None


def test_a_write_of_which_no_answer_came_is_ours() -> None:
    story = Story()
    story.see(0.0, chat(3))
    story.write(3, 5, PatchStatus.FAILED)
    assert story.see(60.0, chat(5, OURS)) is None
    # And it is what a revert is measured by.
    assert "from 5 to 3" in (story.see(120.0, chat(3, KUBECTL)) or pytest.fail("unseen")).detail


def test_a_write_of_ours_ends_what_was_left_alone() -> None:
    standing = look(Standing(5, ("A100", 32)), chat(9, KUBECTL), 10.0, OPTIONS)
    assert intervention_of(standing, 10.0, OPTIONS) is not None
    assert intervention_of(wrote(standing, 9, 6, 20.0), 20.0, OPTIONS) is None


def test_a_change_while_nobody_looked_is_told_by_the_api_server() -> None:
    assert Story().see(1050.0, chat(9, KUBECTL)) is not None
    assert Story().see(1101.0, chat(9, KUBECTL)) is None, "that was too long ago"
    assert Story().see(1050.0, chat(9, Author("helm"))) is None, "nobody knows when"
    assert Story().see(1050.0, chat(9, Author("controlloop", 1000.0, ours=True))) is None


def test_a_relabelled_allocation_is_a_change_too() -> None:
    story = Story()
    story.see(0.0, chat(3))
    moved = replace(chat(3), accelerator="H100", allocation_by=Author("kubectl-label"))
    found = story.see(60.0, moved)
    assert found is not None
    assert found.manager == "kubectl-label"
    assert "A100 (32) to H100 (32)" in found.detail
    ours = Story()
    ours.see(0.0, chat(3))
    assert ours.see(60.0, replace(moved, allocation_by=OURS)) is None


def test_what_another_scaler_does_is_that_scalers_hold_and_no_change_by_hand() -> None:
    story = Story()
    scaled = (Hold(HoldReason.OTHER_SCALER, Forbids.CHANGE, "KEDA"),)
    for at, replicas in enumerate((3, 5, 7)):
        workload = replace(chat(replicas, KUBECTL), holds=scaled)
        assert story.see(1000.0 + at, workload) is None


def reverted(story: Story, times: Sequence[float]) -> list[InterventionKind | None]:
    """At each time we write 5 where 3 were, and a tool puts 3 back."""
    kinds: list[InterventionKind | None] = []
    for time in times:
        argo = Author("argocd-controller", time)
        story.see(time, chat(3, argo))
        story.write(3, 5)
        found = story.see(time + 1, chat(3, argo))
        kinds.append(None if found is None else found.kind)
    return kinds


def test_who_reverts_again_and_again_is_left_alone_and_named_for_longer_each_time() -> None:
    story = Story()
    manual, reverting = InterventionKind.MANUAL, InterventionKind.REVERTING
    assert reverted(story, [2000.0, 2200.0, 2400.0]) == [manual, manual, reverting]
    argo = Author("argocd-controller", 2401.0)
    found = story.see(2900.0, chat(3, argo))
    assert found is not None
    assert found.manager == "argocd-controller"
    assert "3 times" in found.detail
    assert story.see(2902.0, chat(3, argo)) is None, "tried once more after the back-off"
    assert reverted(story, [2902.0]) == [reverting]
    assert story.see(3902.0, chat(3, argo)) is not None, "left alone for twice as long"
    assert story.see(3904.0, chat(3, argo)) is None


def test_reverts_far_apart_or_after_a_write_that_lasted_are_no_fight() -> None:
    manual = InterventionKind.MANUAL
    assert reverted(Story(), [0.0, 1200.0, 2400.0, 3600.0]) == [manual] * 4
    story = Story()
    reverted(story, [0.0, 110.0])
    story.see(300.0, chat(3, KUBECTL))
    story.write(3, 5)
    assert story.see(1301.0, chat(5)) is None
    argo = Author("argocd-controller", 1400.0)
    assert (story.see(1400.0, chat(3, argo)) or pytest.fail("unseen")).kind is manual


def test_another_number_than_was_there_before_is_no_revert() -> None:
    story = Story()
    for time in (0.0, 200.0, 400.0, 600.0):
        story.see(time, chat(3, KUBECTL))
        story.write(3, 5)
        story.see(time + 1, chat(4, KUBECTL))
        story.write(4, 3)
        found = story.see(time + 2, chat(3))
        assert found is None


def test_both_can_be_switched_off() -> None:
    options = InterventionOptions(respect_s=0.0, revert_limit=0)
    story = Story(Attention(options))
    assert reverted(story, [2000.0, 2200.0, 2400.0, 2600.0]) == [None] * 4
    assert Story(Attention(options)).see(1001.0, chat(9, KUBECTL)) is None


def test_a_sibling_that_somebody_scaled_is_left_alone_with_its_whole_server() -> None:
    attention, sibling = Attention(OPTIONS), replace(chat(2), ref=WorkloadRef("ns", "b", "u2"))
    attention.look(Observation(0.0, (ServerObservation(chat(3), siblings=(sibling,)),)))
    scaled = replace(sibling, replicas=5, replicas_by=KUBECTL)
    now = Observation(9.0, (ServerObservation(chat(3), siblings=(scaled,)),))
    (seen,) = attention.look(now).servers
    (hold,) = seen.holds
    assert (hold.reason, hold.forbids) == (HoldReason.MANUAL_CHANGE, Forbids.CHANGE)
    assert "from 2 to 5" in hold.detail


counts = st.integers(0, 1000)
times = st.floats(0, 4e9, allow_nan=False)
changes = st.none() | st.builds(Change, times, st.text(max_size=20), st.text(max_size=50))
standings = st.builds(
    Standing,
    counts,
    st.tuples(st.text(max_size=9), counts),
    st.none() | st.builds(Written, times, counts, counts),
    changes,
    counts,
    times,
    st.text(max_size=20),
)


@given(st.dictionaries(st.text(max_size=9), standings, max_size=4))
def test_what_is_kept_is_what_is_read(known: dict[str, Standing]) -> None:
    assert decode(encode(known)) == known


def test_what_is_remembered_survives_a_restart_and_what_is_torn_is_set_aside() -> None:
    store = MemoryStore()
    story = Story(Attention(OPTIONS, store))
    story.see(0.0, chat(3))
    story.write(3, 5)
    found = Story(Attention(OPTIONS, store)).see(60.0, chat(3, Author("argo")))
    assert found is not None
    assert "from 5 to 3" in found.detail
    store.save(b"{")
    seen = Attention(OPTIONS, store).look(Observation(70.0, (ServerObservation(chat(3)),)))
    assert any("is no good" in note for note in seen.notes)


def test_what_is_left_alone_is_refused_by_name_and_counted() -> None:
    attention = Attention(OPTIONS)
    attention.look(Observation(0.0, (ServerObservation(chat(3)),)))
    seen = attention.look(Observation(9.0, (ServerObservation(chat(7, KUBECTL)),)))
    current = Allocation("A100", 7, 32)
    decision = Decision("chat", Action.HOLD, current, current, "held", seen.servers[0].holds)
    decided = Decisions((decision,), Solution({}, (), SolveStatus.FEASIBLE, "greedy", 0.0))
    (refusal,) = plan(decided, seen).refusals
    assert refusal.kinds == ("manual-change",)
    assert "kubectl set replicas from 3 to 7" in refusal.reason
    metrics = Metrics()
    Recorder(metrics).record(CycleReport(9.0, (), observation=seen), "schedule")
    value = metrics.registry.get_sample_value(
        "controlloop_interventions", {"server": "chat", "manager": "kubectl", "kind": "manual"}
    )
    assert value == 1.0
