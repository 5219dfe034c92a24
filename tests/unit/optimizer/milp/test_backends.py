"""The solvers behind PuLP: they agree, and what they say is believed no further than shown."""

from __future__ import annotations

import math
from typing import Any

import pulp
import pytest
from milp_oracle import reached
from milp_systems import contested_system, small_system

from controlloop.api.solution import SolveStatus
from controlloop.api.system import OptimizerOptions
from controlloop.clock import ManualClock
from controlloop.optimizer.greedy import GreedySolver
from controlloop.optimizer.milp import MilpSolver
from controlloop.optimizer.milp import backends as behind
from controlloop.optimizer.milp.backends import (
    Answer,
    Backend,
    BackendError,
    Ending,
    PulpBackend,
    cbc,
    cplex,
    highs,
)
from controlloop.optimizer.solvers import solvers

SYSTEMS = 200
PARTS = 10
NEEDS_CPLEX = pytest.mark.skipif(not cplex().available(), reason="the extra cplex is missing")


class Counting:
    """A backend that counts its programs."""

    def __init__(self, backend: Backend) -> None:
        self.name = backend.name
        self.programs = 0
        self._backend = backend

    def available(self) -> bool:
        return self._backend.available()

    def solve(self, program: pulp.LpProblem, limit_s: float, gap: float) -> Answer:
        self.programs += 1
        return self._backend.solve(program, limit_s, gap)


@NEEDS_CPLEX
@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_highs_cbc_and_cplex_agree(lab: Any, part: int) -> None:
    counting = [Counting(each()) for each in (highs, cbc, cplex)]
    for seed in range(part, SYSTEMS, PARTS):
        system = contested_system(lab, seed, 10, heterogeneous=seed % 4 == 0)
        candidates = lab.candidates(system)
        ranks = []
        for backend in counting:
            solution = MilpSolver(backend).solve(candidates, system.capacity, system.options)
            assert solution.status is SolveStatus.OPTIMAL, (seed, backend.name, solution.message)
            ranks.append(reached(system, solution))
        for counts, value in ranks[1:]:
            assert counts == ranks[0][0], seed
            assert value == pytest.approx(ranks[0][1], rel=1e-7, abs=1e-6), seed
    # The systems are hard enough for the solvers to have had something to say.
    assert all(each.programs >= SYSTEMS // PARTS for each in counting)


@pytest.mark.parametrize("make", [highs, cbc, pytest.param(cplex, marks=NEEDS_CPLEX)])
def test_endings_are_what_was_shown(make: Any) -> None:
    backend = make()
    assert backend.available()
    for least, ending in ((2, Ending.OPTIMAL), (4, Ending.INFEASIBLE)):
        program = pulp.LpProblem("p", pulp.LpMinimize)
        x = [program.add_variable(f"x{at}", 0, 1, pulp.LpInteger) for at in range(3)]
        program.setObjective(2.5 * x[0] + 1.5 * x[1] + x[2])
        program.addConstraint(pulp.lpSum(x) >= least)
        answer = backend.solve(program, 30.0, 0.0)
        assert answer.ending is ending
        if ending is Ending.OPTIMAL:
            assert [round(each.varValue) for each in x] == [0, 1, 1]
            assert answer.bound is None or answer.bound == pytest.approx(2.5)


def test_what_a_solver_says_after_its_time_is_not_believed() -> None:
    clock = ManualClock()

    def late(_: pulp.LpProblem) -> Answer:
        clock.advance(31.0)
        return endings.pop()

    endings = [Answer(Ending.INFEASIBLE), Answer(Ending.OPTIMAL, 1.0)]
    backend = PulpBackend("late", lambda _, __: pulp.HiGHS(msg=False, threads=1), late, clock)
    for ending in (Ending.FOUND, Ending.NOTHING):
        program = pulp.LpProblem("p", pulp.LpMinimize)
        program.setObjective(1 * program.add_variable("x", 0, 1, pulp.LpInteger))
        assert backend.solve(program, 30.0, 0.0).ending is ending


def check_is_greedy(lab: Any, backend: Backend, why: str, servers: int = 14) -> None:
    system = contested_system(lab, 3, servers)
    candidates = lab.candidates(system)
    solution = MilpSolver(backend).solve(candidates, system.capacity, system.options)
    greedy = GreedySolver().solve(candidates, system.capacity, system.options)
    assert solution.solver == "greedy"
    assert solution.allocations == greedy.allocations
    assert solution.status is greedy.status
    assert solution.message.startswith(why)
    assert solution.message.endswith("this is the greedy solver's answer")


def check_is_by_highs(lab: Any, solver: str, why: str, servers: int = 14) -> None:
    system = contested_system(lab, 3, servers)
    candidates = lab.candidates(system)
    found = solvers().create(solver).solve(candidates, system.capacity, system.options)
    exact = MilpSolver().solve(candidates, system.capacity, system.options)
    assert (found.solver, found.status) == ("milp", exact.status)
    assert found.allocations == exact.allocations
    assert found.objective == exact.objective
    assert found.message == f"{why}: HiGHS solved it instead"


def test_a_solver_that_is_missing_falls_back_to_greedy(lab: Any) -> None:
    check_is_greedy(lab, cbc("/nowhere/cbc"), "CBC is not installed")


def test_a_solver_that_crashes_falls_back_to_greedy(lab: Any) -> None:
    check_is_greedy(lab, cbc("/bin/false"), "CBC failed")


def test_where_cplex_or_cbc_is_missing_highs_solves_and_says_so(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind.PulpBackend, "available", lambda self: self.name == "HiGHS")
    check_is_by_highs(lab, "milp-cplex", "CPLEX is not installed")
    check_is_by_highs(lab, "milp-cbc", "CBC is not installed")


def test_where_highs_is_missing_too_greedy_answers_and_names_both(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind.PulpBackend, "available", lambda _: False)
    solution = lab.solve(contested_system(lab, 3, milp_solver=True, use_cplex=True))
    assert solution.solver == "greedy"
    assert solution.message == (
        "CPLEX is not installed; HiGHS is not installed: this is the greedy solver's answer"
    )


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"milp_solver": True}, "milp"),
        ({"milp_solver": True, "use_cplex": True}, "milp-cplex"),
        ({"solver": "milp", "use_cplex": True}, "milp-cplex"),
        ({"solver": "milp-cbc", "use_cplex": True}, "milp-cbc"),
        ({"use_cplex": True}, "greedy"),
    ],
)
def test_the_flags_choose_the_solver_behind(flags: dict[str, Any], name: str) -> None:
    assert OptimizerOptions(**flags).solver_name == name


