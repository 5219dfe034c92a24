"""The integer program of a stage, in PuLP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pulp

from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.optimizer.milp.backends import Backend, Ending
from controlloop.optimizer.milp.stage import Stage

# Solvers' tolerances are absolute: objectives are brought to this size.
_SIZE: Final = 1e3
_TINY: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What a solver made of a program.

    Attributes:
        ending: how it ended.
        columns: positions in the stage, one for each server that is served; None for nothing.
        bound: the least objective among the columns allowed, None where not known.

    """

    ending: Ending
    columns: IntArray | None
    bound: float | None


def choose(
    stage: Stage,
    allowed: BoolArray,
    skippable: BoolArray,
    backend: Backend,
    limit_s: float,
    gap: float = 0.0,
) -> Chosen:
    """The best solution of `stage` that uses no column but the allowed ones.

    Args:
        stage: the stage.
        allowed: (m,) which columns may be used.
        skippable: (S,) which servers may stay unserved.
        backend: the solver.
        limit_s: its time.
        gap: relative gap at which the solver may stop and call it optimal.

    Raises:
        BackendError: the solver could not.

    """
    choices = np.bincount(stage.server[allowed], minlength=len(skippable)) + skippable
    if np.any(choices == 0):
        return Chosen(Ending.INFEASIBLE, None, None)
    # Who has but one choice is settled and takes its cards before the program begins.
    settled = (choices == 1) & ~skippable
    fixed = np.flatnonzero(allowed & settled[stage.server])
    free = np.flatnonzero(allowed & ~settled[stage.server])
    left = stage.capacity - stage.cards[fixed].sum(axis=0)
    groups = len(stage.counts.least)
    served = np.bincount(stage.counts.level[stage.server[fixed]], minlength=groups + 1)
    least = stage.counts.least - served[:-1]
    if np.any(left < 0):
        return Chosen(Ending.INFEASIBLE, None, None)
    constant = float(stage.objective[fixed].sum())
    if not len(free):
        ending = Ending.INFEASIBLE if np.any(least > 0) else Ending.OPTIMAL
        return Chosen(ending, fixed if ending is Ending.OPTIMAL else None, constant)
    objective, shift = _differences(stage, free, skippable)
    scale = _SIZE / max(float(np.max(np.abs(objective))), _TINY)
    program, variables = _program(stage, free, skippable, objective * scale, left, least)
    answer = backend.solve(program, limit_s, gap)
    bound = None if answer.bound is None else constant + shift + answer.bound / scale
    if answer.ending not in (Ending.OPTIMAL, Ending.FOUND):
        return Chosen(answer.ending, None, bound)
    values = np.array([variable.varValue or 0.0 for variable in variables])
    return Chosen(answer.ending, np.sort(np.concatenate([fixed, free[values > 0.5]])), bound)


def _differences(stage: Stage, free: IntArray, skippable: BoolArray) -> tuple[FloatArray, float]:
    """Objectives less the least of each server that is served in any case, and the sum of those.

    What is the same in every solution only costs digits.
    """
    least = np.full(len(skippable), np.inf)
    np.minimum.at(least, stage.server[free], stage.objective[free])
    least[skippable | np.isinf(least)] = 0.0
    return stage.objective[free] - least[stage.server[free]], float(least.sum())


def _program(
    stage: Stage,
    free: IntArray,
    skippable: BoolArray,
    cost: FloatArray,
    left: FloatArray,
    least: FloatArray,
) -> tuple[pulp.LpProblem, list[pulp.LpVariable]]:
    program = pulp.LpProblem("allocation", pulp.LpMinimize)
    x = [program.add_variable(f"x{at}", 0, 1, pulp.LpInteger) for at in range(len(free))]
    program.setObjective(pulp.LpAffineExpression(zip(x, cost.tolist(), strict=True)))
    server = stage.server[free]
    for at, columns in _grouped(server):
        total = pulp.lpSum(x[column] for column in columns)
        program.addConstraint(total <= 1 if skippable[at] else total == 1)
    cards = stage.cards[free].tocsc()
    for card_type, most in enumerate(left.tolist()):
        entries = slice(*cards.indptr[card_type : card_type + 2])
        amounts = cards.data[entries].tolist()
        if sum(amounts) > most:
            users = [x[column] for column in cards.indices[entries]]
            total = pulp.LpAffineExpression(zip(users, amounts, strict=True))
            program.addConstraint(total <= most)
    for group, columns in _grouped(stage.counts.level[server]):
        if group < len(least) and least[group] > 0:
            program.addConstraint(pulp.lpSum(x[column] for column in columns) >= least[group])
    return program, x


def _grouped(keys: IntArray) -> list[tuple[int, list[int]]]:
    """Each key with the positions that have it, in ascending order."""
    order = np.argsort(keys, kind="stable")
    found, first = np.unique(keys[order], return_index=True)
    parts = np.split(order, first[1:])
    return [(int(key), part.tolist()) for key, part in zip(found, parts, strict=True)]
