"""The planner of the loop: who runs keeps what it runs."""

from __future__ import annotations

from typing import Any

import pytest

from controlloop.api.decision import Problem, ServerConstraint
from controlloop.api.solution import Solution, UnservedReason
from controlloop.api.system import SaturationPolicy, Server, System
from controlloop.optimizer import Planner


def one_type(lab: Any, cards: int, *servers: Server, **options: Any) -> System:
    """Servers on A, of which one replica serves one request/s."""
    return lab.system(  # type: ignore[no-any-return]
        [lab.accelerator("A", 2.0)], [lab.perf("m", "A")], servers, {"A": cards}, **options
    )


def replicas(solution: Solution) -> dict[str, int]:
    return {name: each.replicas for name, each in sorted(solution.allocations.items())}


def reasons(solution: Solution) -> dict[str, UnservedReason]:
    return {entry.server: entry.reason for entry in solution.unserved}


def test_with_cards_enough_the_solver_decides(lab: Any) -> None:
    system = one_type(
        lab, 20, lab.server("a", 4.0, runs=("A", 2)), lab.server("b", 1.0, runs=("A", 6))
    )
    solution = lab.plan(system)
    assert replicas(solution) == {"a": 4, "b": 1}
    assert solution.unserved == ()
    assert solution.status == "optimal"
    assert solution.seconds > 0


def test_less_capacity_evicts_nobody_and_stops_growth(lab: Any) -> None:
    system = one_type(
        lab, 3, lab.server("a", 4.0, runs=("A", 4)), lab.server("b", 5.0, runs=("A", 2))
    )
    solution = lab.plan(system)
    # "a" needs what it has and gets it; "b" would need more and keeps what it has.
    assert replicas(solution) == {"a": 4}
    assert reasons(solution) == {"b": UnservedReason.NO_CAPACITY}


def test_what_a_smaller_load_frees_goes_to_who_needs_it(lab: Any) -> None:
    system = one_type(
        lab, 6, lab.server("z", 1.0, runs=("A", 4)), lab.server("a", 5.0, runs=("A", 2))
    )
    assert replicas(lab.plan(system)) == {"a": 5, "z": 1}


def test_freed_cards_are_no_growth_while_more_run_than_exist(lab: Any) -> None:
    system = one_type(
        lab, 3, lab.server("z", 3.0, runs=("A", 5)), lab.server("a", 5.0, runs=("A", 2))
    )
    solution = lab.plan(system)
    assert replicas(solution) == {"z": 3}
    assert reasons(solution) == {"a": UnservedReason.NO_CAPACITY}


def test_equal_priority_takes_nothing(lab: Any) -> None:
    system = one_type(
        lab, 5, lab.server("a", 4.0, runs=("A", 1)), lab.server("b", 9.0, runs=("A", 4))
    )
    solution = lab.plan(system)
    assert replicas(solution) == {}
    assert set(reasons(solution).values()) == {UnservedReason.NO_CAPACITY}
    assert solution.message.startswith("cards are short")


def test_a_higher_priority_takes_what_it_needs_and_is_named(lab: Any) -> None:
    system = one_type(
        lab,
        6,
        lab.server("high", 4.0, priority=1, runs=("A", 2), cost=4.0),
        lab.server("middle", 3.0, priority=2, runs=("A", 2), cost=4.0),
        lab.server("low", 2.0, priority=3, runs=("A", 2), cost=4.0),
    )
    solution = lab.plan(system)
    assert replicas(solution) == {"high": 4, "low": 0}
    assert reasons(solution) == {
        "middle": UnservedReason.NO_CAPACITY,
        "low": UnservedReason.RECLAIMED,
    }
    # It is scaled down where it is, not moved to nowhere.
    low = solution.allocations["low"]
    assert (low.accelerator, low.max_batch, low.cost_per_hour) == ("A", 8, 0.0)
    details = {entry.server: entry.detail for entry in solution.unserved}
    assert details["low"] == "gave 2 of 2 replicas of A to high, of higher priority"


def test_what_is_left_after_giving_is_an_allocation(lab: Any) -> None:
    system = one_type(
        lab,
        6,
        lab.server("high", 3.0, priority=1, runs=("A", 2)),
        lab.server("low", 4.0, priority=2, runs=("A", 4), cost=8.0),
    )
    solution = lab.plan(system)
    assert replicas(solution) == {"high": 3, "low": 3}
    low = solution.allocations["low"]
    assert (low.accelerator, low.max_batch, low.cost_per_hour) == ("A", 8, 6.0)
    assert low.ttft_ms == pytest.approx(110.0)


def test_nobody_takes_from_below_what_a_constraint_protects(lab: Any) -> None:
    system = one_type(
        lab,
        4,
        lab.server("high", 4.0, priority=1, runs=("A", 1)),
        lab.server("low", 3.0, priority=2, runs=("A", 3)),
    )
    solution = lab.plan(system, low=ServerConstraint(min_replicas=1))
    # Three of four could be had, but not the four that "high" needs: nothing is taken.
    assert replicas(solution) == {"low": 3}
    assert reasons(solution) == {"high": UnservedReason.NO_CAPACITY}


