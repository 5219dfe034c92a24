from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.replicas import IntArray
from controlloop.backtest.foresight import cheapest_plan, needs


def best_by_trying_all(need: IntArray, changes: int) -> int:
    periods = len(need)
    costs = []
    for count in range(min(changes, periods - 1) + 1):
        for cuts in combinations(range(1, periods), count):
            edges = (0, *cuts, periods)
            stretches = pairwise(edges)
            costs.append(sum(int(need[a:b].max()) * (b - a) for a, b in stretches))
    return min(costs)


@given(
    need=st.lists(st.integers(1, 6), min_size=1, max_size=9).map(np.array),
    changes=st.integers(0, 5),
)
def test_the_plan_is_the_cheapest_of_all_with_so_many_changes(need: IntArray, changes: int) -> None:
    plan = cheapest_plan(need, changes)

    assert np.all(plan >= need)
    assert np.count_nonzero(np.diff(plan)) <= changes
    assert int(plan.sum()) == best_by_trying_all(need, changes)


def test_without_changes_the_plan_is_the_peak() -> None:
    assert cheapest_plan(np.array([1, 5, 2]), 0).tolist() == [5, 5, 5]


def test_replicas_are_asked_for_before_they_are_needed() -> None:
    rates = np.array([1.0, 1.0, 1.0, 9.0, 1.0, 1.0])

    assert needs(rates, 2.0, 0).tolist() == [1, 1, 1, 5, 1, 1]
    assert needs(rates, 2.0, 2).tolist() == [1, 5, 5, 5, 1, 1]
