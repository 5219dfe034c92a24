"""What the solver is asked of servers on several accelerators, and what of its answer is meant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from controlloop.api.cards import CardCounter
from controlloop.api.decision import Problem, Situation
from controlloop.api.solution import Solution
from controlloop.api.system import Allocation, Variant
from controlloop.stability.choosing import Spot
from controlloop.stability.mixes import Prices, Standing, running


def whole_problem(
    situation: Situation,
    problem: Problem,
    free: Mapping[str, Standing],
    choices: Mapping[str, Mapping[str, tuple[int, ...]]],
) -> Problem:
    """The problem with the whole loads of those that may choose, and what their siblings run on."""
    given = {each.name: each for each in situation.system.servers}
    counter, prices = CardCounter(situation.system), Prices(situation.system)
    capacity, constraints = dict(problem.system.capacity), dict(problem.constraints)
    for name, some in choices.items():
        beside = sum(running(free[name]).values())
        bounds = constraints[name]
        most = None if bounds.max_replicas is None else bounds.max_replicas + beside
        constraints[name] = replace(
            bounds, accelerator=None, max_batch=None, choices=some, max_replicas=most
        )
        for each in free[name].seen.siblings:
            one = counter.of_replica(each.model, each.accelerator)
            if one is not None:
                cards = capacity.get(one.card_type, 0) + one.count * each.replicas
                capacity[one.card_type] = cards
    servers = tuple(
        replace(
            given[each.name],
            current=_with_variants(given[each.name].current, free[each.name], prices),
        )
        if each.name in choices
        else each
        for each in problem.system.servers
    )
    system = replace(problem.system, servers=servers, capacity=capacity)
    return replace(problem, system=system, constraints=constraints)


def siblings_in(solution: Solution, name: str, standing: Standing) -> Mapping[Spot, int] | None:
    """What of an answer would run beside the server's own accelerator; None: nothing to do here.

    A server without siblings whose answer is one other accelerator moves there as a whole.
    """
    found, workload = solution.allocations.get(name), standing.seen.workload
    if found is None or not (found.variants or standing.seen.siblings):
        return None
    parts = found.variants or (found,)
    return {
        Spot(each.accelerator, each.max_batch): each.replicas
        for each in parts
        if each.replicas and each.accelerator != workload.accelerator
    }


def _with_variants(current: Allocation, standing: Standing, prices: Prices) -> Allocation:
    """What runs, in the words of the data; what the data does not know is left out, as no cost."""
    siblings = standing.seen.siblings
    if not siblings:
        return current
    variants = tuple(
        Variant(each.accelerator, each.replicas, each.max_batch, each.replicas * price)
        for each in (standing.seen.workload, *siblings)
        if math.isfinite(price := prices.of(each.model, each.accelerator))
    )
    return replace(current, variants=variants)
