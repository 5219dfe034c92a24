"""Work grows with the number of servers, not with its square: counted, not timed.

Accelerators, classes and performance data are the same at every size, so what they cost is left
out: growth is that of what further servers take.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from types import FrameType
from typing import Any

import numpy as np
import pytest
from cases import system_of
from measuring import growth_exponent

from controlloop.api.system import System
from controlloop.optimizer import optimize
from controlloop.queueing.walk import Walker

pytestmark = pytest.mark.slow

SIZES = [400, 800, 1600, 3200]
# As many servers as there are models: a system of fewer has less performance data, too.
FEWEST = 40
MOST_GROWTH = 1.15

Work = Callable[[], object]
Measure = Callable[[Work], int]


def lines_of(work: Work) -> int:
    """How many lines of Python `work` runs, each as often as it is run."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += 1
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def bytes_of(work: Work) -> int:
    """How much memory `work` holds at most, arrays included."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def states_of(work: Work) -> int:
    """How many states of queueing models `work` walks."""
    count = 0
    walk = Walker.__call__

    def counted(self: Walker, states: Any, *others: Any) -> Any:
        nonlocal count
        count += int(states.lengths.sum())
        return walk(self, states, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Walker, "__call__", counted)
        work()
    return count


def growth_of(work_on: Callable[[int], Work], measure: Measure) -> float:
    """The growth exponent of what each step from size to size adds."""
    costs = [float(measure(work_on(size))) for size in SIZES]
    return growth_exponent(SIZES[1:], np.diff(costs).tolist())


@cache
def system_for_greedy(size: int) -> System:
    return system_of(size, "greedy")


def solving(solver: str, size: int) -> Work:
    system = system_for_greedy(size)
    return partial(optimize, replace(system, options=replace(system.options, solver=solver)))


@pytest.fixture(autouse=True, scope="module")
def all_is_loaded() -> None:
    optimize(system_of(FEWEST, "milp"))
    optimize(system_for_greedy(SIZES[1]))


@pytest.mark.parametrize(
    ("solver", "measure"),
    [
        ("unlimited", lines_of),
        ("greedy", lines_of),
        ("greedy", bytes_of),
        ("greedy", states_of),
    ],
)
def test_work_grows_no_faster_than_the_servers(solver: str, measure: Measure) -> None:
    assert growth_of(lambda size: solving(solver, size), measure) <= MOST_GROWTH


@pytest.mark.parametrize(
    ("measure", "of_each_pair"),
    [
        (lines_of, lambda names: [one for one in names for other in names if one is other]),
        (bytes_of, lambda names: np.zeros((len(names), len(names)))),
    ],
)
def test_work_on_each_pair_of_servers_would_show(
    measure: Measure, of_each_pair: Callable[[list[str]], object]
) -> None:
    def work_on(size: int) -> Work:
        system = system_for_greedy(size)
        names = [each.name for each in system.servers]
        return lambda: (optimize(system), of_each_pair(names))

    assert growth_of(work_on, measure) > MOST_GROWTH


def test_lines_of_the_exact_solver_grow_no_faster_than_the_servers() -> None:
    # One system may be hard by chance: the least of four counts. Lines that build programs are
    # among them, so that programs which outgrow the system show.
    def least(works: tuple[Work, ...]) -> int:
        return min(lines_of(each) for each in works)

    def works_on(size: int) -> tuple[Work, ...]:
        systems = (system_of(size, "milp", seed) for seed in (2, 3, 4, 5))
        limited = (
            replace(each, options=replace(each.options, time_limit_s=600.0, gap=0.001))
            for each in systems
        )
        return tuple(partial(optimize, each) for each in limited)

    fixed, *costs = (float(least(works_on(size))) for size in (FEWEST, *SIZES[:3]))
    assert growth_exponent(SIZES[:3], [cost - fixed for cost in costs]) <= MOST_GROWTH
