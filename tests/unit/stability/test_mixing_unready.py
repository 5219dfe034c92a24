"""What goes wrong with siblings takes nothing away that serves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mixed_fleet import CYCLES, NUMBERS, Fleet, mixed_fleet

from controlloop.api.decision import Problem, Situation
from controlloop.api.holds import HoldReason
from controlloop.api.observation import (
    Observation,
    ServerObservation,
    WorkloadRef,
)
from controlloop.api.solution import Solution
from controlloop.api.system import (
    System,
)


@pytest.fixture
def mixed() -> Fleet:
    return mixed_fleet()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("a100", [4, 12])
def test_a_sibling_on_an_accelerator_that_the_data_lost_goes_once_its_own_do_and_spoils_no_answer(
    mixed: Fleet, a100: int
) -> None:
    mixed.a100, mixed.forgotten = a100, "H100"
    for _ in range(CYCLES + 3):
        mixed.cycle()
        assert not mixed.remarks
        # Whatever it does for the load, the data says no more: it counts as nothing.
        assert "H100" in mixed.counts() or mixed.capable() >= 1
    assert mixed.counts() == ({"A100": 4, "H100": 1} if a100 == 4 else {"A100": 5})


@pytest.mark.parametrize("capacity", [(4, 0), (2, 1), (0, 0)])
def test_fewer_cards_take_nothing_away(mixed: Fleet, capacity: tuple[int, int]) -> None:
    before = mixed.counts()
    mixed.a100, mixed.h100 = capacity
    mixed.overdrawn = True
    mixed.run(2 * CYCLES)
    assert mixed.counts() == before


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("heterogeneous", [True, False])
def test_pods_that_were_ready_and_are_not_now_are_no_bad_start_and_stay(
    mixed: Fleet, anew: bool, heterogeneous: bool
) -> None:
    """Their node may just not tell of them, as in a partition of the cluster's network."""
    before = mixed.counts()
    mixed.silent, mixed.heterogeneous = True, heterogeneous
    if anew:
        mixed.restart()
    mixed.run(12)
    assert mixed.counts() == before
    if heterogeneous:
        assert HoldReason.SIBLING_FAILED in mixed.notes


def test_a_sibling_that_was_whole_stays_while_its_pods_are_made_anew_elsewhere(
    mixed: Fleet,
) -> None:
    before = mixed.counts()
    (name,) = mixed.deployments.keys() - {"chat"}
    mixed.deployments[name] = replace(mixed.deployments[name], ready_replicas=0)
    mixed.starts = False
    mixed.run(12)
    assert mixed.counts() == before


def test_a_sibling_that_cannot_be_made_is_told_and_not_tried_for_a_while() -> None:
    fleet = Fleet(refused=True)
    fleet.run(CYCLES)
    made = [bool(fleet.cycle().patches) for _ in range(10)]
    assert made == 5 * [True] + 5 * [False]
    assert HoldReason.SIBLING_FAILED in fleet.notes


def test_in_a_dry_run_nothing_that_is_not_made_is_a_failure() -> None:
    fleet = Fleet(refused=True, written=False)
    fleet.run(CYCLES)
    assert all(fleet.cycle().patches for _ in range(10))


def test_what_is_remembered_of_siblings_goes_with_them() -> None:
    fleet = Fleet(starts=False)
    fleet.run(CYCLES + 8)
    memory = fleet.policy._memory
    assert memory.failure("chat", fleet.now)
    fleet.policy.shape(Situation(fleet.now, 0.0, System(), {}, Observation(fleet.now)))
    assert not any(vars(memory)[each] for each in vars(memory) if each not in NUMBERS)


def test_replicas_that_a_sibling_is_to_lose_rest_on_what_it_said_of_itself(mixed: Fleet) -> None:
    (name,) = mixed.deployments.keys() - {"chat"}
    labels = {"inferno.server.name": "chat"}
    mixed.deployments[name] = replace(mixed.deployments[name], labels=labels)
    mixed.a100, mixed.heterogeneous = 12, False
    patches = [patch for _ in range(4) for patch in mixed.cycle().patches]
    (down,) = [each for each in patches if each.replicas == 0 and not each.removes]
    assert down.rests_on == labels


def test_a_most_of_replicas_takes_nothing_away_before_what_replaces_it_is_ready() -> None:
    fleet = Fleet(a100=8, h100=3, h100_cost=20.0, replicas=5)
    fleet.deployments["chat"] = replace(fleet.deployments["chat"], max_replicas=5)
    fleet.run(CYCLES)
    fleet.starts = False
    fleet.run(3)
    assert fleet.counts() == {"A100": 5, "H100": 3}
    fleet.starts = True
    fleet.run(2)
    assert fleet.counts() == {"A100": 2, "H100": 3}
    fleet.heterogeneous = False
    for _ in range(5):
        fleet.cycle()
        assert fleet.capable() >= 1
    assert fleet.counts() == {"A100": 5}


def test_of_a_name_that_two_claim_no_sibling_changes(mixed: Fleet) -> None:
    siblings = tuple(each for name, each in mixed.deployments.items() if name != "chat")
    both = (
        ServerObservation(mixed.deployments["chat"], siblings=siblings),
        ServerObservation(replace(mixed.deployments["chat"], ref=WorkloadRef("ns", "b", "u", "1"))),
    )
    mixed.heterogeneous = False
    seen = Observation(mixed.now, both)
    situation = Situation(mixed.now, 0.0, mixed.system, {"chat": ()}, seen)
    for _ in range(CYCLES):
        problem = mixed.policy.shape(situation)
        decided = mixed.policy.steady(problem, mixed.planner.solve(problem))
        assert not any(each.siblings for each in decided.decisions)


def test_an_optimizer_that_fails_fails_the_cycle_and_the_next_goes_on(mixed: Fleet) -> None:
    before = mixed.counts()
    mixes = mixed.policy._choice._trial

    def fails(_: Problem) -> Solution:
        raise RuntimeError("no answer")

    mixed.policy._choice._trial = fails
    with pytest.raises(RuntimeError):
        mixed.cycle()
    mixed.policy._choice._trial = mixes
    mixed.run(CYCLES)
    assert mixed.counts() == before


def test_a_dip_shorter_than_the_down_window_takes_nothing_from_a_sibling() -> None:
    """Its own replicas are at their least: the window of those does not speak here."""
    fleet = Fleet(h100=4, h100_cost=10.0, rate_rps=56.0, replicas=4, down_window_s=600.0)
    fleet.run(2 * CYCLES + 2)
    assert fleet.counts() == {"A100": 1, "H100": 4}
    fleet.rate_rps = 25.0
    fleet.run(5)
    fleet.rate_rps = 10.0
    fleet.run(5)
    assert fleet.counts() == {"A100": 1, "H100": 4}
    # The most that was asked for within the window, not what is asked at its end.
    fleet.run(2)
    assert fleet.counts() == {"A100": 1, "H100": 3}
    fleet.run(12)
    assert fleet.counts() == {"A100": 1, "H100": 1}