@NEEDS_CPLEX
def test_beyond_the_size_limit_of_cplex_highs_solves_and_says_so_in_plain_words(lab: Any) -> None:
    program = pulp.LpProblem("p", pulp.LpMinimize)
    x = [program.add_variable(f"x{at}", 0, 1, pulp.LpInteger) for at in range(1100)]
    program.setObjective(pulp.lpSum(x))
    program.addConstraint(pulp.lpSum(x) >= 7)
    why = (
        "the problem is larger than the community edition of CPLEX solves"
        " (1,000 variables or constraints)"
    )
    with pytest.raises(BackendError) as refusal:
        cplex().solve(program, 30.0, 0.0)
    assert str(refusal.value) == why

    check_is_by_highs(lab, "milp-cplex", why, servers=800)


class Liar:
    """Says that everything is optimal, with values that are no solution."""

    name = "Liar"

    def available(self) -> bool:
        return True

    def solve(self, program: pulp.LpProblem, limit_s: float, gap: float) -> Answer:
        for variable in program.variables():
            variable.varValue = 1.0
        return Answer(Ending.OPTIMAL, -1e9)


@pytest.mark.parametrize("seed", range(20))
def test_a_solution_that_breaks_the_rules_is_left_out(lab: Any, seed: int) -> None:
    system = contested_system(lab, seed)
    candidates = lab.candidates(system)
    solution = MilpSolver(Liar()).solve(candidates, system.capacity, system.options)
    greedy = GreedySolver().solve(candidates, system.capacity, system.options)
    true = MilpSolver().solve(candidates, system.capacity, system.options)
    counts, value = reached(system, solution)
    assert (tuple(-each for each in counts), value) <= _rank(system, greedy)
    assert _rank(system, true) <= (tuple(-each for each in counts), value + 1e-9)
    if solution.status is SolveStatus.OPTIMAL:
        assert value == pytest.approx(true.objective)
    elif solution.bound is not None:
        assert solution.bound <= true.objective + 1e-9
        assert solution.gap is not None
        assert math.isfinite(solution.gap)


def _rank(system: Any, solution: Any) -> tuple[tuple[int, ...], float]:
    counts, value = reached(system, solution)
    return tuple(-each for each in counts), value


def test_random_systems_differ(lab: Any) -> None:
    assert small_system(lab, 1) != small_system(lab, 2)
    assert small_system(lab, 1) == small_system(lab, 1)
