from __future__ import annotations

import pytest

from controlloop.optimizer.milp.backends import cplex
from controlloop.optimizer.solvers import solvers
from controlloop.protocols import Solver
from controlloop.testing.solvers import SolverContract

pytestmark = pytest.mark.slow


class TestUnlimited(SolverContract):
    limited = False

    def solver(self) -> Solver:
        return solvers().create("unlimited")


class TestGreedy(SolverContract):
    def solver(self) -> Solver:
        return solvers().create("greedy")


class TestExact(SolverContract):
    def solver(self) -> Solver:
        return solvers().create("milp")


class TestExactWithCbc(SolverContract):
    def solver(self) -> Solver:
        return solvers().create("milp-cbc")


@pytest.mark.skipif(not cplex().available(), reason="the extra cplex is missing")
class TestExactWithCplex(SolverContract):
    def solver(self) -> Solver:
        return solvers().create("milp-cplex")


def test_every_registered_solver_is_under_contract() -> None:
    here = [each for each in SolverContract.__subclasses__() if each.__module__ == __name__]
    assert {each().solver().name for each in here} == set(solvers().names)
