"""The best solution of a stage, with its proof: prices first, then small integer programs.

A column whose excess is above the gap between the best solution known and the bound is in no
better solution. So the program is solved over the columns of least excess (the core); what that
finds narrows the gap, until every column that could matter has been in the program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, IntArray
from controlloop.optimizer.milp.backends import BackendError, Ending
from controlloop.optimizer.milp.dual import Prices
from controlloop.optimizer.milp.limits import Limits
from controlloop.optimizer.milp.pool import Question
from controlloop.optimizer.milp.program import choose
from controlloop.optimizer.milp.rounding import rounded
from controlloop.optimizer.milp.stage import Stage

# Columns in the first core beyond the best of each server, where there are many, and how many
# times as large each next core is.
_CORE: Final = 500
_GROWTH: Final = 4
_PRECISION: Final = 1e-9
# An unfinished core may take this share of the time that is left.
_SHARE_OF_TIME: Final = 0.5
# Cores that are tried where no solution is known.
_ATTEMPTS: Final = 2
# Where any solution will do, this relative gap ends the search for a better one.
_ANY_GAP: Final = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The best solution of a stage.

    Attributes:
        columns: positions in the columns, one for each server served.
        objective: their sum.
        bound: no solution has less.
        proven: whether no solution is better.
        failure: why the solver could not go on, "" where it could.

    """

    columns: IntArray
    objective: float
    bound: float
    proven: bool
    failure: str = ""


def search(question: Question, columns: IntArray, objective: float, limits: Limits) -> Found:
    """Improve on a known solution until that is proven impossible, or the time is up.

    Args:
        question: what to solve.
        columns: positions in the columns of a solution that keeps every rule.
        objective: its objective.
        limits: when to stop.

    """
    stage, prices = question.relax(objective, limits)
    best = Found(columns, objective, min(prices.bound, objective), proven=False)
    if not _enough(best, stage, limits):
        best = _better(best, stage, rounded(stage, prices))
    attempt = 0
    while not _enough(best, stage, limits) and limits.in_time():
        wanted = _wanted(best, stage, prices)
        limit = min(_excess_of(stage, prices, attempt), wanted) + _PRECISION * stage.scale
        stage, prices, complete = question.within(stage, prices, limit, limits)
        core = _Core(limit, complete=complete, last=limit >= wanted)
        try:
            best, ended = _solve_core(stage, prices, core, best, limits)
        except BackendError as error:
            return replace(best, failure=str(error))
        left = _wanted(best, stage, prices)
        if left <= limit and ended:
            # No column that was left out is in a better solution.
            return replace(best, bound=best.objective, proven=True)
        if left <= limit and (complete or left >= wanted):
            break
        attempt += 1
    if best.objective - best.bound <= _proof(stage):
        return replace(best, bound=best.objective, proven=True)
    return best


def find_any(question: Question, limits: Limits) -> IntArray | None:
    """Positions in the columns of some solution, None where none came up.

    Without a solution there is no gap to search: rounding is tried, then a few small cores.

    Raises:
        BackendError: the solver could not.

    """
    stage, prices = question.relax(math.inf, limits)
    found = rounded(stage, prices)
    if stage.holds(found):
        return stage.column[found]
    for attempt in range(_ATTEMPTS):
        if not limits.in_time():
            break
        limit = _excess_of(stage, prices, attempt) + _PRECISION * stage.scale
        stage, prices, _ = question.within(stage, prices, limit, limits)
        allowed, skippable = _allowed(prices, limit)
        time_s = limits.remaining_s * _SHARE_OF_TIME
        chosen = choose(stage, allowed, skippable, limits.backend, time_s, _ANY_GAP)
        if chosen.columns is not None and stage.holds(chosen.columns):
            return stage.column[chosen.columns]
    return None


def _allowed(prices: Prices, limit: float) -> tuple[BoolArray, BoolArray]:
    """Columns that may be used and servers that may stay unserved within an excess."""
    return (
        np.asarray(prices.excess <= limit, dtype=np.bool_),
        np.asarray(prices.skip_excess <= limit, dtype=np.bool_),
    )


def _proof(stage: Stage) -> float:
    """A gap this small is none."""
    return max(stage.step * (1 - _PRECISION), _PRECISION * stage.scale)


def _enough(best: Found, stage: Stage, limits: Limits) -> bool:
    gap = best.objective - best.bound
    return gap <= _proof(stage) or gap <= limits.gap * abs(best.objective)


def _wanted(best: Found, stage: Stage, prices: Prices) -> float:
    """The greatest excess of a column that could be in a better solution."""
    return max(best.objective - prices.bound - stage.step * (1 - _PRECISION), 0.0)


def _excess_of(stage: Stage, prices: Prices, attempt: int) -> float:
    """The excess of the core of each attempt, by how many columns beyond the best it takes in."""
    above = np.sort(prices.excess[prices.excess > _PRECISION * stage.scale])
    extra = max(min(_CORE, len(above) // _GROWTH), 1) * _GROWTH**attempt
    return float(above[extra]) if extra < len(above) else math.inf


@dataclass(frozen=True, slots=True)
class _Core:
    """The part of a stage that a program is about.

    Attributes:
        limit: columns of more excess are left out.
        complete: whether the stage has all columns of no more excess.
        last: whether the program may take all the time that is left.

    """

    limit: float
    complete: bool
    last: bool


def _solve_core(
    stage: Stage, prices: Prices, core: _Core, best: Found, limits: Limits
) -> tuple[Found, bool]:
    """The best of `best` and the core's solution, and whether the core has been exhausted."""
    allowed, skippable = _allowed(prices, core.limit)
    time_s = limits.remaining_s * (1.0 if core.last else _SHARE_OF_TIME)
    chosen = choose(stage, allowed, skippable, limits.backend, time_s)
    ended = core.complete and chosen.ending in (Ending.OPTIMAL, Ending.INFEASIBLE)
    if chosen.columns is not None and not stage.holds(chosen.columns):
        ended = False
    found = _better(best, stage, chosen.columns)
    inside = found.objective if ended else chosen.bound if core.complete else None
    return _with_bound(found, inside, prices.bound + core.limit), ended


def _better(best: Found, stage: Stage, chosen: IntArray | None) -> Found:
    """The better of `best` and the solution `chosen`, if that keeps every rule."""
    if chosen is None or not stage.holds(chosen):
        return best
    objective = math.fsum(stage.objective[chosen].tolist())
    if objective >= best.objective - _PRECISION * stage.scale:
        return best
    return replace(best, columns=stage.column[chosen], objective=objective)


def _with_bound(found: Found, inside: float | None, outside: float) -> Found:
    """`found` with the bound that a core gives: better solutions lie inside or outside it."""
    if inside is None:
        return found
    return replace(found, bound=min(max(found.bound, min(inside, outside)), found.objective))
