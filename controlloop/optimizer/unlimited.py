"""As if there were cards without end: each server gets its candidate of least value."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import IntArray
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import OptimizerOptions
from controlloop.optimizer.answer import Choice, solution_of


class UnlimitedSolver:
    """Looks at no capacity; exact, since no server's choice then bears on another's."""

    name = "unlimited"

    def solve(
        self,
        candidates: Candidates,
        capacity: Mapping[str, int],  # noqa: ARG002 - the protocol's arguments
        options: OptimizerOptions,  # noqa: ARG002
    ) -> Solution:
        """Every server that has a candidate gets its least one."""
        first = first_choices(candidates)
        choice = Choice.nothing(len(candidates.servers))
        servers = candidates.server[first]
        choice.row[servers] = first
        choice.replicas[servers] = candidates.replicas[first]
        return solution_of(
            candidates,
            choice,
            None,
            solver=self.name,
            status=SolveStatus.OPTIMAL,
            bound=least_total(candidates),
        )


def first_choices(candidates: Candidates) -> IntArray:
    """The row of least value of each server that has any."""
    has_rows = np.diff(candidates.start) > 0
    return candidates.rows_by_value()[candidates.start[:-1][has_rows]]


def least_total(candidates: Candidates) -> float:
    """The total value of first choices: no solution that serves all of them has less."""
    return math.fsum(candidates.value[first_choices(candidates)].tolist())
