"""Asks a solver, and never lets its answer pass for what it is not.

Whatever a solver does, there is an answer: where it raises, or gives none, greedy's stands in.
`Solution.asked` then differs from `Solution.solver`, and the message says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from controlloop.api.candidates import Candidates
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import NO_ACCELERATOR, Allocation, OptimizerOptions, Variant
from controlloop.errors import error_in_words
from controlloop.optimizer.answer import choice_of
from controlloop.optimizer.greedy import GreedySolver
from controlloop.optimizer.unlimited import UnlimitedSolver
from controlloop.protocols import Solver

# What is exact by a flag that these solvers do not know.
_SIMPLE: Final = frozenset({GreedySolver.name, UnlimitedSolver.name})
_OURS: Final = _SIMPLE | {"milp", "milp-cbc", "milp-cplex"}


def answer_of(
    solver: Solver,
    candidates: Candidates,
    capacity: Mapping[str, int],
    options: OptimizerOptions,
) -> Solution:
    """What `solver` answers; greedy's answer, which says so, where it fails to.

    Args:
        solver: whose answer is asked for, ours or a third party's.
        candidates: what there is to choose from.
        capacity: cards by type.
        options: how to solve.

    """
    try:
        asked, found = solver.name, solver.solve(candidates, capacity, options)
        wrong = _wrong(found, candidates)
    except Exception as error:  # noqa: BLE001 - a third party's solver raises whatever it likes
        asked, wrong = _name(solver), f"failed ({error_in_words(error)})"
    if wrong:
        found = GreedySolver().solve(candidates, capacity, options)
        found = replace(found, message=f"{asked} {wrong}: this is the greedy solver's answer")
    notes = [found.message, *_ignored(found, options)]
    if found.solver not in _OURS:
        notes += _beyond(found, candidates, capacity)
    if not found.message:
        notes += _unsaid(found, asked)
    return replace(found, asked=asked, message="; ".join(each for each in notes if each))


def _wrong(found: object, candidates: Candidates) -> str:
    """What makes an answer none, "" where it is one."""
    if not isinstance(found, Solution):
        return f"answered with {type(found).__name__}, not with a solution"
    told = {*found.allocations, *(each.server for each in found.unserved)}
    known = {*candidates.servers, *(each.server for each in candidates.unserved)}
    if forgotten := sorted(known - told):
        return f"says nothing of {_some(forgotten)}"
    if strangers := sorted(told - known):
        return f"answers for {_some(strangers)}, which it was not asked about"
    return "" if found.solver in _OURS else _nonsense(found, candidates)


def _nonsense(found: Solution, candidates: Candidates) -> str:
    """What nobody can make use of in an answer, "" for nothing."""
    if not math.isfinite(found.objective):
        return f"answered with a total value of {found.objective}"
    accelerators = {*candidates.accelerators, NO_ACCELERATOR}
    for name, allocation in found.allocations.items():
        parts: tuple[Allocation | Variant, ...] = (allocation, *allocation.variants)
        for part in parts:
            if part.accelerator not in accelerators:
                return f'puts "{name}" on "{part.accelerator}", which there is not'
            numbers = (part.replicas, part.max_batch, part.cost_per_hour, part.itl_ms, part.ttft_ms)
            if not all(math.isfinite(each) and each >= 0 for each in numbers):
                return f'gives "{name}" numbers that are none'
    return ""


def _unsaid(found: Solution, asked: str) -> Iterator[str]:
    """What an answer without a message should have said."""
    if found.solver != asked:
        yield f"{asked} was asked for, this is the answer of {found.solver}"
    if found.status is SolveStatus.FAILED:
        yield f"{found.solver} says that it failed"


def _beyond(found: Solution, candidates: Candidates, capacity: Mapping[str, int]) -> Iterator[str]:
    """Types of which an answer takes more cards than there are; ours never do."""
    card_type, cards = choice_of(candidates, found).cards(candidates)
    there = candidates.capacity_by_type(capacity)
    for at, name in enumerate(candidates.types):
        taken = int(cards[card_type == at].sum())
        if taken > there[at]:
            yield f"{found.solver} takes {taken} cards of type {name}, {there[at]} are there"


def _ignored(found: Solution, options: OptimizerOptions) -> Iterator[str]:
    """Flags that ask for what the solver that answered does not do."""
    if found.solver in _SIMPLE and options.heterogeneous:
        yield (
            f"heterogeneous is without effect: {found.solver} gives each server one accelerator"
            " (milpSolver weighs several)"
        )
    if found.solver in _SIMPLE and found.solver == options.solver_name and options.use_cplex:
        yield f"useCplex is without effect: {found.solver} solves no program (milpSolver does)"


def _name(solver: Solver) -> str:
    try:
        return str(solver.name)
    except Exception:  # noqa: BLE001 - even its name is a third party's code
        return type(solver).__name__


def _some(names: list[str]) -> str:
    rest = len(names) - 1
    return f'"{names[0]}"' + (f" and {rest} more" if rest else "")
