"""Against all solutions there are: who is served by priority, and the total value."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from milp_oracle import best, reached
from milp_systems import small_system

from controlloop.api.solution import SolveStatus
from controlloop.optimizer.greedy import GreedySolver
from controlloop.optimizer.milp import MilpSolver

SYSTEMS = 500
PARTS = 5


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True], ids=["homogeneous", "heterogeneous"])
@pytest.mark.parametrize("part", range(PARTS))
def test_no_solution_is_better(lab: Any, part: int, several: bool) -> None:
    found: Counter[str] = Counter()
    systems = set()

    @seed(part)
    @settings(max_examples=SYSTEMS // PARTS, suppress_health_check=list(HealthCheck))
    # With its own chance Hypothesis draws the same simple systems again and again.
    @given(st.randoms(use_true_random=True))
    def nothing_is_better(chance: random.Random) -> None:
        system = small_system(
            lab, chance, servers=5 if several else 7, solver="milp", heterogeneous=several
        )
        candidates = lab.candidates(system)
        solution = MilpSolver().solve(candidates, system.capacity, system.options)
        counts, value = best(system, several=several)
        mine, my_value = reached(system, solution)
        assert mine == counts
        assert my_value == pytest.approx(value, abs=1e-6)
        assert solution.objective == pytest.approx(value, abs=1e-6)
        assert solution.status is SolveStatus.OPTIMAL
        assert (solution.bound, solution.gap) == (solution.objective, 0.0)
        greedy = GreedySolver().solve(candidates, system.capacity, system.options)
        found["mixed"] += any(each.variants for each in solution.allocations.values())
        found["short"] += len(solution.unserved) > len(candidates.unserved)
        found["better"] += solution.allocations != greedy.allocations
        systems.add(repr(system))

    nothing_is_better()
    # The systems are such that there was something to find.
    assert len(systems) == SYSTEMS // PARTS
    assert found["short"] > 20, found
    assert found["better"] > 10, found
    assert (found["mixed"] > 10) == several, found