def test_another_accelerator_is_taken_before_cards_of_others(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A", 2.0), lab.accelerator("B", 90.0)],
        [lab.perf("m", "A"), lab.perf("m", "B"), lab.perf("n", "A")],
        [
            lab.server("high", 3.0, priority=1),
            lab.server("low", 2.0, model="n", priority=2, runs=("A", 2), cost=4.0),
        ],
        {"A": 4, "B": 3},
    )
    solution = lab.plan(system)
    assert {name: each.accelerator for name, each in solution.allocations.items()} == {
        "high": "B",
        "low": "A",
    }
    assert solution.unserved == ()


def test_who_moves_away_leaves_room(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A", 9.0), lab.accelerator("B", 1.0)],
        [lab.perf("m", "A"), lab.perf("n", "A"), lab.perf("n", "B")],
        [
            lab.server("grows", 4.0, runs=("A", 2), cost=18.0),
            lab.server("moves", 2.0, model="n", runs=("A", 2), cost=18.0),
            lab.server("stays", 9.0, runs=("A", 1), cost=9.0),
        ],
        {"A": 5, "B": 5},
    )
    solution = lab.plan(system)
    assert solution.allocations["moves"].accelerator == "B"
    assert solution.allocations["grows"].replicas == 4
    assert reasons(solution) == {"stays": UnservedReason.NO_CAPACITY}


def test_cards_of_who_keeps_are_set_aside(lab: Any) -> None:
    kept = lab.server("kept", 1.0, priority=3, runs=("A", 4), cost=3.0)
    system = one_type(lab, 6, kept, lab.server("a", 5.0, runs=("A", 1)))
    solution = lab.plan(system, kept=ServerConstraint(keep=True))
    assert solution.allocations == {"kept": kept.current}
    assert reasons(solution) == {"a": UnservedReason.NO_CAPACITY}


def test_cards_of_who_cannot_be_considered_are_set_aside(lab: Any) -> None:
    strange = lab.server("strange", 1.0, model="strange", priority=3, runs=("A", 4))
    system = one_type(lab, 6, strange, lab.server("a", 5.0, runs=("A", 1)))
    solution = lab.plan(system)
    assert replicas(solution) == {}
    assert reasons(solution) == {
        "a": UnservedReason.NO_CAPACITY,
        "strange": UnservedReason.NO_TARGET,
    }


@pytest.mark.parametrize(
    ("policy", "delayed", "expected"),
    [
        (SaturationPolicy.NONE, False, {}),
        # Two cards are free; what "low" has may be taken before its own turn.
        (SaturationPolicy.PRIORITY_EXHAUSTIVE, False, {"a": 7, "low": 0}),
        (SaturationPolicy.ROUND_ROBIN, False, {"a": 5, "b": 4, "low": 0}),
        # Delayed, only what is free is handed out, in order.
        (SaturationPolicy.PRIORITY_EXHAUSTIVE, True, {"a": 4}),
        (SaturationPolicy.ROUND_ROBIN, True, {"a": 3, "b": 3}),
    ],
)
def test_best_effort_adds_to_what_runs(
    lab: Any, policy: SaturationPolicy, delayed: bool, expected: dict[str, int]
) -> None:
    system = one_type(
        lab,
        9,
        lab.server("a", 20.0, runs=("A", 2)),
        lab.server("b", 10.0, runs=("A", 2)),
        lab.server("low", 9.0, priority=2, runs=("A", 3)),
        saturation_policy=policy,
        delayed_best_effort=delayed,
    )
    solution = lab.plan(system)
    assert replicas(solution) == expected
    assert set(reasons(solution)) == {"a", "b", "low"}


def test_unlimited_looks_at_no_capacity(lab: Any) -> None:
    system = one_type(lab, 0, lab.server("a", 7.0, runs=("A", 1)), unlimited=True)
    assert replicas(lab.plan(system)) == {"a": 7}


def test_a_solver_given_stands_above_the_options(lab: Any) -> None:
    system = one_type(lab, 0, lab.server("a", 7.0, runs=("A", 1)), solver="greedy")
    solution = Planner(lab.model_of, solver="unlimited").solve(Problem(system, {}, {}))
    assert (solution.solver, replicas(solution)) == ("unlimited", {"a": 7})


def test_without_anything_to_do(lab: Any) -> None:
    assert lab.plan(one_type(lab, 4)).allocations == {}
    only = lab.server("s", 1.0, runs=("A", 1))
    solution = lab.plan(one_type(lab, 4, only), s=ServerConstraint(keep=True))
    assert solution.allocations == {"s": only.current}


def test_who_gives_cards_up_says_for_whom(lab: Any) -> None:
    system = one_type(
        lab,
        6,
        lab.server("high", 3.0, priority=1, runs=("A", 2)),
        lab.server("low", 4.0, priority=2, runs=("A", 4)),
    )
    (entry,) = lab.plan(system).unserved
    assert (entry.server, entry.takers) == ("low", ("high",))


def test_two_servers_of_one_name_have_the_cards_of_both(lab: Any) -> None:
    system = one_type(
        lab,
        12,
        lab.server("twin", 4.0, runs=("A", 8)),
        lab.server("twin", 2.0, runs=("A", 2)),
        lab.server("z", 4.0, runs=("A", 2)),
    )
    solution = lab.plan(system, twin=ServerConstraint(keep=True))
    assert reasons(solution)["z"] is UnservedReason.NO_CAPACITY
    assert "z" not in solution.allocations
