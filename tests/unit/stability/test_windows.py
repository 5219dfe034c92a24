from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.decision import Action, Decision, Problem, Situation
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import (
    Observation,
    ServerObservation,
    Signals,
    Workload,
    WorkloadRef,
)
from controlloop.api.readings import Present
from controlloop.api.solution import Solution, SolveStatus, Unserved, UnservedReason
from controlloop.api.system import (
    Allocation,
    Load,
    Server,
    System,
)
from controlloop.errors import StateStoreError
from controlloop.stability.bounds import Bounds
from controlloop.stability.options import Direction, Panic, Steps, WindowOptions
from controlloop.stability.windows import WindowsPolicy
from controlloop.tuner.state_file import FileStateStore

LOAD = Load(2.0, 100.0, 200.0)
PERIOD_S = 60.0
PLAIN = WindowOptions(
    down=Direction(window_s=300.0), flap_reversals=0, startup_guard_s=0.0, panic=Panic(0, 0, 0, 0)
)
EAGER = replace(PLAIN, down=Direction())


@dataclass
class Loop:
    """The policy, cycle after cycle, with a solver that gives what is needed within bounds.

    What is decided runs in the next cycle, ready unless `starting` says how many are not.
    """

    options: WindowOptions = PLAIN
    replicas: int = 4
    now: float = 10_000.0
    since: float = 0.0
    least: int | None = None
    most: int | None = None
    starting: int = 0
    running: float = 0.0
    waiting: float = 0.0
    accelerator: str = "A100"
    store: FileStateStore | None = None
    policy: WindowsPolicy = field(init=False)
    need: float | None = 0.0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.policy = WindowsPolicy(Bounds(), self.options, self._needs, self.store)

    def settle(self, need: float, cycles: int = 30) -> Loop:
        """So many cycles of one need, so that every window knows of nothing else."""
        for _ in range(cycles):
            self.cycle(need)
        return self

    def cycle(self, need: float | None, holds: tuple[Hold, ...] = ()) -> Decision:
        """One cycle, a period later."""
        self.need = need
        workload = Workload(
            WorkloadRef("ns", "chat"), "chat", "m", "Premium", self.accelerator, 32,
            replicas=self.replicas, ready_replicas=self.replicas - self.starting,
            min_replicas=self.least, max_replicas=self.most,
        )  # fmt: skip
        signals = Signals(running=Present(self.running), waiting=Present(self.waiting))
        current = Allocation(self.accelerator, self.replicas, 32, load=LOAD)
        system = System(servers=(Server("chat", "m", "Premium", current=current),))
        seen = Observation(self.now, (ServerObservation(workload, signals),))
        problem = self.policy.shape(Situation(self.now, self.since, system, {"chat": holds}, seen))
        decided = self.policy.steady(problem, self._solve(problem))
        (decision,) = decided.decisions
        self.notes = decided.notes
        self.replicas = decision.desired.replicas
        self.now += PERIOD_S
        return decision

    def replicas_of(self, *needs: float) -> list[int]:
        """The replicas after each of so many cycles."""
        return [self.cycle(need).desired.replicas for need in needs]

    def _needs(self, system: System) -> Mapping[str, float]:
        return {} if self.need is None else {"chat": self.need}

    def _solve(self, problem: Problem) -> Solution:
        bounds = problem.constraints["chat"]
        asked = max(math.ceil(self.need or 0.0), bounds.min_replicas)
        most = asked if bounds.max_replicas is None else bounds.max_replicas
        found = Allocation(self.accelerator, min(asked, most), 32, 1.0, 20.0, 300.0, LOAD)
        short = Unserved("chat", UnservedReason.AT_MAXIMUM, f"{asked} are needed")
        unserved = (short,) if asked > most else ()
        return Solution({"chat": found}, unserved, SolveStatus.FEASIBLE, "test", 0.0)


def reasons(decision: Decision) -> list[HoldReason]:
    return [hold.reason for hold in decision.holds]


# --- down


