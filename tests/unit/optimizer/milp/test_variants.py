"""Servers on several accelerators: what each part is predicted to do, and what runs now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlloop.api.convert import spec_from_solution
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import Allocation, System, Variant
from controlloop.optimizer.milp import MilpSolver


def solved(lab: Any, system: System) -> Solution:
    return MilpSolver().solve(lab.candidates(system), system.capacity, system.options)


def shared(lab: Any, **server: Any) -> System:
    """A rate of 7: two large replicas of 3 and one small of 1 are exactly enough."""
    return lab.system(  # type: ignore[no-any-return]
        [lab.accelerator("small", 4.0), lab.accelerator("large", 10.0)],
        [
            lab.perf("m", "small", 1.0, 20.0, max_batch=4),
            lab.perf("m", "large", 3.0, 10.0, max_batch=16),
        ],
        [lab.server("s", 7.0, **server)],
        heterogeneous=True,
        solver="milp",
    )


def test_each_part_is_predicted_for_its_share_of_the_load(lab: Any) -> None:
    solution = solved(lab, shared(lab))
    found = solution.allocations["s"]
    # Full replicas: TTFT is 100 ms above the latency in this queue model.
    assert found.variants == (
        Variant("large", 2, 16, 20.0, 10.0, 110.0, 6 / 7),
        Variant("small", 1, 4, 4.0, 20.0, 120.0, 1 / 7),
    )
    first = found.variants[0]
    assert (found.accelerator, found.replicas, found.cost_per_hour) == ("large", 2, 20.0)
    assert (found.max_batch, found.itl_ms, found.ttft_ms) == (16, first.itl_ms, first.ttft_ms)
    assert (found.total_replicas, found.total_cost_per_hour) == (3, 24.0)
    assert found.load.rate_rps == 7.0
    assert solution.objective == pytest.approx(1.1 * 24)
    assert solution.status is SolveStatus.OPTIMAL
    assert solution.unserved == ()


def test_on_one_accelerator_it_would_cost_more(lab: Any) -> None:
    system = shared(lab)
    alone = solved(lab, replace(system, options=replace(system.options, heterogeneous=False)))
    assert alone.allocations["s"].cost_per_hour == 28.0
    assert alone.allocations["s"].variants == ()
    assert "variants" not in spec_from_solution(alone).document()["allocations"]["s"]


def test_part_of_the_load_takes_part_of_the_latency(lab: Any) -> None:
    # 6.3 of the 7 that fit: every replica is used to nine tenths.
    system = shared(lab)
    server = replace(
        system.servers[0],
        current=Allocation(load=replace(system.servers[0].current.load, rate_rps=6.3)),
    )
    found = solved(lab, replace(system, servers=(server,))).allocations["s"]
    assert [each.ttft_ms for each in found.variants] == pytest.approx([100.0, 110.0])
    assert sum(each.share for each in found.variants) == pytest.approx(1.0)


def test_the_fewest_replicas_count_over_all_parts(lab: Any) -> None:
    found = solved(lab, shared(lab, min_replicas=5)).allocations["s"]
    # Of five replicas and a rate of 7, four small ones and a large one cost least.
    parts = {each.accelerator: each.replicas for each in found.variants}
    assert parts == {"small": 4, "large": 1}


def test_a_server_that_keeps_its_accelerator_has_no_variants(lab: Any) -> None:
    system = shared(lab, runs=("small", 2), cost=8.0, keep_accelerator=True)
    found = solved(lab, system).allocations["s"]
    assert (found.accelerator, found.replicas, found.variants) == ("small", 7, ())


def test_a_mix_that_runs_already_costs_no_transition(lab: Any) -> None:
    system = shared(lab)
    first = solved(lab, system).allocations["s"]
    running = replace(system.servers[0], current=first)
    again = solved(lab, replace(system, servers=(running,)))
    assert again.allocations["s"] == first
    assert again.objective == pytest.approx(0.0)
    # One large replica more: 1 is left to be added, at the unit cost of what runs there.
    more = replace(first, load=replace(first.load, rate_rps=10.0))
    grown = solved(lab, replace(system, servers=(replace(running, current=more),)))
    parts = {each.accelerator: each.replicas for each in grown.allocations["s"].variants}
    assert parts == {"large": 3, "small": 1}
    assert grown.objective == pytest.approx(10.0)


def test_giving_up_one_accelerator_of_several_saves_it_less_the_switch(lab: Any) -> None:
    system = shared(lab)
    first = solved(lab, system).allocations["s"]
    less = replace(first, load=replace(first.load, rate_rps=6.0))
    server = replace(system.servers[0], current=less)
    found = solved(lab, replace(system, servers=(server,)))
    assert found.allocations["s"].variants == ()
    assert (found.allocations["s"].accelerator, found.allocations["s"].replicas) == ("large", 2)
    assert found.objective == pytest.approx(0.1 * 4 - 4)


def test_a_mix_fits_where_no_accelerator_alone_would(lab: Any) -> None:
    system = replace(shared(lab), capacity={"small": 2, "large": 2})
    found = solved(lab, system)
    parts = {each.accelerator: each.replicas for each in found.allocations["s"].variants}
    assert parts == {"large": 2, "small": 1}
    assert found.status is SolveStatus.OPTIMAL


def test_power_of_the_parts_adds_up(lab: Any) -> None:
    system = shared(lab)
    powered = tuple(
        replace(
            each,
            power=replace(each.power, idle_w=100.0, full_w=100.0, mid_w=100.0, mid_utilization=0.5),
        )
        for each in system.accelerators
    )
    assert solved(lab, replace(system, accelerators=powered)).power_w == {"s": pytest.approx(300.0)}
