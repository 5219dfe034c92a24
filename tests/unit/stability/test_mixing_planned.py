"""Several accelerators at once, with the real planner and the real plan on a fleet of numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mixed_fleet import CYCLES, ROLLABLE, Fleet, mixed_fleet

from controlloop.api.holds import Forbids, Hold, HoldReason


@pytest.fixture
def mixed() -> Fleet:
    return mixed_fleet()


def test_what_its_own_accelerator_has_no_cards_for_runs_on_another_beside_it() -> None:
    fleet = Fleet()
    assert fleet.capable() < 1
    for _ in range(CYCLES):
        assert fleet.counts() == {"A100": 4}
        fleet.cycle()
    assert fleet.counts()["H100"] > 0
    fleet.cycle()
    assert fleet.capable() >= 1
    before = fleet.counts()
    fleet.run(2 * CYCLES)
    assert fleet.counts() == before


def test_when_demand_falls_the_sibling_goes_and_its_deployment_with_it(mixed: Fleet) -> None:
    mixed.rate_rps = 30.0
    for _ in range(4 * CYCLES):
        mixed.cycle()
        assert mixed.capable() >= 1
    assert mixed.counts() == {"A100": 3}


def test_cheaper_cards_take_over_part_by_part_and_are_left_again_when_prices_turn() -> None:
    fleet = Fleet(a100=8, h100=3, h100_cost=20.0, replicas=7)
    for _ in range(2 * CYCLES + 2):
        fleet.cycle()
        assert fleet.capable() >= 1
    assert fleet.counts()["H100"] == 3
    assert fleet.counts()["A100"] < 7
    fleet.h100_cost = 80.0
    for _ in range(3 * CYCLES + 4):
        fleet.cycle()
        assert fleet.capable() >= 1
    assert "H100" not in fleet.counts()


@pytest.mark.parametrize("step", range(8))
def test_a_process_that_starts_anew_at_any_step_goes_on_and_never_serves_less(step: int) -> None:
    fleet = Fleet(a100=8, h100=3, h100_cost=20.0, replicas=7)
    fleet.run(2 * CYCLES + 2)
    fleet.h100_cost = 80.0
    fleet.run(step)
    fleet.restart()
    for _ in range(3 * CYCLES + 4):
        fleet.cycle()
        assert fleet.capable() >= 1
    assert "H100" not in fleet.counts()


def test_siblings_whose_pods_never_start_are_taken_back_and_not_tried_for_a_while() -> None:
    fleet = Fleet(starts=False)
    fleet.run(CYCLES + 1)
    assert fleet.counts()["H100"] > 0
    fleet.run(8)
    assert fleet.counts() == {"A100": 4}
    assert HoldReason.SIBLING_FAILED in fleet.notes
    fleet.run(CYCLES + 3)
    assert fleet.counts() == {"A100": 4}


@pytest.mark.parametrize("forbids", [Forbids.DECREASE, Forbids.CHANGE])
def test_what_is_not_known_takes_no_sibling_away(mixed: Fleet, forbids: Forbids) -> None:
    before = mixed.counts()
    mixed.holds = (Hold(HoldReason.SIGNAL_MISSING, forbids, "no metrics"),)
    mixed.rate_rps = 10.0
    mixed.heterogeneous = False
    mixed.run(4 * CYCLES)
    assert mixed.counts()["H100"] == before["H100"]


def test_what_may_have_no_siblings_any_more_goes_home_first(mixed: Fleet) -> None:
    mixed.a100 = 12
    mixed.heterogeneous = False
    for _ in range(5):
        mixed.cycle()
        assert mixed.capable() >= 1
    assert "H100" not in mixed.counts()


@pytest.mark.parametrize("unknown", [False, True])
def test_another_pod_template_of_its_primary_is_given_to_a_sibling_once_it_rolled_out(
    mixed: Fleet, unknown: bool
) -> None:
    before = mixed.counts()
    mixed.rollable = replace(ROLLABLE, digest="another", settled=False)
    mixed.run(3)
    assert mixed.renewals == 0
    mixed.rollable = replace(mixed.rollable, settled=True)
    if unknown:
        mixed.holds = (Hold(HoldReason.SIGNAL_MISSING, Forbids.DECREASE, "no metrics"),)
    mixed.run(3)
    assert mixed.renewals == (0 if unknown else 1)
    assert mixed.counts() == before


def test_a_sibling_stays_while_its_own_accelerator_has_no_cards_to_take_over(
    mixed: Fleet,
) -> None:
    before = mixed.counts()
    mixed.heterogeneous = False
    mixed.run(3 * CYCLES)
    assert mixed.counts() == before


def test_a_selector_that_would_select_siblings_is_refused_with_its_reason() -> None:
    fleet = Fleet(rollable=replace(ROLLABLE, clash="its selector (app=chat) would"))
    fleet.run(CYCLES + 3)
    assert fleet.counts() == {"A100": 4}
    assert HoldReason.SIBLING_SELECTOR in fleet.notes
    kinds = {kind for each in fleet.refusals for kind in each.kinds}
    assert "sibling-selector" in kinds


def test_requests_spread_evenly_make_slow_replicas_count_for_no_more_than_they_can() -> None:
    """Slower and cheaper: where each gets what it can do they pay, in equal parts they do not."""
    by_capacity = Fleet(faster=0.8, even=False, h100_cost=15.0, a100=8, replicas=7, h100=3)
    by_capacity.run(2 * CYCLES + 2)
    assert by_capacity.counts().get("H100")
    evenly = Fleet(faster=0.8, even=True, h100_cost=15.0, a100=8, replicas=7, h100=3)
    evenly.run(2 * CYCLES + 2)
    assert evenly.counts() == {"A100": 5}


def test_a_mix_that_is_best_is_waited_for_though_the_whole_server_could_move() -> None:
    """Two of A100 and the rest of H100 cost less than all of H100, which would do, too."""
    fleet = Fleet(a100=2, h100=8, replicas=2, moving=True)
    fleet.run(2 * CYCLES)
    assert fleet.switched_to is None
    assert fleet.counts() == {"A100": 2, "H100": 3}


def test_a_server_that_can_have_no_siblings_moves_as_a_whole() -> None:
    clash = "its selector (app=chat) would select the pods of a sibling too"
    rollable = replace(ROLLABLE, clash=clash)
    fleet = Fleet(a100=2, h100=8, replicas=2, moving=True, rollable=rollable)
    fleet.run(3 * CYCLES)
    assert fleet.switched_to == "H100"
    assert fleet.counts() == {"A100": 2}


def test_a_solver_that_weighs_no_mixes_is_named() -> None:
    fleet = Fleet(solver="greedy")
    fleet.run(1)
    assert any("milpSolver weighs several" in note for note in fleet.remarks)
    assert fleet.counts() == {"A100": 4}