def test_a_decrease_waits_until_a_whole_window_needed_less() -> None:
    loop = Loop(replicas=6).settle(6.0)
    assert loop.replicas_of(*[2.0] * 5) == [6, 6, 6, 6, 6]
    assert loop.replicas_of(2.0, 2.0) == [2, 2]


def test_a_decrease_goes_as_far_as_the_most_that_was_needed_within_the_window() -> None:
    loop = Loop(replicas=6).settle(6.0)
    loop.replicas_of(4.0, 2.0, 2.0, 2.0, 2.0)
    decision = loop.cycle(2.0)
    assert (decision.action, decision.desired.replicas) == (Action.SCALE_DOWN, 4)
    assert reasons(decision) == [HoldReason.DOWN_WINDOW]
    assert "no further: down-window (4 were needed within the last 300 s)" in decision.reason


def test_the_up_way_has_no_window_unless_it_is_given_one() -> None:
    assert Loop(replicas=2).settle(2.0).replicas_of(2.1, 3.9) == [3, 4]
    slow = Loop(replace(PLAIN, up=Direction(window_s=120.0)), replicas=2).settle(2.0)
    assert slow.replicas_of(3.9, 3.1, 3.9) == [2, 2, 4]
    assert slow.cycle(7.0).action is Action.HOLD


def test_a_server_that_is_new_or_runs_elsewhere_shrinks_only_after_a_window() -> None:
    loop = Loop(replicas=6)
    assert loop.replicas_of(*[1.0] * 6) == [6, 6, 6, 6, 6, 1]
    loop.replicas, loop.accelerator = 6, "H100"
    decision = loop.cycle(1.0)
    assert reasons(decision) == [HoldReason.DOWN_WINDOW]
    assert "known for 0 s of the 300 s" in decision.reason


def test_what_was_unknown_for_longer_than_the_window_begins_it_anew() -> None:
    missing = (Hold(HoldReason.SIGNAL_MISSING, Forbids.CHANGE, "no sample"),)
    loop = Loop(replicas=6).settle(6.0)
    for _ in range(10):
        assert loop.cycle(None, missing).desired.replicas == 6
    assert loop.replicas_of(1.0, 1.0) == [6, 6]


def test_a_clock_that_is_set_back_forgets_nothing_early() -> None:
    loop = Loop(replicas=6).settle(6.0)
    loop.now -= 3600.0
    assert loop.replicas_of(*[1.0] * 6) == [6] * 6
    assert loop.replicas_of(1.0) == [1]


def test_tolerance_leaves_a_share_to_spare_and_lets_the_load_exceed_by_a_share() -> None:
    wary = Loop(replace(EAGER, down=Direction(tolerance=0.1)), replicas=5)
    assert [wary.cycle(3.7).desired.replicas, wary.cycle(3.5).desired.replicas] == [5, 4]
    wary.replicas = 5
    assert reasons(wary.cycle(3.7)) == [HoldReason.TOLERANCE]
    lax = Loop(replace(EAGER, up=Direction(tolerance=0.1)), replicas=4)
    held = lax.cycle(4.3)
    assert (held.action, reasons(held)) == (Action.HOLD, [HoldReason.TOLERANCE])
    assert lax.cycle(4.5).desired.replicas == 5


@pytest.mark.parametrize(
    ("steps", "course"),
    [
        (Steps(replicas=2, period_s=60.0), [8, 6, 4, 2, 1]),
        (Steps(share=0.5, period_s=60.0), [5, 3, 2, 1, 1]),
        (Steps(replicas=1, share=0.5, period_s=120.0), [5, 5, 3, 3, 2]),
        (Steps(), [1, 1, 1, 1, 1]),
    ],
)
def test_a_decrease_goes_in_steps(steps: Steps, course: list[int]) -> None:
    loop = Loop(replace(EAGER, down=Direction(steps=steps)), replicas=10)
    assert loop.replicas_of(*[1.0] * 5) == course


