"""What the solver promises, on systems small enough to be solved by hand."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from milp_oracle import best, reached
from milp_systems import contested_system, small_system

from controlloop.api.solution import Solution, SolveStatus, UnservedReason
from controlloop.api.system import Objective, OptimizerOptions, SaturationPolicy, System
from controlloop.optimizer.greedy import GreedySolver
from controlloop.optimizer.milp import MilpSolver

pytestmark = pytest.mark.slow


def solved(lab: Any, system: System, **given: Any) -> Solution:
    return MilpSolver(**given).solve(lab.candidates(system), system.capacity, system.options)


def by_greedy(lab: Any, system: System) -> Solution:
    return GreedySolver().solve(lab.candidates(system), system.capacity, system.options)


def chosen(solution: Solution) -> dict[str, tuple[str, int]]:
    return {
        name: (each.accelerator, each.replicas)
        for name, each in sorted(solution.allocations.items())
    }


def test_the_optimum_is_more_than_ten_percent_better_than_greedy(lab: Any) -> None:
    # Two cards of A. "wide" needs both and would pay 20 more elsewhere: it goes first. "b" and
    # "c" need one each and would pay 15 more each.
    system = lab.system(
        [lab.accelerator("A", 5.0), lab.accelerator("B", 10.0)],
        [
            lab.perf("wide", "A", accelerators_per_replica=2),
            lab.perf("wide", "B", accelerators_per_replica=3),
            lab.perf("thin", "A"),
            lab.perf("thin", "B", accelerators_per_replica=2),
        ],
        [
            lab.server("a", model="wide"),
            lab.server("b", model="thin"),
            lab.server("c", model="thin"),
        ],
        capacity={"A": 2, "B": 9},
    )
    greedy, exact = by_greedy(lab, system), solved(lab, system)
    assert chosen(greedy) == {"a": ("A", 1), "b": ("B", 1), "c": ("B", 1)}
    assert chosen(exact) == {"a": ("B", 1), "b": ("A", 1), "c": ("A", 1)}
    assert greedy.objective == pytest.approx(1.1 * (10 + 20 + 20))
    assert exact.objective == pytest.approx(1.1 * (30 + 5 + 5))
    assert exact.objective < 0.9 * greedy.objective
    assert exact.status is SolveStatus.OPTIMAL
    assert (exact.bound, exact.gap) == (exact.objective, 0.0)
    assert exact.solver == "milp"
    assert exact.message == ""


def short_of_cards(lab: Any, **options: Any) -> System:
    """Three cards. "a" takes two of them to save 1 beside one; then "b" finds no two."""
    return lab.system(  # type: ignore[no-any-return]
        [
            lab.accelerator(name, cost, kind="t")
            for name, cost in (("X", 5.0), ("Y", 11.0), ("Z", 5.25))
        ],
        [
            lab.perf("m", "X", accelerators_per_replica=2),
            lab.perf("m", "Y"),
            lab.perf("n", "X", accelerators_per_replica=2),
            lab.perf("n", "Z", accelerators_per_replica=2),
        ],
        [
            lab.server("a", model="m"),
            lab.server("b", model="n"),
            lab.server("z", 3.0, model="m", priority=2),
        ],
        capacity={"t": 3},
        **options,
    )


def test_greedy_leaves_a_server_of_priority_one_short_where_both_fit(lab: Any) -> None:
    system = short_of_cards(lab)
    greedy, exact = by_greedy(lab, system), solved(lab, system)
    assert chosen(greedy) == {"a": ("X", 1)}
    assert chosen(exact) == {"a": ("Y", 1), "b": ("X", 1)}
    assert {each.server for each in exact.unserved} == {"z"}
    assert exact.objective == pytest.approx(1.1 * (11 + 10))
    assert exact.status is SolveStatus.OPTIMAL


def test_a_higher_priority_stands_above_any_number_below(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A")],
        [lab.perf("m", "A")],
        [
            lab.server("high", 4.0, priority=1),
            *(lab.server(f"low{at}", 1.0, priority=2) for at in range(4)),
        ],
        capacity={"A": 4},
    )
    assert chosen(solved(lab, system)) == {"high": ("A", 4)}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (SaturationPolicy.NONE, {}),
        (SaturationPolicy.PRIORITY_EXHAUSTIVE, {"x": 3}),
        (SaturationPolicy.PRIORITY_ROUND_ROBIN, {"x": 2, "y": 1}),
        (SaturationPolicy.ROUND_ROBIN, {"w": 1, "x": 1, "y": 1}),
    ],
)
def test_what_is_left_is_shared_as_the_policy_says(
    lab: Any, policy: SaturationPolicy, expected: dict[str, int]
) -> None:
    system = lab.system(
        [lab.accelerator("A")],
        [lab.perf("m", "A")],
        [
            lab.server("s", 2.0, priority=1),
            lab.server("x", 6.0, priority=2),
            lab.server("y", 5.0, priority=2),
            lab.server("w", 4.0, priority=3),
        ],
        capacity={"A": 5},
        saturation_policy=policy,
    )
    solution = solved(lab, system)
    parts = {name: each.replicas for name, each in solution.allocations.items() if name != "s"}
    assert solution.allocations["s"].replicas == 2
    assert parts == expected
    reasons = {each.server: each.reason for each in solution.unserved}
    assert reasons == dict.fromkeys("wxy", UnservedReason.NO_CAPACITY)
    # Costs scale with the parts, and the bound moves with them: the proof is about the rest.
    assert solution.objective == pytest.approx(1.1 * (2 + sum(expected.values())))
    assert solution.status is SolveStatus.OPTIMAL
    assert solution.bound == solution.objective


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("capacity", [{}, {"A": 0}])
def test_without_cards_only_who_needs_none_is_served(
    lab: Any, capacity: dict[str, int], several: bool
) -> None:
    system = lab.system(
        [lab.accelerator("A"), lab.accelerator("B", kind="A")],
        [lab.perf("m", "A"), lab.perf("m", "B")],
        [lab.server("s"), lab.server("idle", 0.0, priority=3)],
        capacity=capacity,
        heterogeneous=several,
    )
    solution = solved(lab, system)
    assert chosen(solution) == {"idle": ("", 0)}
    assert [each.reason for each in solution.unserved] == [UnservedReason.NO_CAPACITY]
    assert solution.status is SolveStatus.OPTIMAL


@pytest.mark.parametrize("several", [False, True])
def test_no_server_and_one_server(lab: Any, several: bool) -> None:
    one = lab.system(
        [lab.accelerator("A", 3.0), lab.accelerator("B", 2.0)],
        [lab.perf("m", "A"), lab.perf("m", "B")],
        [lab.server("s", 2.0)],
        heterogeneous=several,
    )
    assert chosen(solved(lab, one)) == {"s": ("B", 2)}
    nobody = solved(lab, replace(one, servers=()))
    assert (nobody.allocations, nobody.unserved) == ({}, ())
    assert (nobody.status, nobody.objective, nobody.gap) == (SolveStatus.OPTIMAL, 0.0, 0.0)
    hopeless = solved(lab, replace(one, servers=(lab.server("s", model="unknown"),)))
    assert [each.reason for each in hopeless.unserved] == [UnservedReason.NO_TARGET]


def test_equal_values_are_settled_by_order_of_accelerators_and_names(lab: Any) -> None:
    for first, second in (("A", "B"), ("B", "A")):
        system = lab.system(
            [lab.accelerator(first, 2.0), lab.accelerator(second, 2.0), lab.accelerator("C", 5.0)],
            [lab.perf("m", name) for name in "ABC"],
            [lab.server(f"s{at}") for at in range(5)],
            capacity={first: 2, second: 2, "C": 9},
        )
        order = [first, first, second, second, "C"]
        expected = {f"s{at}": (name, 1) for at, name in enumerate(order)}
        assert chosen(solved(lab, system)) == expected


def shuffled(system: System, seed: int) -> System:
    rng = random.Random(seed)

    def mixed(values: Any) -> Any:
        return tuple(rng.sample(list(values), len(values)))

    return replace(
        system,
        servers=mixed(system.servers),
        perf=mixed(system.perf),
        classes=mixed(system.classes),
        accelerators=mixed(system.accelerators),
        capacity=dict(mixed(system.capacity.items())),
    )


@pytest.mark.parametrize("several", [False, True])
def test_a_hundred_runs_of_shuffled_input_give_one_answer(lab: Any, several: bool) -> None:
    # Costs differ, so that the order of accelerators settles no tie.
    system = contested_system(lab, 7, heterogeneous=several)
    first = solved(lab, system)
    for seed in range(100):
        assert solved(lab, shuffled(system, seed)) == first


def test_shuffled_systems_full_of_ties_give_one_answer(lab: Any) -> None:
    for seed in range(60):
        system = small_system(lab, seed, servers=8)
        order = system.accelerators
        first = solved(lab, system)
        for again in range(3):
            mixed = replace(shuffled(system, again), accelerators=order)
            assert solved(lab, mixed) == first


def test_several_threads_at_once_give_the_same_answers(lab: Any) -> None:
    systems = [contested_system(lab, seed) for seed in range(12)]
    alone = [solved(lab, system) for system in systems]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda system: solved(lab, system), systems)) == alone


@pytest.mark.parametrize("several", [False, True])
def test_at_the_end_of_its_time_the_answer_is_no_worse_than_greedys(
    lab: Any, several: bool
) -> None:
    unproven = 0
    for seed, servers in ((1, 400), (2, 800), (3, 1500)):
        system = contested_system(lab, seed, servers, heterogeneous=several)
        solution = solved(lab, system, time_limit_s=0.01)
        counts, value = reached(system, solution)
        least, greedy_value = reached(system, by_greedy(lab, system))
        assert (tuple(-each for each in counts), value) <= (
            tuple(-each for each in least),
            greedy_value + 1e-9,
        )
        if solution.status is SolveStatus.OPTIMAL:
            continue
        unproven += 1
        assert solution.status is SolveStatus.FEASIBLE
        assert "the best answer found in 0.01 s" in solution.message
        if solution.bound is None:
            assert "at most" in solution.message
        else:
            assert solution.bound < solution.objective
            difference = solution.objective - solution.bound
            assert solution.gap == pytest.approx(difference / abs(solution.objective))
    assert unproven


def test_the_bound_holds_and_a_gap_that_is_allowed_ends_the_search(lab: Any) -> None:
    early = 0
    for seed in range(12):
        system = contested_system(lab, seed, 60)
        exact, rough = solved(lab, system), solved(lab, system, gap=0.05)
        assert exact.status is SolveStatus.OPTIMAL
        assert reached(system, rough)[0] == reached(system, exact)[0]
        assert rough.bound is not None
        assert rough.bound <= exact.objective + 1e-6
        assert rough.objective <= exact.objective + 0.05 * abs(rough.objective) + 1e-6
        early += rough.status is not SolveStatus.OPTIMAL
        assert rough.gap is not None
        assert rough.gap <= 0.05
    assert early


def test_flags_and_names_choose_it(lab: Any) -> None:
    assert lab.solve(short_of_cards(lab, milp_solver=True)).solver == "milp"
    assert lab.solve(short_of_cards(lab, solver="milp-cbc")).solver == "milp-cbc"


def test_by_power_several_accelerators_are_not_weighed_and_it_says_so(lab: Any) -> None:
    system = contested_system(lab, 1, heterogeneous=True)
    several = solved(lab, system)
    assert any(each.variants for each in several.allocations.values())
    options = OptimizerOptions(heterogeneous=True, objective=Objective.POWER)
    single = MilpSolver().solve(lab.candidates(system), system.capacity, options)
    assert not any(each.variants for each in single.allocations.values())
    assert single.message.startswith("one accelerator for each server")


def test_in_the_loop_each_server_runs_on_one_accelerator(lab: Any) -> None:
    system = contested_system(lab, 1, heterogeneous=True, solver="milp")
    alone = replace(
        system,
        servers=tuple(
            replace(each, current=replace(each.current, accelerator="", replicas=0))
            for each in system.servers
        ),
    )
    solution = lab.plan(alone)
    assert not any(each.variants for each in solution.allocations.values())
    assert "the loop cannot make heterogeneous answers real" in solution.message


def test_the_oracle_itself_knows_the_systems_above(lab: Any) -> None:
    assert best(short_of_cards(lab), several=False)[0] == (2, 0)
