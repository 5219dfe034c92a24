from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.backtest.tuning import Cost, Point, chosen, cost_at, frontier

POINTS = (
    Point(1.0, 0.90, 10.0),
    Point(0.8, 0.97, 14.0),
    Point(0.6, 0.995, 20.0),
    Point(0.4, 0.99, 30.0),
)


def test_the_cheapest_that_reaches_the_goal_is_chosen() -> None:
    assert chosen(POINTS, 0.99).knob == 0.6
    assert chosen(POINTS, 0.95).knob == 0.8


def test_where_none_reaches_it_the_nearest_is_chosen() -> None:
    assert chosen(POINTS, 0.999).knob == 0.6


def test_the_frontier_leaves_out_what_costs_more_for_less() -> None:
    assert [one.knob for one in frontier(POINTS)] == [1.0, 0.8, 0.6]


def test_cost_at_equal_attainment_lies_between_two_points() -> None:
    between = cost_at(POINTS, 0.935)
    assert between is not None
    assert between.value == pytest.approx(12.0)
    assert not between.is_bound
    assert cost_at(POINTS, 0.97) == Cost(14.0)
    assert cost_at(POINTS, 0.9) == Cost(10.0)
    # What a knob cheaper than all would attain is not known.
    assert cost_at(POINTS, 0.5) == Cost(10.0, is_bound=True)
    assert cost_at(POINTS, 0.999) is None
    assert cost_at((), 0.5) is None


@given(
    st.lists(
        st.builds(Point, st.just(1.0), st.floats(0, 1), st.floats(1, 100)), min_size=1, max_size=8
    ),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_more_attainment_never_costs_less(points: list[Point], one: float, other: float) -> None:
    low, high = (cost_at(points, each) for each in sorted((one, other)))
    assert high is None or (low is not None and low.value <= high.value + 1e-9)