def test_an_increase_goes_in_steps_and_says_so() -> None:
    loop = Loop(replace(EAGER, up=Direction(steps=Steps(replicas=2, share=0.5))), replicas=2)
    first = loop.cycle(9.0)
    assert (first.desired.replicas, reasons(first)) == (4, [HoldReason.STEP_LIMIT])
    assert "at most 2 of 2 within 60 s" in first.reason
    assert loop.replicas_of(9.0, 9.0) == [6, 9]


def test_cooldowns_keep_changes_apart() -> None:
    down = Loop(replace(EAGER, down=Direction(cooldown_s=180.0)), replicas=6)
    assert down.replicas_of(5.0, 4.0, 4.0, 4.0, 6.0) == [5, 5, 5, 4, 6]
    up = Loop(replace(EAGER, up=Direction(cooldown_s=180.0)), replicas=2)
    assert up.replicas_of(3.0, 4.0, 4.0, 4.0) == [3, 3, 3, 4]


def test_replicas_that_start_forbid_a_decrease_for_a_time_and_never_an_increase() -> None:
    loop = Loop(replace(EAGER, startup_guard_s=300.0), replicas=2)
    loop.cycle(6.0)
    loop.starting = 4
    held = loop.cycle(3.0)
    assert (held.action, reasons(held)) == (Action.HOLD, [HoldReason.CHANGE_IN_PROGRESS])
    assert loop.cycle(8.0).desired.replicas == 8
    # One that can never be placed keeps nobody from shrinking for ever.
    assert loop.replicas_of(*[3.0] * 5)[-1] == 3


# --- flapping


