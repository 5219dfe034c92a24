"""A system in, a solution out."""

from __future__ import annotations

import math
from dataclasses import replace

from controlloop.api.solution import Solution
from controlloop.api.system import System
from controlloop.clock import Clock, SystemClock
from controlloop.errors import InputError, Problem
from controlloop.optimizer.asked import answer_of
from controlloop.optimizer.candidates import build_candidates
from controlloop.optimizer.solvers import solvers
from controlloop.optimizer.supply import ModelSource
from controlloop.queueing.models import queue_models


def check_numbers(system: System) -> None:
    """Refuse what cannot be counted on; forms read from JSON never have it.

    Raises:
        InputError: every number of cards, time limit, gap or price that is none.

    """
    options = system.options
    problems = [
        Problem(f"capacity[{name}]", "must be a whole number of cards >= 0", str(count))
        for name, count in system.capacity.items()
        if not (math.isfinite(count) and count >= 0 and count == int(count))
    ]
    if options.time_limit_s is not None and not options.time_limit_s > 0:
        problems.append(Problem("timeLimit", "must be > 0", str(options.time_limit_s)))
    for name, value in (("gap", options.gap), ("energyPrice", options.energy_price)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            problems.append(Problem(name, "must be a number >= 0", str(value)))
    if problems:
        raise InputError(problems)


def optimize(
    system: System, *, model_of: ModelSource | None = None, clock: Clock | None = None
) -> Solution:
    """Allocate every server of `system` at the least total value.

    Bad data of one server, class, model or accelerator leaves the others as they are: who is
    not served is in the solution's `unserved`, with the reason. Where the solver fails, greedy's
    answer stands in: `asked` then is not `solver`, and the message says why.

    Args:
        system: everything there is to know; its options choose the solver.
        model_of: gives the queue model of a name; None is the table of `controlloop.queueing`.
        clock: measures the time it takes; None is the machine's.

    Raises:
        InputError: a number of cards, or of the options, is none; every such problem.
        UnknownPluginError: the options ask for a solver that nobody registered.

    """
    clock = clock or SystemClock()
    started = clock.monotonic()
    check_numbers(system)
    solver = solvers().create(system.options.solver_name)
    candidates = build_candidates(system, model_of or queue_models().create)
    solution = answer_of(solver, candidates, system.capacity, system.options)
    return replace(solution, seconds=clock.monotonic() - started)
