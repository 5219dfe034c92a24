"""The solver `milp`: exact, lexicographic, never worse than greedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from controlloop.api.candidates import Candidates
from controlloop.api.solution import Solution
from controlloop.api.system import Objective, OptimizerOptions
from controlloop.clock import Clock, SystemClock
from controlloop.optimizer.greedy import GreedySolver
from controlloop.optimizer.milp.answer import whole_and_part, with_proof
from controlloop.optimizer.milp.backends import Backend, highs
from controlloop.optimizer.milp.fill import urgency
from controlloop.optimizer.milp.lexicographic import Result, solve
from controlloop.optimizer.milp.limits import Limits
from controlloop.optimizer.milp.mixed_pool import MixedPool
from controlloop.optimizer.milp.pool import Pool, WholePool
from controlloop.optimizer.milp.stage import NOTHING
from controlloop.optimizer.milp.start import start_from_greedy
from controlloop.optimizer.milp.ties import settle_ties

DEFAULT_TIME_LIMIT_S: Final = 10.0
# Whoever stands in for another solver behind is HiGHS, which is what this name means.
_STAND_IN: Final = "milp"
_ONE_ACCELERATOR: Final = (
    "one accelerator for each server: several are only weighed by cost, not by power"
)


class MilpSolver:
    """Most servers of priority 1 served, then of 2, ..., then the least total value.

    Greedy's answer is the start: the result is never worse. Where the solver behind is missing
    or fails, the one `instead` goes on, and without one greedy's answer is the result; the
    message says so, and the solution's `solver` is then "milp" or "greedy".

    Args:
        backend: solves the integer programs; None is HiGHS.
        time_limit_s: when it ends with the best answer found, s; options that name one overrule.
        gap: relative gap to the bound that is good enough; 0 asks for proof; options overrule.
        name: what options choose it by.
        clock: measures the time; None is the machine's.
        instead: stands in for `backend` where that cannot.

    """

    def __init__(
        self,
        backend: Backend | None = None,
        time_limit_s: float = DEFAULT_TIME_LIMIT_S,
        gap: float = 0.0,
        name: str = "milp",
        clock: Clock | None = None,
        instead: Backend | None = None,
    ) -> None:
        self.name = name
        self._backends = (backend or highs(), *([] if instead is None else [instead]))
        self._time_limit_s = time_limit_s
        self._gap = gap
        self._clock = clock or SystemClock()

    def solve(
        self, candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions
    ) -> Solution:
        """Allocations within `capacity`; best effort comes last, as `options` say."""
        time_limit_s = _given(options.time_limit_s, self._time_limit_s)
        gap = _given(options.gap, self._gap)
        limits = Limits.of(self._backends[0], self._clock, time_limit_s, gap)
        mixed = options.heterogeneous and options.objective is Objective.COST
        cards = candidates.capacity_by_type(capacity)
        pool: Pool = MixedPool(candidates, cards) if mixed else WholePool(candidates, cards)
        start = start_from_greedy(pool, candidates, capacity, options)
        order = urgency(candidates)
        failures: list[str] = []
        for backend in self._backends:
            if not backend.available():
                failures.append(f"{backend.name} is not installed")
                continue
            result = solve(pool, start, candidates.priority, order, limits.using(backend))
            if not result.failure:
                break
            failures.append(result.failure)
            # What was found until then is a start as good as greedy's, or better.
            start = result.picked
        else:
            return _greedy(candidates, capacity, options, "; ".join(failures))
        picked = settle_ties(pool, candidates, result.picked)
        waiting = order[picked[order] == NOTHING]
        policy = options.saturation_policy
        name = _STAND_IN if failures else self.name
        solution = whole_and_part(pool, candidates, picked, waiting, policy, solver=name)
        notes = [f"{each}: {backend.name} solved it instead" for each in failures]
        if options.heterogeneous and not mixed:
            notes.append(_ONE_ACCELERATOR)
        notes += _not_proven(result, limits, time_limit_s)
        return with_proof(solution, result, "; ".join(notes))


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _not_proven(result: Result, limits: Limits, time_limit_s: float) -> Iterator[str]:
    """What there is to say of an answer that is not proven."""
    if result.proven:
        return
    if not limits.in_time():
        yield f"the best answer found in {time_limit_s:g} s"
    elif limits.gap:
        yield f"good enough within the gap of {limits.gap:g} that was allowed"
    else:
        yield "not proven to be the best"
    for level in result.levels:
        if not level.proven:
            yield (
                f"of priority {level.priority} {level.served} servers are served,"
                f" at most {level.most} could be"
            )


def _greedy(
    candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions, why: str
) -> Solution:
    found = GreedySolver().solve(candidates, capacity, options)
    return replace(found, message=f"{why}: this is the greedy solver's answer")
