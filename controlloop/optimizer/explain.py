"""Why servers got what they got; what else there was; what more cards would change."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from controlloop.api.decision import ServerConstraint
from controlloop.api.explanation import Candidate, Explanation, Limit, Option, ShadowPrice, Standing
from controlloop.api.solution import Solution, Unserved, UnservedReason
from controlloop.api.system import NO_ACCELERATOR, Allocation, Server, System, Target
from controlloop.errors import InputError, Problem
from controlloop.optimizer.asked import answer_of
from controlloop.optimizer.bindings import bindings, without_room
from controlloop.optimizer.candidates import NO_CONSTRAINTS, build_candidates
from controlloop.optimizer.fleet import DemandRule
from controlloop.optimizer.shadow import Resolve, changes_by_card
from controlloop.optimizer.solvers import solvers
from controlloop.optimizer.solving import check_numbers
from controlloop.optimizer.supply import ModelSource
from controlloop.optimizer.unlimited import UnlimitedSolver
from controlloop.optimizer.usage import Usage
from controlloop.optimizer.views import View
from controlloop.queueing.models import queue_models
from controlloop.units import rpm_from_rps

_NO_BOUNDS = ServerConstraint()


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """A solved system about which is asked.

    `keeps` is whether a server without an allocation keeps the cards it runs on, as it does in
    the loop. `constraints` are those that it was solved under.
    """

    system: System
    solution: Solution
    model_of: ModelSource
    rule: DemandRule = DemandRule.DOCUMENTED
    constraints: Mapping[str, ServerConstraint] = field(default_factory=lambda: NO_CONSTRAINTS)

    @property
    def keeps(self) -> bool:
        """Whether servers keep the cards they run on until they get others."""
        return self.rule is DemandRule.LOOP

    @property
    def limited(self) -> bool:
        """Whether capacity counts."""
        return self.solution.solver != UnlimitedSolver.name


def explain(
    system: System, server: str, *, model_of: ModelSource | None = None, shadow_prices: bool = True
) -> Explanation:
    """Solve `system` and say why `server` gets what it gets.

    Args:
        system: everything there is to know; its options choose the solver.
        server: name of the server.
        model_of: gives the queue model of a name; None is the table of `controlloop.queueing`.
        shadow_prices: whether to solve again with one more card of each type.

    Raises:
        InputError: there is no such server, or a number of the system is none.
        UnknownPluginError: the options ask for a solver that nobody registered.

    """
    known = [each.name for each in system.servers]
    if server not in known:
        raise InputError([Problem("", f'there is no server "{server}"{_nearest(server, known)}')])
    check_numbers(system)
    model_of = model_of or queue_models().create
    solver = solvers().create(system.options.solver_name)
    candidates = build_candidates(system, model_of)

    def solve(capacity: Mapping[str, int]) -> Solution:
        return answer_of(solver, candidates, capacity, system.options)

    solved = Solved(system, solve(system.capacity), model_of)
    return explain_servers(solved, [server], solve if shadow_prices else None)[server]


def explain_solution(
    system: System,
    solution: Solution,
    servers: Collection[str],
    shadow_prices: bool = False,  # noqa: FBT001, FBT002 - callers hand this function on as a value
) -> dict[str, Explanation]:
    """Why `servers` got what they got in `solution`, which `optimize(system)` gave.

    Args:
        system: what was solved.
        solution: its solution.
        servers: names; those that are not in the system are left out.
        shadow_prices: whether to solve again with one more card of each type.

    """
    model_of = queue_models().create
    solved = Solved(system, solution, model_of)
    if not shadow_prices:
        return explain_servers(solved, servers)
    solver = solvers().create(system.options.solver_name)
    candidates = build_candidates(system, model_of)
    return explain_servers(
        solved, servers, lambda capacity: answer_of(solver, candidates, capacity, system.options)
    )


def explain_servers(
    solved: Solved, servers: Iterable[str], resolve: Resolve | None = None
) -> dict[str, Explanation]:
    """Why each of `servers` got what it got; names that are not in the system are left out.

    The work grows with the servers asked for, not with the system, but for one pass over its
    allocations. A server that its constraint keeps as it is was not optimized: it is left out.

    Args:
        solved: the system and its solution.
        servers: names.
        resolve: solves the same with another capacity, for shadow prices; None is without them.

    """
    asked = set(servers)
    of = {
        each.name: each
        for each in solved.system.servers
        if each.name in asked and not solved.constraints.get(each.name, _NO_BOUNDS).keep
    }
    explainer = _Explainer.of(solved, of)
    prices: Callable[[str], tuple[ShadowPrice, ...] | None] = lambda _: None  # noqa: E731
    if resolve is not None:
        prices = changes_by_card(solved.system, solved.solution, resolve)
    return {name: explainer.explain(of[name], prices(name)) for name in sorted(of)}


@dataclass(frozen=True, slots=True, eq=False)
class _Explainer:
    """What is looked up for each server: `own` as it was solved.

    `free` is without bounds on accelerator and maximum, for the servers that have such bounds.
    """

    solved: Solved
    usage: Usage
    own: View
    free: View
    targets: Mapping[tuple[str, str], Target]
    shortfalls: Mapping[str, Unserved]

    @classmethod
    def of(cls, solved: Solved, servers: Mapping[str, Server]) -> _Explainer:
        system = replace(solved.system, servers=tuple(servers.values()))
        own = build_candidates(
            system, solved.model_of, rule=solved.rule, constraints=solved.constraints
        )
        bounds = {name: solved.constraints.get(name, _NO_BOUNDS) for name in servers}
        bound = tuple(
            replace(each, keep_accelerator=False)
            for name, each in servers.items()
            if each.keep_accelerator
            or bounds[name].accelerator is not None
            or bounds[name].max_replicas is not None
        )
        free = build_candidates(
            replace(system, servers=bound),
            solved.model_of,
            rule=solved.rule,
            constraints={
                each.name: replace(bounds[each.name], accelerator=None, max_replicas=None)
                for each in bound
            },
        )
        return cls(
            solved=solved,
            usage=Usage.of(
                solved.system, solved.solution, limited=solved.limited, keeps=solved.keeps
            ),
            own=View(own),
            free=View(free),
            targets={
                (service.name, target.model): target
                for service in system.classes
                for target in service.targets
            },
            shortfalls={each.server: each for each in solved.solution.unserved},
        )

    def explain(self, server: Server, prices: tuple[ShadowPrice, ...] | None) -> Explanation:
        solution, name = self.solved.solution, server.name
        target = self.targets.get((server.service_class, server.model))
        shortfall = self.shortfalls.get(name)
        known, found = self.own.has(name), solution.allocations.get(name)
        demand_rps = self.own.demand_rps(name) if known else 0.0
        explanation = Explanation(
            server=server,
            priority=self.own.priority(name) if known else None,
            target=target,
            objective=self.solved.system.options.objective,
            solver=solution.solver,
            demand_rps=demand_rps,
            demand_from=_demand_from(server, target, demand_rps) if known else "not known",
            options=self._options(server),
            allocation=found,
            shortfall=shortfall,
            shadow_prices=prices,
            mix_value=None if found is None else self.own.mix_value(name, found),
            message=solution.message,
        )
        least = self.solved.constraints.get(name, _NO_BOUNDS).min_replicas
        bounds = bindings(explanation, max(server.min_replicas, least))
        return replace(explanation, bindings=bounds)

    def _options(self, server: Server) -> tuple[Option, ...]:
        """Every accelerator for the server, in order."""
        name, own = server.name, self.own.candidates(server.name)
        free, faults = self.free.candidates(name), self.own.faults(name)
        all_faults = {**faults, **self.free.faults(name)}
        found = self.solved.solution.allocations.get(name)
        options = []
        for accelerator in dict.fromkeys(
            (NO_ACCELERATOR, *(each.name for each in self.solved.system.accelerators))
        ):
            if accelerator in own:
                options.append(self._option(server, own[accelerator], found))
            elif accelerator in free:
                limit = Limit.MAXIMUM if accelerator in faults else Limit.KEEP
                why = faults[accelerator][1] if accelerator in faults else self._pin(server)
                standing = Standing.NOT_ALLOWED
                options.append(Option(accelerator, standing, why, free[accelerator], limit))
            elif accelerator in all_faults:
                reason = all_faults[accelerator][1]
                options.append(Option(accelerator, Standing.INFEASIBLE, reason))
        return tuple(options)

    def _option(self, server: Server, candidate: Candidate, found: Allocation | None) -> Option:
        """How a candidate stands."""
        accelerator = candidate.allocation.accelerator
        for part in found.variants if found else ():
            if part.accelerator == accelerator:
                what = (
                    "1 replica serves" if part.replicas == 1 else f"{part.replicas} replicas serve"
                )
                reason = f"{what} {part.share:.0%} of the load"
                room = self.usage.room(server.name, candidate.card_type)
                fits = room is None or candidate.cards <= room
                # Whether it could have served all of the load alone is told by the limit.
                limit = None if fits else Limit.CAPACITY
                return Option(accelerator, Standing.CHOSEN, reason, candidate, limit)
        if found is not None and found.accelerator == accelerator:
            return self._chosen(server, candidate)
        if self.own.is_short(server.name, accelerator):
            reason = f"serves less: at most {candidate.allocation.replicas} replicas are allowed"
            return Option(accelerator, Standing.NOT_ALLOWED, reason, candidate, Limit.MAXIMUM)
        room = self.usage.room(server.name, candidate.card_type)
        if room is None or candidate.cards <= room:
            return Option(accelerator, Standing.FEASIBLE, candidate=candidate)
        return without_room(self.usage, server.name, self.own.priority(server.name), candidate)

    def _chosen(self, server: Server, candidate: Candidate) -> Option:
        """The candidate that the server got; where only part of it, with what is in the way."""
        accelerator, short = candidate.allocation.accelerator, self.shortfalls.get(server.name)
        if short is None or short.reason is not UnservedReason.NO_CAPACITY:
            return Option(accelerator, Standing.CHOSEN, candidate=candidate)
        priority = self.own.priority(server.name)
        whole = without_room(self.usage, server.name, priority, candidate)
        return replace(whole, standing=Standing.CHOSEN)

    def _pin(self, server: Server) -> str:
        bound = self.solved.constraints.get(server.name, _NO_BOUNDS).accelerator
        if bound:
            return f"it is bound to {bound} in this cycle"
        return f"keepAccelerator: it stays on {server.current.accelerator}"


def _demand_from(server: Server, target: Target | None, demand_rps: float) -> str:
    load = server.current.load
    if demand_rps <= 0:
        return "no load"
    rate_rps = demand_rps - server.backlog_rps
    by_tps = target is not None and target.tps > 0 and rate_rps != load.rate_rps
    if by_tps and target is not None:
        text = f"TPS target: {target.tps:g} tokens/s of {load.output_tokens:g} each"
    else:
        text = "arrivals"
    if server.backlog_rps > 0:
        text += f", and {rpm_from_rps(server.backlog_rps):.1f} req/min to drain what waits"
    return text


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
