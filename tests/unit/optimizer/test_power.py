"""Predicted power, and making it least."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.convert import spec_from_solution
from controlloop.api.power import PowerCurves
from controlloop.api.system import Accelerator, Objective, Power, System
from controlloop.errors import InputError

BENT = Power(idle_w=100.0, full_w=400.0, mid_w=300.0, mid_utilization=0.5)


def at(power: Power, *utilization: float) -> list[float]:
    curves = PowerCurves.of([Accelerator("a", "A", power=power)])
    where = np.zeros(len(utilization), dtype=np.int64)
    found: list[float] = curves.at(where, np.array(utilization)).tolist()
    return found


def test_power_is_linear_to_the_bend_and_on_from_there_to_full() -> None:
    assert at(BENT, 0.0, 0.25, 0.5, 0.75, 1.0) == [100.0, 200.0, 300.0, 350.0, 400.0]


def test_without_a_bend_power_is_linear_from_idle_to_full() -> None:
    straight = Power(idle_w=100.0, full_w=400.0)
    assert at(straight, 0.0, 0.5, 1.0) == [100.0, 250.0, 400.0]


def test_a_bend_at_full_use_ends_at_its_own_power() -> None:
    assert at(replace(BENT, mid_utilization=1.0), 0.0, 0.5, 1.0) == [100.0, 200.0, 300.0]


watts = st.floats(0, 1e4).map(lambda each: round(each, 3))
shares = st.floats(0, 1).map(lambda each: round(each, 3))


@given(watts, watts, watts, shares, shares)
def test_power_lies_between_its_corners(
    idle: float, mid: float, full: float, bend: float, utilization: float
) -> None:
    if max(idle, mid, full) == 0:
        return
    (power,) = at(Power(idle, full, mid, bend), utilization)
    corners = (idle, mid, full) if bend > 0 else (idle, full)
    assert min(corners) - 1e-6 <= power <= max(corners) + 1e-6


@pytest.mark.parametrize(
    "power", [Power(), Power(mid_utilization=0.6), Power(idle_w=math.nan), Power(idle_w=-1.0)]
)
def test_power_that_is_not_told_is_not_zero(power: Power) -> None:
    assert not power.is_known
    assert all(math.isnan(each) for each in at(power, 0.0, 1.0))


@pytest.fixture
def fleet(lab: Any) -> System:
    """`hungry` is cheap and takes much power, `frugal` is dear and takes little."""
    hungry = Accelerator("hungry", "H", 2, 1.0, power=Power(200.0, 1000.0, 800.0, 0.5))
    frugal = Accelerator("frugal", "F", 1, 3.0, power=Power(20.0, 100.0, 80.0, 0.5))
    perf = [
        lab.perf("m", "hungry", rate_rps=4.0, accelerators_per_replica=3),
        lab.perf("m", "frugal", rate_rps=4.0, accelerators_per_replica=3),
    ]
    system: System = lab.system([hungry, frugal], perf, [lab.server("s", 5.0)])
    return system


def with_objective(system: System, objective: Objective, price: float = 0.0) -> System:
    options = replace(system.options, objective=objective, energy_price=price)
    return replace(system, options=options)


def test_an_allocation_draws_what_its_units_draw_at_their_utilization(
    lab: Any, fleet: System
) -> None:
    solution = lab.solve(fleet)
    allocation = solution.allocations["s"]
    assert (allocation.accelerator, allocation.replicas) == ("hungry", 2)
    # 5 requests/s on two replicas of 4: utilization 0.625; 3 units of 2 cards a replica.
    unit_w = 800.0 + 200.0 * (0.625 - 0.5) / 0.5
    assert solution.power_w == {"s": pytest.approx(2 * 3 * unit_w)}
    assert solution.total_power_w == pytest.approx(2 * 3 * unit_w)


def test_a_server_without_load_draws_idle_power_and_none_without_replicas(
    lab: Any, fleet: System
) -> None:
    idle = lab.server("idle", 0.0, min_replicas=2)
    off = lab.server("off", 0.0)
    solution = lab.solve(replace(fleet, servers=(idle, off)))
    assert solution.power_w == {"idle": 2 * 3 * 200.0, "off": 0.0}


def test_accelerators_without_power_data_are_left_out_of_the_prediction(
    lab: Any, fleet: System
) -> None:
    hungry, frugal = fleet.accelerators
    blind = replace(fleet, accelerators=(replace(hungry, power=Power()), frugal))
    solution = lab.solve(blind)
    assert solution.allocations["s"].accelerator == "hungry"
    assert solution.power_w == {}
    assert spec_from_solution(solution).power is None


def test_the_solution_carries_power_by_server_and_in_total(lab: Any, fleet: System) -> None:
    solution = lab.solve(replace(fleet, servers=(lab.server("a", 5.0), lab.server("b", 4.0))))
    document = spec_from_solution(solution).document()
    assert set(document["power"]["servers"]) == {"a", "b"}
    assert document["power"]["total"] == pytest.approx(sum(document["power"]["servers"].values()))


def test_cost_is_made_least_unless_power_is_asked_for(lab: Any, fleet: System) -> None:
    def choice(objective: Objective, price: float = 0.0) -> str:
        solution = lab.solve(with_objective(fleet, objective, price))
        accelerator: str = solution.allocations["s"].accelerator
        return accelerator

    assert choice(Objective.COST) == "hungry"
    assert choice(Objective.COST, price=1e9) == "hungry"
    assert choice(Objective.POWER) == "frugal"
    # Hungry costs 6, frugal 18 cents/h; the difference in power is 5.1 - 0.51 kW.
    assert choice(Objective.WEIGHTED, price=2.6) == "hungry"
    assert choice(Objective.WEIGHTED, price=2.7) == "frugal"


def test_values_count_watts_against_what_the_running_replicas_draw(lab: Any, fleet: System) -> None:
    runs = lab.server("s", 6.0, runs=("frugal", 3), cost=27.0)
    candidates = lab.candidates(with_objective(replace(fleet, servers=(runs,)), Objective.POWER))
    now_w = 3 * 3 * 80.0
    hungry_w, frugal_w = 2 * 3 * 900.0, 2 * 3 * 90.0
    switch = 0.1 * (now_w + hungry_w) + hungry_w - now_w
    assert candidates.value.tolist() == pytest.approx([switch, frugal_w - now_w])


def test_weighted_values_are_cents_per_hour(lab: Any, fleet: System) -> None:
    candidates = lab.candidates(with_objective(fleet, Objective.WEIGHTED, price=20.0))
    power_w = candidates.predict_power(np.array([0, 1]), candidates.replicas)
    expected = 1.1 * (candidates.cost + 20.0 * power_w / 1000)
    assert candidates.value.tolist() == pytest.approx(expected.tolist())


def test_what_cannot_be_predicted_of_the_present_does_not_change_the_choice(
    lab: Any, fleet: System
) -> None:
    runs = lab.server("s", 5.0, runs=("gone", 7), cost=99.0)
    solution = lab.solve(with_objective(replace(fleet, servers=(runs,)), Objective.POWER))
    assert solution.allocations["s"].accelerator == "frugal"


@pytest.mark.parametrize("objective", [Objective.POWER, Objective.WEIGHTED])
def test_an_accelerator_of_unknown_power_is_no_candidate_where_power_counts(
    lab: Any, fleet: System, objective: Objective
) -> None:
    hungry, frugal = fleet.accelerators
    blind = replace(fleet, accelerators=(replace(hungry, power=Power()), frugal))
    solution = lab.solve(with_objective(blind, objective))
    assert solution.allocations["s"].accelerator == "frugal"
    neither = replace(
        blind, accelerators=tuple(replace(a, power=Power()) for a in (hungry, frugal))
    )
    (unserved,) = lab.solve(with_objective(neither, objective)).unserved
    assert unserved.reason == "invalid-data"
    assert f"no power data, which the objective {objective} needs" in unserved.detail


@pytest.mark.parametrize("price", [math.nan, math.inf, -1.0])
def test_a_price_that_is_no_price_is_refused(lab: Any, fleet: System, price: float) -> None:
    with pytest.raises(InputError, match="energyPrice: must be a number >= 0"):
        lab.candidates(with_objective(fleet, Objective.WEIGHTED, price))


def test_what_runs_is_predicted_for_the_demand_of_today(lab: Any, fleet: System) -> None:
    servers = (lab.server("s", 6.0, runs=("frugal", 3)), lab.server("t", 6.0))
    itl_ms, ttft_ms, power_w = lab.candidates(replace(fleet, servers=servers)).predict_current()
    assert (itl_ms[0], ttft_ms[0], power_w[0]) == pytest.approx((10.0, 60.0, 3 * 3 * 80.0))
    assert np.isnan([itl_ms[1], ttft_ms[1], power_w[1]]).all()
