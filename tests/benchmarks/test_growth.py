"""Work grows with the number of servers, not with its square: counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType

import pytest
from cases import system_of
from measuring import growth_exponent

from controlloop.optimizer import optimize

SIZES = [100, 200, 400, 800]
MOST_GROWTH = 1.15


def calls_of(work: Callable[[], object]) -> int:
    """How many Python and C functions `work` calls."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("solver", ["unlimited", "greedy"])
def test_calls_grow_no_faster_than_the_servers(solver: str) -> None:
    systems = [system_of(size, solver) for size in SIZES]
    optimize(systems[0])
    counts = [calls_of(lambda system=system: optimize(system)) for system in systems]  # type: ignore[misc]
    assert growth_exponent(SIZES, [float(count) for count in counts]) <= MOST_GROWTH


@pytest.mark.slow
def test_calls_of_the_exact_solver_grow_no_faster_than_the_servers() -> None:
    # One system may be hard by chance: the lesser of two counts. Calls to build programs are
    # among them, so that programs which outgrow the system show.
    def calls(size: int, seed: int) -> float:
        system = system_of(size, "milp", seed)
        options = replace(system.options, time_limit_s=600.0, gap=0.001)
        return float(calls_of(lambda: optimize(replace(system, options=options))))

    optimize(system_of(SIZES[0], "milp"))
    counts = [min(calls(size, seed) for seed in (2, 3)) for size in SIZES[:3]]
    assert growth_exponent(SIZES[:3], counts) <= MOST_GROWTH
