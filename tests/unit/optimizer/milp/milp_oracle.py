"""The best solution of a small system by looking at all of them, written apart from the solver.

Everything is worked out anew from the system: sized rates of the laboratory's queue model, mixes,
values, and a table over all ways to use up the cards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import TypeAlias

from controlloop.api.solution import Solution
from controlloop.api.system import Server, System

# Accelerator -> replicas; what it uses of each type; value.
Way: TypeAlias = tuple[dict[str, int], dict[str, int], float]
# Served servers by priority, highest first, then the total value.
Rank: TypeAlias = tuple[tuple[int, ...], float]


def best(system: System, *, several: bool) -> Rank:
    """What the best solution reaches; `several` accelerators a server or one."""
    levels = priorities(system)
    types = sorted(system.capacity)
    # Cards used -> (fewest unserved by priority, value), less is better.
    table: dict[tuple[int, ...], tuple[tuple[int, ...], float]] = {
        (0,) * len(types): ((0,) * len(levels), 0.0)
    }
    for server in system.servers:
        level = levels.index(priority_of(system, server))
        found = list(ways(system, server, several=several))
        after: dict[tuple[int, ...], tuple[tuple[int, ...], float]] = {}
        for used, (unserved, value) in table.items():
            missed = (*unserved[:level], unserved[level] + 1, *unserved[level + 1 :])
            _keep(after, used, (missed, value))
            for _, cards, more in found:
                now = tuple(u + cards.get(t, 0) for u, t in zip(used, types, strict=True))
                if all(n <= system.capacity[t] for n, t in zip(now, types, strict=True)):
                    _keep(after, now, (unserved, value + more))
        table = after
    unserved, value = min(table.values())
    members = [sum(priority_of(system, s) == level for s in system.servers) for level in levels]
    return tuple(m - u for m, u in zip(members, unserved, strict=True)), value


def reached(system: System, solution: Solution) -> Rank:
    """The same of a solution, after checking that it keeps every rule."""
    short = {each.server for each in solution.unserved}
    levels = priorities(system)
    served = dict.fromkeys(levels, 0)
    used = dict.fromkeys(system.capacity, 0)
    total = 0.0
    for server in system.servers:
        allocation = solution.allocations.get(server.name)
        if allocation is None or server.name in short:
            assert allocation is None, "best effort is not expected here"
            assert server.name in short
            continue
        parts = allocation.variants or (allocation,)
        mix = {part.accelerator: part.replicas for part in parts if part.replicas}
        rates = {name: rate for name, (rate, _, _, _) in options(system, server).items()}
        assert sum(rates[a] * r for a, r in mix.items()) >= demand(system, server) - 1e-9
        assert sum(mix.values()) >= server.min_replicas
        cards, value = _cards_and_value(system, server, mix)
        for kind, count in cards.items():
            used[kind] += count
        served[priority_of(system, server)] += 1
        total += value
    assert all(used[kind] <= system.capacity[kind] for kind in used)
    return tuple(served[level] for level in levels), total


def priorities(system: System) -> list[int]:
    return sorted({priority_of(system, server) for server in system.servers})


def priority_of(system: System, server: Server) -> int:
    return next(each.priority for each in system.classes if each.name == server.service_class)


def demand(system: System, server: Server) -> float:
    load = server.current.load
    if load.is_empty:
        return 0.0
    service = next(each for each in system.classes if each.name == server.service_class)
    target = service.target(server.model)
    assert target is not None
    return target.tps / load.output_tokens if target.tps > 0 else load.rate_rps


def options(system: System, server: Server) -> dict[str, tuple[float, int, str, float]]:
    """Rate, cards, type and cost of one replica by accelerator."""
    service = next(each for each in system.classes if each.name == server.service_class)
    target = service.target(server.model)
    assert target is not None
    found = {}
    for accelerator in system.accelerators:
        if server.keep_accelerator and server.current.accelerator not in {"", accelerator.name}:
            continue
        for perf in system.perf:
            if (perf.model, perf.accelerator) != (server.model, accelerator.name):
                continue
            rate, latency = perf.parameters
            # Without load no target counts.
            if latency > target.itl_ms > 0 and not server.current.load.is_empty:
                continue
            if target.tps > 0 and not server.current.load.is_empty:
                rate *= 0.9
            units = perf.accelerators_per_replica
            found[accelerator.name] = (
                rate,
                units * accelerator.multiplicity,
                accelerator.type,
                units * accelerator.cost_per_hour,
            )
    return found


def ways(system: System, server: Server, *, several: bool) -> Iterator[Way]:
    """Every way to serve a server whole."""
    wanted, choices = demand(system, server), options(system, server)
    if wanted == 0 and server.min_replicas == 0:
        if choices:
            yield {}, {}, _cards_and_value(system, server, {})[1]
        return
    alone = {
        name: max(math.ceil(wanted / rate - 1e-9), server.min_replicas)
        for name, (rate, _, _, _) in choices.items()
    }
    if several:
        mixes = (
            {name: count for name, count in zip(alone, counts, strict=True) if count}
            for counts in product(*(range(most + 1) for most in alone.values()))
        )
    else:
        mixes = ({name: count} for name, count in alone.items())
    for mix in mixes:
        rate = sum(choices[name][0] * count for name, count in mix.items())
        if rate >= wanted - 1e-9 and sum(mix.values()) >= server.min_replicas:
            yield mix, *_cards_and_value(system, server, mix)


def _cards_and_value(
    system: System, server: Server, mix: dict[str, int]
) -> tuple[dict[str, int], float]:
    """Cards by type, and the sum of the transition penalties, accelerator by accelerator."""
    choices = options(system, server)
    current = server.current
    now = {
        part.accelerator: (part.replicas, part.cost_per_hour)
        for part in (current.variants or (current,))
    }
    cards: dict[str, int] = {}
    value = 0.0
    for name in {*mix, *now}:
        replicas = mix.get(name, 0)
        if replicas:
            _, each, kind, cost = choices[name]
            cards[kind] = cards.get(kind, 0) + each * replicas
            after = cost * replicas
        else:
            after = 0.0
        before_replicas, before = now.get(name, (0, 0.0))
        if name in now and (replicas, name) == (before_replicas, name):
            continue
        same = name in now and (replicas > 0 or name == "")
        value += (0.0 if same else 0.1 * (before + after)) + (after - before)
    return cards, value


def _keep(
    table: dict[tuple[int, ...], tuple[tuple[int, ...], float]],
    used: tuple[int, ...],
    rank: tuple[tuple[int, ...], float],
) -> None:
    if used not in table or rank < table[used]:
        table[used] = rank
