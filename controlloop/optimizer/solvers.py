"""The table of solvers: a new one is one line here."""

from __future__ import annotations

from controlloop.optimizer.greedy import GreedySolver
from controlloop.optimizer.unlimited import UnlimitedSolver
from controlloop.plugins import Registry
from controlloop.protocols import Solver


def solvers() -> Registry[Solver]:
    """Every solver that this package brings."""
    registry: Registry[Solver] = Registry("solver", Solver)
    registry.add("unlimited", UnlimitedSolver)
    registry.add("greedy", GreedySolver)
    registry.add("milp", _milp)
    registry.add("milp-cbc", _milp_cbc)
    registry.add("milp-cplex", _milp_cplex)
    return registry


def _milp() -> Solver:
    # Who does not solve exactly need not wait for the libraries that do.
    from controlloop.optimizer.milp import MilpSolver

    return MilpSolver()


def _milp_cbc() -> Solver:
    from controlloop.optimizer.milp import MilpSolver
    from controlloop.optimizer.milp.backends import cbc, highs

    return MilpSolver(cbc(), name="milp-cbc", instead=highs())


def _milp_cplex() -> Solver:
    from controlloop.optimizer.milp import MilpSolver
    from controlloop.optimizer.milp.backends import cplex, highs

    return MilpSolver(cplex(), name="milp-cplex", instead=highs())
