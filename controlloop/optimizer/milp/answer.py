"""From columns to a solution, with what is proven of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import IntArray
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import SaturationPolicy
from controlloop.optimizer.answer import Choice, solution_of
from controlloop.optimizer.milp.besteffort import serve_in_part
from controlloop.optimizer.milp.lexicographic import Result
from controlloop.optimizer.milp.pool import Pool
from controlloop.optimizer.milp.stage import NOTHING
from controlloop.optimizer.milp.variants import mixed_allocations

# A total of nothing has no gap relative to it.
_TINY: Final = 1e-9


def whole_and_part(
    pool: Pool,
    candidates: Candidates,
    picked: IntArray,
    waiting: IntArray,
    policy: SaturationPolicy,
    solver: str,
) -> Solution:
    """The solution that `picked` is, with best effort for those who are `waiting`.

    Args:
        pool: the columns.
        candidates: what they are made of.
        picked: (S,) position of each server's column, NOTHING for none.
        waiting: servers without a column that have candidates, in line.
        policy: what they get.
        solver: name of the solver.

    """
    columns = pool.columns
    choice = Choice.nothing(len(picked))
    served = np.flatnonzero(picked != NOTHING)
    mixes = {server: columns.mixes[picked[server]] for server in served.tolist()}
    for server, mix in mixes.items():
        # The first part of a mix stands for it here: its whole candidate would serve too.
        row = mix[0][0]
        choice.row[server], choice.replicas[server] = row, candidates.replicas[row]
    left = pool.capacity - columns.cards[picked[served]].sum(axis=0)
    left_over = serve_in_part(candidates, choice, waiting, left, policy)
    solution = solution_of(
        candidates,
        choice,
        dict(zip(candidates.types, left_over, strict=True)),
        solver=solver,
        status=SolveStatus.FEASIBLE,
    )
    several = {server: mix for server, mix in mixes.items() if len(mix) > 1}
    if not several:
        return solution
    allocations, power_w = mixed_allocations(candidates, several)
    names = {candidates.servers[server] for server in several}
    kept = {name: watts for name, watts in solution.power_w.items() if name not in names}
    parts = waiting[choice.row[waiting] != NOTHING]
    row = choice.row[parts]
    in_part = candidates.value[row] * choice.replicas[parts] / candidates.replicas[row]
    return replace(
        solution,
        allocations={**solution.allocations, **allocations},
        power_w={**kept, **power_w},
        objective=math.fsum([*columns.value[picked[served]].tolist(), *in_part.tolist()]),
    )


def with_proof(solution: Solution, result: Result, message: str) -> Solution:
    """`solution` with the status, bound and gap that `result` has shown.

    The bound is one of the servers served whole. What best effort adds is added to it, so that
    the difference stays what it is.
    """
    message = "; ".join(each for each in (message, solution.message) if each)
    if result.proven:
        return replace(
            solution,
            status=SolveStatus.OPTIMAL,
            bound=solution.objective,
            gap=0.0,
            message=message,
        )
    if result.bound is None:
        return replace(solution, message=message)
    missing = max(result.value - result.bound, 0.0)
    gap = missing / max(abs(solution.objective), _TINY)
    return replace(solution, bound=solution.objective - missing, gap=gap, message=message)
