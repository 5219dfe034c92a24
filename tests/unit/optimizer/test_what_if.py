from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.system import System
from controlloop.errors import InputError
from controlloop.optimizer.what_if import changed, scaled, with_allocations


@pytest.fixture
def base(lab: Any) -> System:
    system: System = lab.system(
        [lab.accelerator("a", 4.0, kind="A"), lab.accelerator("2xa", 8.0, kind="A", cards=2)],
        [lab.perf("m", "a", 2.0), lab.perf("m", "2xa", 5.0)],
        [
            lab.server("llama-3.1=8b", 2.0, runs=("a", 3), cost=12.0),
            lab.server("other", 1.0, runs=("2xa", 1), cost=8.0),
        ],
        capacity={"A": 10},
    )
    return system


def rates(system: System) -> list[float]:
    return [server.current.load.rate_rps for server in system.servers]


@pytest.mark.parametrize(
    ("change", "cards"),
    [("=4", 4), ("=+8", 18), ("=-8", 2), ("=x1.5", 15), ("=x0", 0), ("=1e2", 100)],
)
def test_capacity_is_set_or_changed(base: System, change: str, cards: int) -> None:
    assert changed(base, [f"capacity.A{change}"]).capacity == {"A": cards}


def test_loads_are_in_requests_a_minute_and_names_may_hold_dots_and_equal_signs(
    base: System,
) -> None:
    assert rates(changed(base, ["load.llama-3.1=8b=240"])) == [4.0, 1.0]
    assert rates(changed(base, ["load.other=+30", "load.other=x2"])) == [2.0, 3.0]


def test_a_new_price_counts_for_what_runs_now_too(base: System) -> None:
    dear = changed(base, ["cost.a=x2"])
    assert [each.cost_per_hour for each in dear.accelerators] == [8.0, 8.0]
    assert [each.current.cost_per_hour for each in dear.servers] == [24.0, 8.0]


def test_a_type_that_has_no_cards_yet_counts_from_nothing(base: System) -> None:
    none = replace(base, capacity={})
    assert changed(none, ["capacity.A=+3"]).capacity == {"A": 3}


@given(st.floats(0, 1e3))
def test_scaling_multiplies_every_rate_and_nothing_else(lab: Any, factor: float) -> None:
    system = lab.system(
        [lab.accelerator("a")], [lab.perf("m", "a")], [lab.server("s", 3.0), lab.server("t", 0.0)]
    )
    assert rates(scaled(system, factor)) == [3.0 * factor, 0.0]
    assert scaled(system, 1.0) == system


def test_changes_come_one_after_the_other_and_leave_the_system_as_it_was(base: System) -> None:
    before = replace(base)
    after = changed(base, ["capacity.A=+1", "capacity.A=x2", "cost.2xa=1"])
    assert after.capacity == {"A": 22}
    assert base == before
    assert changed(base, []) == base


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("capacity.B=+8", 'there is no card type "B"'),
        ("load.othr=2", 'there is no server "othr"; did you mean other?'),
        ("cost.3xa=2", 'there is no accelerator "3xa"; did you mean 2xa?'),
        ("capacity.A=-11", "must be from 0 to 1e+09 cards, would be -1"),
        ("capacity.A=x0.25", "must be a whole number of cards, would be 2.5"),
        ("capacity.A=1e99", "must be from 0 to 1e+09 cards"),
        ("load.other=-61", "must be from 0 to 1e+12 req/min, would be -1"),
        ("cost.a=-5", "must be from 0 to 1e+12 cents/h, would be -1"),
        ("capacity.A", "must be capacity.TYPE, cost.ACCELERATOR or load.SERVER"),
        ("capacity.A=", "must be capacity.TYPE"),
        ("capacity.A=many", "must be capacity.TYPE"),
        ("capacity.A=nan", "must be capacity.TYPE"),
        ("capacity.A=--1", "must be capacity.TYPE"),
        ("price.a=3", "must be capacity.TYPE"),
        ("", "must be capacity.TYPE"),
    ],
)
def test_a_change_that_cannot_be_made_is_named_with_the_reason(
    base: System, change: str, error: str
) -> None:
    with pytest.raises(InputError, match=re.escape(f"what-if {change}: {error}")):
        changed(base, [change])


def test_all_problems_are_told_at_once(base: System) -> None:
    with pytest.raises(InputError) as caught:
        changed(base, ["capacity.B=1", "capacity.A=+1", "load.x=1"])
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf, 1e12])
def test_a_scale_that_is_none_is_refused(base: System, factor: float) -> None:
    with pytest.raises(InputError, match="scale: "):
        scaled(base, factor)


def test_what_was_allocated_runs_and_who_got_nothing_keeps_what_it_has(
    lab: Any, base: System
) -> None:
    tight = replace(base, capacity={"A": 1}, servers=(*base.servers[:1], lab.server("x", 9.0)))
    solution = lab.solve(tight)
    assert set(solution.allocations) == {"llama-3.1=8b"}
    after = with_allocations(tight, solution)
    assert after.servers[0].current == solution.allocations["llama-3.1=8b"]
    assert after.servers[1] == tight.servers[1]
    # What runs then is what is best then: nothing changes any more.
    assert lab.solve(after).objective == 0.0
