"""Unlimited and greedy on systems small enough to be solved by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlloop.api.solution import Solution, SolveStatus, UnservedReason
from controlloop.api.system import Allocation, SaturationPolicy, System
from controlloop.errors import UnknownPluginError
from controlloop.optimizer import optimize
from controlloop.optimizer.solvers import solvers


def chosen(solution: Solution) -> dict[str, tuple[str, int]]:
    return {
        name: (each.accelerator, each.replicas)
        for name, each in sorted(solution.allocations.items())
    }


def reasons(solution: Solution) -> dict[str, UnservedReason]:
    return {entry.server: entry.reason for entry in solution.unserved}


def test_unlimited_gives_everybody_the_least_value(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A", 3.0), lab.accelerator("B", 4.0)],
        [lab.perf("m", "A", 1.0), lab.perf("m", "B", 2.0)],
        [lab.server("one", 1.0), lab.server("two", 6.0), lab.server("idle", 0.0)],
        capacity={},
        unlimited=True,
    )
    solution = lab.solve(system)
    # one: 3 on A, 4 on B; two: 18 on A, 12 on B; values are 1.1 times those.
    assert chosen(solution) == {"idle": ("", 0), "one": ("A", 1), "two": ("B", 3)}
    assert solution.objective == pytest.approx(1.1 * (3 + 12))
    assert solution.status is SolveStatus.OPTIMAL
    assert (solution.bound, solution.gap) == (solution.objective, 0.0)
    assert solution.allocations["two"].cost_per_hour == 12.0
    assert solution.allocations["two"].load.rate_rps == 6.0
    assert solution.unserved == ()


def test_equal_accelerators_are_taken_in_their_order(lab: Any) -> None:
    for first, second in (("A", "B"), ("B", "A")):
        for options in ({"unlimited": True}, {}):
            system = lab.system(
                [lab.accelerator(first, 3.0), lab.accelerator(second, 3.0)],
                [lab.perf("m", "A"), lab.perf("m", "B")],
                [lab.server("s")],
                **options,
            )
            assert chosen(lab.solve(system)) == {"s": (first, 1)}


def contest(lab: Any, **options: Any) -> System:
    """One card of A for two servers that want it; without it n pays more for B than m does."""
    return lab.system(  # type: ignore[no-any-return]
        [lab.accelerator("A", 1.0), lab.accelerator("B", 2.0)],
        [
            lab.perf("m", "A"),
            lab.perf("m", "B"),
            lab.perf("n", "A"),
            lab.perf("n", "B", accelerators_per_replica=3),
        ],
        [lab.server("a-of-m", model="m"), lab.server("b-of-n", model="n")],
        capacity={"A": 1, "B": 9},
        **options,
    )


def test_who_would_lose_most_chooses_first(lab: Any) -> None:
    solution = lab.solve(contest(lab))
    assert chosen(solution) == {"a-of-m": ("B", 1), "b-of-n": ("A", 1)}
    assert solution.status is SolveStatus.FEASIBLE
    assert solution.objective == pytest.approx(1.1 * (1 + 2))
    assert solution.bound == pytest.approx(1.1 * 2)
    assert solution.gap == pytest.approx(1 / 3)


def test_priority_stands_above_regret(lab: Any) -> None:
    system = contest(lab)
    servers = (lab.server("a-of-m", model="m"), lab.server("b-of-n", model="n", priority=2))
    solution = lab.solve(replace(system, servers=servers))
    assert chosen(solution) == {"a-of-m": ("A", 1), "b-of-n": ("B", 1)}


def test_the_last_candidate_is_an_infinite_regret(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A", 1.0), lab.accelerator("B", 900.0)],
        [lab.perf("m", "A"), lab.perf("m", "B"), lab.perf("n", "A")],
        [lab.server("a", model="m"), lab.server("b", model="n")],
        capacity={"A": 1, "B": 1},
    )
    assert chosen(lab.solve(system)) == {"a": ("B", 1), "b": ("A", 1)}


def test_of_equal_regrets_the_greater_value_goes_first_then_the_name(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A", 1.0)],
        [lab.perf("m", "A")],
        [lab.server("a", 1.0), lab.server("b", 2.0), lab.server("c", 2.0)],
        capacity={"A": 2},
    )
    solution = lab.solve(system)
    assert chosen(solution) == {"b": ("A", 2)}
    assert reasons(solution) == {
        "a": UnservedReason.NO_CAPACITY,
        "c": UnservedReason.NO_CAPACITY,
    }


def test_who_does_not_fit_goes_back_into_the_order(lab: Any) -> None:
    # "a" (regret 9.9) goes before "b" (1.1), does not fit, and comes back with its last
    # candidate, an infinite regret: it takes the card of B that "b" would have had.
    system = lab.system(
        [lab.accelerator("A", 1.0), lab.accelerator("B", 2.0), lab.accelerator("C", 3.0)],
        [
            lab.perf("m", "A", accelerators_per_replica=2),
            lab.perf("m", "B", accelerators_per_replica=1, rate_rps=0.2),
            lab.perf("n", "B"),
            lab.perf("n", "C"),
        ],
        [lab.server("a", model="m"), lab.server("b", model="n")],
        capacity={"A": 1, "B": 5, "C": 1},
    )
    assert chosen(lab.solve(system)) == {"a": ("B", 5), "b": ("C", 1)}


def test_cards_are_shared_by_type(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A", 1.0, kind="t"), lab.accelerator("4xA", 3.0, kind="t", cards=4)],
        [lab.perf("m", "A"), lab.perf("n", "4xA", accelerators_per_replica=2)],
        [lab.server("a", 3.0, model="m", priority=2), lab.server("b", model="n")],
        capacity={"t": 10},
    )
    solution = lab.solve(system)
    assert chosen(solution) == {"b": ("4xA", 1)}
    assert solution.unserved[0].detail == "needs 3 cards for 3 replicas of A, 2 of type t left"


def test_without_capacity_only_who_needs_nothing_is_served(lab: Any) -> None:
    for capacity in ({}, {"A": 0}):
        system = lab.system(
            [lab.accelerator("A")],
            [lab.perf("m", "A")],
            [lab.server("a"), lab.server("idle", 0.0), lab.server("warm", 0.0, min_replicas=1)],
            capacity=capacity,
        )
        solution = lab.solve(system)
        assert chosen(solution) == {"idle": ("", 0)}
        assert set(reasons(solution)) == {"a", "warm"}


def test_an_infeasible_server_is_never_zero_replicas(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A")],
        [lab.perf("m", "A", latency_ms=500.0)],
        [lab.server("s", runs=("A", 4))],
    )
    solution = lab.solve(system)
    assert solution.allocations == {}
    assert reasons(solution) == {"s": UnservedReason.TARGET_UNREACHABLE}


def test_no_servers(lab: Any) -> None:
    for name in solvers().names:
        system = lab.system([lab.accelerator("A")], [lab.perf("m", "A")], [], solver=name)
        solution = lab.solve(system)
        assert (solution.allocations, solution.unserved) == ({}, ())
        assert solution.status is SolveStatus.OPTIMAL
        assert solution.objective == 0


def test_optimize_uses_the_tables_and_measures_the_time(lab: Any) -> None:
    system = lab.system(
        [lab.accelerator("A", 2.0)], [lab.perf("m", "A", 2.0)], [lab.server("s", 3.0)]
    )
    solution = optimize(system, model_of=lab.model_of)
    assert solution.allocations["s"] == Allocation(
        "A", 2, 8, 4.0, 10.0, 10.0 + 100.0 * 0.75, system.servers[0].current.load
    )
    assert solution.seconds > 0
    assert solution.solver == "greedy"


def test_a_solver_that_nobody_registered_is_an_error_that_names_the_known(lab: Any) -> None:
    system = lab.system([], [], [], solver="oracle")
    with pytest.raises(UnknownPluginError, match="known are unlimited, greedy"):
        optimize(system)


@st.composite
def systems(draw: st.DrawFn) -> tuple[Any, ...]:
    """Servers (model, priority, load), capacities, options: many ties."""
    server = st.tuples(
        st.sampled_from("mn"), st.integers(1, 3), st.sampled_from([0.0, 1.0, 2.0, 5.0])
    )
    servers = draw(st.lists(server, max_size=8))
    capacity = {"t": draw(st.integers(0, 12)), "u": draw(st.integers(0, 6))}
    policy, delayed = draw(st.sampled_from(SaturationPolicy)), draw(st.booleans())
    return servers, capacity, {"saturation_policy": policy, "delayed_best_effort": delayed}


def build(lab: Any, drawn: tuple[Any, ...], seed: int) -> System:
    servers, capacity, options = drawn
    listed = [
        lab.server(f"s{at}", load, model=model, priority=priority)
        for at, (model, priority, load) in enumerate(servers)
    ]
    random.Random(seed).shuffle(listed)
    return lab.system(  # type: ignore[no-any-return]
        [
            lab.accelerator("A", 2.0, kind="t"),
            lab.accelerator("2xA", 3.5, kind="t", cards=2),
            lab.accelerator("B", 2.0, kind="u"),
        ],
        [lab.perf(model, name) for model in "mn" for name in ("A", "2xA", "B")],
        listed,
        capacity,
        **options,
    )


@settings(max_examples=150)
@given(drawn=systems(), seed=st.integers(1, 100))
def test_the_order_of_servers_does_not_matter(lab: Any, drawn: tuple[Any, ...], seed: int) -> None:
    assert lab.solve(build(lab, drawn, 0)) == lab.solve(build(lab, drawn, seed))


@settings(max_examples=150)
@given(drawn=systems())
def test_greedy_stays_within_capacity_and_speaks_of_everybody(
    lab: Any, drawn: tuple[Any, ...]
) -> None:
    system = build(lab, drawn, 0)
    solution = lab.solve(system)
    cards = {"": ("t", 0), "A": ("t", 1), "2xA": ("t", 2), "B": ("u", 1)}
    used = {"t": 0, "u": 0}
    for each in solution.allocations.values():
        card_type, count = cards[each.accelerator]
        used[card_type] += count * each.replicas
    assert all(used[card_type] <= system.capacity[card_type] for card_type in used)
    short = reasons(solution)
    for server in system.servers:
        found = solution.allocations.get(server.name)
        assert found is not None or server.name in short
        if server.name not in short:
            assert found is not None
            assert found.replicas >= server.current.load.rate_rps
