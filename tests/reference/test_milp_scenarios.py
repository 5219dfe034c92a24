"""The 30 reference systems solved exactly: never worse than greedy, one accelerator or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from controlloop.api.candidates import Candidates
from controlloop.api.convert import system_from_spec
from controlloop.api.reading import read
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.specs import SystemData
from controlloop.optimizer.answer import choice_of
from controlloop.optimizer.candidates import build_candidates
from controlloop.optimizer.greedy import GreedySolver
from controlloop.optimizer.milp import MilpSolver
from controlloop.queueing.models import queue_models

SCENARIOS = 30


@pytest.mark.parametrize("several", [False, True], ids=["homogeneous", "heterogeneous"])
@pytest.mark.parametrize("number", range(SCENARIOS))
def test_milp_is_never_worse_than_greedy(
    shared_json: Callable[[str], Any], number: int, several: bool
) -> None:
    scenario = shared_json("reference/optimizer-scenarios.json")["scenarios"][number]
    system = system_from_spec(read(SystemData, scenario["input"], source=scenario["name"]))
    candidates = build_candidates(system, queue_models().create)
    greedy = GreedySolver().solve(candidates, system.capacity, system.options)
    options = replace(system.options, heterogeneous=several)
    exact = MilpSolver().solve(candidates, system.capacity, options)

    assert exact.status is SolveStatus.OPTIMAL
    assert exact.solver == "milp"
    assert set(exact.allocations) | {each.server for each in exact.unserved} >= {
        server.name for server in system.servers
    }
    used = _cards(system_units(system), exact)
    assert all(used[each] <= system.capacity.get(each, 0) for each in used)
    assert served(candidates, exact) >= served(candidates, greedy)
    alike = served(candidates, exact) == served(candidates, greedy)
    if alike and not (partial(greedy) or partial(exact)):
        assert exact.objective <= greedy.objective + 1e-6
    for name, allocation in exact.allocations.items():
        assert sum(each.share for each in allocation.variants) == pytest.approx(
            1.0 if allocation.variants else 0.0
        ), name


def partial(solution: Solution) -> bool:
    return any(each.server in solution.allocations for each in solution.unserved)


def served(candidates: Candidates, solution: Solution) -> tuple[int, ...]:
    """Servers served whole, by priority, the highest first."""
    short = {each.server for each in solution.unserved}
    whole = Counter(
        int(priority)
        for name, priority in zip(candidates.servers, candidates.priority, strict=True)
        if name in solution.allocations and name not in short
    )
    return tuple(whole[int(each)] for each in sorted(set(candidates.priority.tolist())))


def system_units(system: Any) -> Mapping[tuple[str, str], tuple[str, int]]:
    """Card type and cards of a replica, by server and accelerator."""
    accelerators = {each.name: each for each in system.accelerators}
    units = {(each.model, each.accelerator): each.accelerators_per_replica for each in system.perf}
    return {
        (server.name, name): (each.type, each.multiplicity * units.get((server.model, name), 0))
        for server in system.servers
        for name, each in accelerators.items()
    }


def _cards(units: Mapping[tuple[str, str], tuple[str, int]], solution: Solution) -> Counter[str]:
    used: Counter[str] = Counter()
    for name, allocation in solution.allocations.items():
        for part in allocation.variants or (allocation,):
            if part.accelerator:
                kind, cards = units[name, part.accelerator]
                used[kind] += cards * part.replicas
    return used


def test_choices_are_candidates(shared_json: Callable[[str], Any]) -> None:
    scenario = shared_json("reference/optimizer-scenarios.json")["scenarios"][8]
    system = system_from_spec(read(SystemData, scenario["input"], source=scenario["name"]))
    candidates = build_candidates(system, queue_models().create)
    exact = MilpSolver().solve(candidates, system.capacity, system.options)
    chosen = choice_of(candidates, exact)
    assert (chosen.row >= 0).sum() == len(exact.allocations)