def test_a_load_that_crosses_a_boundary_each_ten_minutes_is_held_by_a_wider_window() -> None:
    def changes(reversals: int) -> int:
        loop = Loop(replace(PLAIN, flap_reversals=reversals, flap_window_s=3600.0)).settle(4.0)
        course = [4]
        for minute in range(180):
            course += loop.replicas_of(4.5 if minute // 10 % 2 else 3.5)
        return sum(one != other for one, other in pairwise(course))

    assert changes(0) >= 16
    assert changes(2) <= 9


def test_flapping_is_named_with_its_count() -> None:
    loop = Loop(replace(PLAIN, flap_reversals=2, flap_window_s=3600.0)).settle(4.0)
    for need in (5.0, 3.0, 5.0):
        loop.settle(need, 8)
    decision = loop.settle(3.0, 7).cycle(3.0)
    assert reasons(decision) == [HoldReason.FLAPPING]
    assert "2 changes of direction within 3600 s widen the down window to 600 s" in decision.reason


# --- panic


NEVER_UP = Direction(
    window_s=3600.0, tolerance=1.0, steps=Steps(replicas=1, period_s=3600.0), cooldown_s=3600.0
)


@pytest.mark.parametrize(
    ("panic", "running", "waiting"),
    [
        (Panic(2.0, 0, 0, 0), 0.0, 0.0),
        (Panic(0, 1.0, 0, 0), 10.0, 4.0),
        (Panic(0, 0, 0.95, 0), 127.0, 1.0),
    ],
)
def test_five_times_the_load_is_answered_at_once_in_spite_of_every_window(
    panic: Panic, running: float, waiting: float
) -> None:
    calm = Loop(replace(PLAIN, up=NEVER_UP), replicas=4).settle(4.0)
    assert calm.cycle(20.0).desired.replicas == 4
    loop = Loop(replace(PLAIN, up=NEVER_UP, panic=panic), replicas=4).settle(4.0)
    loop.running, loop.waiting = running, waiting
    assert loop.cycle(20.0).desired.replicas == 20


def test_an_overloaded_server_of_which_the_model_holds_enough_grows_once_and_waits() -> None:
    loop = Loop(replace(PLAIN, panic=Panic(step_share=0.25)), replicas=8).settle(8.0)
    loop.waiting = 50.0
    pushed = loop.cycle(6.0)
    assert (pushed.action, pushed.desired.replicas) == (Action.SCALE_UP, 10)
    assert HoldReason.OVERLOAD in reasons(pushed)
    assert "50 requests wait at 8 ready replicas" in pushed.reason
    loop.starting = 2
    assert loop.cycle(6.0).desired.replicas == 10
    loop.starting = 0
    assert loop.cycle(6.0).desired.replicas == 13


def test_panic_stays_below_the_most_and_obeys_a_pause() -> None:
    loop = Loop(replace(PLAIN, panic=Panic()), replicas=8, most=9).settle(8.0)
    loop.waiting = 50.0
    assert loop.cycle(6.0).desired.replicas == 9
    paused = (Hold(HoldReason.PAUSED, Forbids.INCREASE, "paused"),)
    loop = Loop(replace(PLAIN, panic=Panic()), replicas=4).settle(4.0)
    loop.waiting = 50.0
    assert loop.cycle(20.0, paused).desired.replicas == 4


# --- bounds, holds, state


def test_bounds_and_evidence_are_obeyed_as_by_every_policy() -> None:
    assert Loop(EAGER, least=3).replicas_of(1.0) == [3]
    assert Loop(EAGER, most=6).replicas_of(9.0) == [6]
    gone = (Hold(HoldReason.POD_GONE, Forbids.DECREASE, "gone"),)
    assert Loop(EAGER).cycle(1.0, gone).desired.replicas == 4
    early = Loop(since=9_900.0).cycle(1.0)
    assert HoldReason.WARMING_UP in reasons(early)
    assert Loop(since=9_900.0).replicas_of(9.0) == [9]


def test_windows_survive_a_restart(tmp_path: Path) -> None:
    store = FileStateStore(tmp_path / "windows.json")
    options = replace(PLAIN, down=Direction(window_s=300.0, cooldown_s=1200.0))
    before = Loop(options, replicas=6, store=store).settle(6.0)
    before.cycle(9.0)
    after = Loop(options, replicas=9, now=before.now, store=store).settle(3.0, 8)
    decision = after.cycle(3.0)
    assert reasons(decision) == [HoldReason.COOLDOWN]
    forgetful = Loop(options, replicas=9, now=before.now).settle(3.0, 8)
    assert forgetful.replicas == 3


def test_a_state_that_is_torn_is_set_aside_and_said(tmp_path: Path) -> None:
    file = tmp_path / "windows.json"
    file.write_text('{"kind": "controlloop stability state", "version": 1, "serv')
    loop = Loop(store=FileStateStore(file))
    assert loop.cycle(1.0).desired.replicas == 4
    assert "no good" in loop.notes[0]
    assert file.with_name("windows.json.bad-1").exists()
    assert loop.cycle(1.0).desired.replicas == 4
    assert loop.notes == ()


def test_a_state_that_cannot_be_kept_fails_no_cycle(tmp_path: Path) -> None:
    class Full(FileStateStore):
        def save(self, state: bytes) -> None:
            raise StateStoreError("no space left")

    loop = Loop(EAGER, store=Full(tmp_path / "x"))
    assert loop.cycle(2.0).desired.replicas == 2
    assert loop.notes == ("the windows are not kept: no space left",)


directions = st.builds(
    Direction,
    window_s=st.sampled_from([0.0, 120.0, 300.0]),
    tolerance=st.sampled_from([0.0, 0.1]),
    steps=st.builds(Steps, st.integers(0, 3), st.sampled_from([0.0, 0.5])),
    cooldown_s=st.sampled_from([0.0, 180.0]),
)


@given(
    up=directions,
    down=directions,
    needs=st.lists(st.floats(0.0, 12.0), min_size=1, max_size=25),
    waits=st.sampled_from([0.0, 3.0, 40.0]),
)
def test_whatever_the_settings_a_server_never_has_less_than_it_needs_and_had(
    up: Direction, down: Direction, needs: list[float], waits: float
) -> None:
    loop = Loop(WindowOptions(up=up, down=down), waiting=waits)
    for need in needs:
        before = loop.replicas
        after = loop.cycle(need).desired.replicas
        assert after >= min(before, math.ceil(need))
        assert after >= 1
