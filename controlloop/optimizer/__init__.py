"""Chooses accelerator, replicas and batch for every server: candidates, solvers, the planner."""

from controlloop.optimizer.planner import Planner
from controlloop.optimizer.solving import optimize

__all__ = ["Planner", "optimize"]
