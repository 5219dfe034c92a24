"""The optimizer of the control loop: a solver within bounds, which evicts nobody."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from controlloop.api.candidates import Candidates
from controlloop.api.cards import CardCounter
from controlloop.api.decision import Problem, ServerConstraint
from controlloop.api.explanation import Explanation
from controlloop.api.solution import Solution
from controlloop.api.system import Allocation, OptimizerOptions, System
from controlloop.clock import Clock, SystemClock
from controlloop.optimizer.asked import answer_of
from controlloop.optimizer.candidates import build_candidates
from controlloop.optimizer.explain import Solved, explain_servers
from controlloop.optimizer.fleet import DemandRule
from controlloop.optimizer.incumbents import Incumbents
from controlloop.optimizer.solvers import solvers
from controlloop.optimizer.supply import ModelSource
from controlloop.optimizer.unlimited import UnlimitedSolver
from controlloop.plugins import Registry
from controlloop.protocols import Solver
from controlloop.queueing.models import queue_models
from controlloop.queueing.remembering import remembering


class Planner:
    """Solves a bounded problem and leaves running servers what they have.

    Servers that keep their allocation, and those that nothing can serve, have their cards set
    aside first. What runs counts as its owner's until it is gone: less capacity stops growth
    and evicts nobody. A server that does not get what it needs keeps what it has, unless one of
    higher priority that nothing else serves grows into its cards; replicas below the constraint's
    minimum are never taken. Where the solver's own answer takes nothing away it stands as it is.

    Args:
        model_of: gives the queue model of a name; None is the table of `controlloop.queueing`.
        registry: the solvers that options may name; None is this package's table.
        clock: measures the time it takes; None is the machine's.
        solver: name of the solver, whatever the system's options say; "" lets them choose.
        time_limit_s: time limit of exact solvers where the options give none, s.
        gap: gap that is good enough where the options give none, relative.
        confidence: as of the options, where those give none.
        siblings: whether others make a server run on several accelerators, which `mixes` finds.

    """

    def __init__(
        self,
        model_of: ModelSource | None = None,
        registry: Registry[Solver] | None = None,
        clock: Clock | None = None,
        solver: str = "",
        time_limit_s: float | None = None,
        gap: float | None = None,
        confidence: float = 0.0,
        *,
        siblings: bool = False,
    ) -> None:
        self._siblings = siblings
        self._solver = solver
        self._time_limit_s, self._gap = time_limit_s, gap
        self._confidence = confidence
        self._model_of = model_of or remembering(queue_models().create)
        self._solvers = registry or solvers()
        self._clock = clock or SystemClock()

    def solve(self, problem: Problem) -> Solution:
        """The allocations; what could not be served is named with its reason."""
        started = self._clock.monotonic()
        system, bounds = self._careful(problem.system), problem.constraints
        # A Deployment runs on one accelerator: a part of a mix alone would be too few replicas.
        options = self._options(system, heterogeneous=False)
        solver = self._solvers.create(options.solver_name)
        kept = _kept(system, bounds)
        candidates = self._candidates(system, bounds, kept)
        if solver.name == UnlimitedSolver.name:
            solution = answer_of(solver, candidates, system.capacity, options)
        else:
            incumbents = Incumbents.of(system, bounds, candidates)
            solution = incumbents.solve(solver, options)
        return replace(
            solution,
            allocations={**solution.allocations, **kept},
            message=self._message(solution, system.options),
            seconds=self._clock.monotonic() - started,
        )

    def mixes(self, problem: Problem) -> Solution:
        """What would be best if a server could run on several accelerators at once.

        It is only to be looked at: what runs is a candidate like any other, and a server of lower
        priority may get less than it has.
        """
        system, bounds = self._careful(problem.system), problem.constraints
        options = self._options(system, heterogeneous=True)
        kept = _kept(system, bounds)
        taken = CardCounter(system).used(kept)
        capacity = {kind: max(cards - taken[kind], 0) for kind, cards in system.capacity.items()}
        candidates = self._candidates(system, bounds, kept)
        solver = self._solvers.create(options.solver_name)
        return answer_of(solver, candidates, capacity, options)

    def _options(self, system: System, *, heterogeneous: bool) -> OptimizerOptions:
        return replace(
            system.options.limited_by(self._time_limit_s, self._gap),
            heterogeneous=heterogeneous,
            solver=self._solver or system.options.solver,
        )

    def _candidates(
        self,
        system: System,
        bounds: Mapping[str, ServerConstraint],
        kept: Mapping[str, Allocation],
    ) -> Candidates:
        free = tuple(each for each in system.servers if each.name not in kept)
        return build_candidates(
            replace(system, servers=free),
            self._model_of,
            rule=DemandRule.LOOP,
            constraints=bounds,
        )

    def explain(
        self,
        problem: Problem,
        solution: Solution,
        servers: Collection[str],
        *,
        shadow_prices: bool = False,
    ) -> Mapping[str, Explanation]:
        """Why each of `servers` got what it got in `solution`, which `solve` gave for `problem`.

        Servers that their constraint keeps as they are were not optimized: they are absent.

        Args:
            problem: what was solved.
            solution: its solution.
            servers: names; the work grows with them.
            shadow_prices: whether to solve again with one more card of each type.

        """
        solved = Solved(
            self._careful(problem.system),
            solution,
            self._model_of,
            DemandRule.LOOP,
            problem.constraints,
        )

        def resolve(capacity: Mapping[str, int]) -> Solution:
            return self.solve(replace(problem, system=replace(problem.system, capacity=capacity)))

        return explain_servers(solved, servers, resolve if shadow_prices else None)

    def _message(self, solution: Solution, options: OptimizerOptions) -> str:
        if not options.heterogeneous or self._siblings:
            return solution.message
        note = (
            "each server runs on one accelerator: the loop cannot make heterogeneous answers real"
            " without actuator.siblings"
        )
        return "; ".join(each for each in (solution.message, note) if each)

    def _careful(self, system: System) -> System:
        """`system` with the confidence that it is planned with."""
        confidence = system.options.confidence or self._confidence
        return replace(system, options=replace(system.options, confidence=confidence))


def _kept(system: System, bounds: Mapping[str, ServerConstraint]) -> Mapping[str, Allocation]:
    """What the servers run that keep it in any case."""
    keeping = {name for name, each in bounds.items() if each.keep}
    return {each.name: each.current for each in system.servers if each.name in keeping}
