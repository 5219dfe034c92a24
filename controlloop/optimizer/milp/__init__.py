"""The exact solver: integer programs through PuLP, kept small by prices of cards."""

from controlloop.optimizer.milp.solver import MilpSolver

__all__ = ["MilpSolver"]
