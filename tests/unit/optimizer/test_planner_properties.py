"""What the planner promises of every fleet, whatever the solver answers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from controlloop.api.candidates import Candidates
from controlloop.api.decision import Problem, ServerConstraint
from controlloop.api.solution import Solution, UnservedReason
from controlloop.api.system import (
    Allocation,
    Load,
    OptimizerOptions,
    SaturationPolicy,
    Server,
    System,
)
from controlloop.optimizer.greedy import GreedySolver
from controlloop.optimizer.planner import Planner
from controlloop.optimizer.unlimited import UnlimitedSolver
from controlloop.plugins import Registry
from controlloop.protocols import Solver

pytestmark = pytest.mark.slow

SHORT_OF_CARDS = {UnservedReason.NO_CAPACITY, UnservedReason.RECLAIMED}
# name -> type, cards of one, cost
ACCELERATORS = {"A": ("A", 1, 5.0), "2xA": ("A", 2, 9.0), "B": ("B", 1, 3.0)}
# (model, accelerator) -> rate of a replica, accelerators of a replica
PERF = {
    ("m", "A"): (1.0, 1),
    ("m", "2xA"): (2.5, 1),
    ("m", "B"): (0.5, 1),
    ("n", "A"): (2.0, 2),
    ("n", "B"): (1.0, 1),
}


class Careless:
    """Gives everybody the least value, as if cards had no end."""

    name = "careless"

    def solve(
        self, candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions
    ) -> Solution:
        return UnlimitedSolver().solve(candidates, capacity, options)


class Idle:
    """Gives nobody anything."""

    name = "idle"

    def solve(
        self, candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions
    ) -> Solution:
        return replace(UnlimitedSolver().solve(candidates, capacity, options), allocations={})


def registry() -> Registry[Solver]:
    table: Registry[Solver] = Registry("solver", Solver)
    table.add("greedy", GreedySolver)
    table.add("careless", Careless)
    table.add("idle", Idle)
    return table


@dataclass(frozen=True)
class Fleet:
    servers: tuple[Server, ...]
    bounds: Mapping[str, ServerConstraint]
    capacity: Mapping[str, int]
    options: OptimizerOptions

    def system(self, lab: Any) -> System:
        system: System = lab.system(
            [
                lab.accelerator(name, cost, kind=card_type, cards=cards)
                for name, (card_type, cards, cost) in ACCELERATORS.items()
            ],
            [
                lab.perf(model, accelerator, rate, accelerators_per_replica=units)
                for (model, accelerator), (rate, units) in PERF.items()
            ],
            self.servers,
            self.capacity,
        )
        return replace(system, options=self.options)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    servers, bounds = [], {}
    for at in range(draw(st.integers(1, 7))):
        name, model = f"s{at}", draw(st.sampled_from(["m", "m", "n", "n", "unknown"]))
        runs = draw(st.sampled_from(["A", "2xA", "B", ""]))
        replicas = draw(st.integers(0, 5)) if runs else 0
        load = Load(draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5, 6.0, 9.0])), 50.0, 100.0)
        current = Allocation(runs, replicas, 8, 5.0 * replicas, load=load)
        servers.append(Server(name, model, f"class{draw(st.integers(1, 3))}", current=current))
        least = draw(st.integers(0, 3))
        bounds[name] = ServerConstraint(
            min_replicas=least,
            max_replicas=draw(st.none() | st.integers(least, 8)),
            accelerator=draw(st.sampled_from([None, runs or None])),
            keep=draw(st.sampled_from([False, False, False, True])),
        )
    options = OptimizerOptions(
        solver=draw(st.sampled_from(["greedy", "greedy", "careless", "idle"])),
        saturation_policy=draw(st.sampled_from(SaturationPolicy)),
        delayed_best_effort=draw(st.booleans()),
    )
    capacity = {card_type: draw(st.integers(0, 16)) for card_type in ("A", "B")}
    return Fleet(tuple(servers), bounds, capacity, options)


def cards(server: Server, allocation: Allocation) -> Counter[str]:
    """Cards by type."""
    if not allocation.accelerator or not allocation.replicas:
        return Counter()
    card_type, multiplicity, _ = ACCELERATORS[allocation.accelerator]
    units = PERF.get((server.model, allocation.accelerator), (0.0, 1))[1]
    return Counter({card_type: allocation.replicas * multiplicity * units})


@dataclass(frozen=True)
class Outcome:
    """Cards by server, before and after."""

    solution: Solution
    before: Mapping[str, Counter[str]]
    after: Mapping[str, Counter[str]]

    @classmethod
    def of(cls, lab: Any, fleet: Fleet) -> Outcome:
        planner = Planner(lab.model_of, registry())
        solution = planner.solve(Problem(fleet.system(lab), fleet.bounds, {}))
        found = {s.name: solution.allocations.get(s.name, s.current) for s in fleet.servers}
        return cls(
            solution,
            {server.name: cards(server, server.current) for server in fleet.servers},
            {server.name: cards(server, found[server.name]) for server in fleet.servers},
        )

    def total(self, card_type: str) -> int:
        return sum(each[card_type] for each in self.after.values())

    def grew(self, server: str, card_type: str) -> bool:
        return self.after[server][card_type] > self.before[server][card_type]


@settings(max_examples=150)
@given(fleet=fleets())
def test_cards_stay_within_capacity_or_what_runs(lab: Any, fleet: Fleet) -> None:
    outcome = Outcome.of(lab, fleet)
    for card_type, capacity in fleet.capacity.items():
        running = sum(each[card_type] for each in outcome.before.values())
        assert outcome.total(card_type) <= max(capacity, running)


@settings(max_examples=150)
@given(fleet=fleets())
def test_nobody_grows_on_a_type_of_which_more_is_used_than_exists(lab: Any, fleet: Fleet) -> None:
    outcome = Outcome.of(lab, fleet)
    for card_type, capacity in fleet.capacity.items():
        if any(outcome.grew(server.name, card_type) for server in fleet.servers):
            assert outcome.total(card_type) <= capacity


@settings(max_examples=150)
@given(fleet=fleets())
def test_who_loses_for_lack_of_cards_loses_to_a_higher_priority(lab: Any, fleet: Fleet) -> None:
    outcome = Outcome.of(lab, fleet)
    priority = {server.name: int(server.service_class[-1]) for server in fleet.servers}
    for entry in outcome.solution.unserved:
        event(str(entry.reason))
        name = entry.server
        lost = outcome.before[name] - outcome.after[name]
        if entry.reason is UnservedReason.RECLAIMED:
            assert lost
        if entry.reason in SHORT_OF_CARDS:
            for card_type in lost:
                takers = [
                    other
                    for other in priority
                    if priority[other] < priority[name] and outcome.grew(other, card_type)
                ]
                assert takers
                assert any(taker in entry.detail for taker in takers)


@settings(max_examples=150)
@given(fleet=fleets())
def test_who_gets_fewer_cards_without_a_reason_is_served_whole(lab: Any, fleet: Fleet) -> None:
    outcome = Outcome.of(lab, fleet)
    short = {entry.server for entry in outcome.solution.unserved}
    for server in fleet.servers:
        found = outcome.solution.allocations.get(server.name)
        if server.name in short or fleet.bounds[server.name].keep:
            continue
        assert found is not None
        if found.replicas == 0:
            assert server.current.load.is_empty
        else:
            rate, _ = PERF[server.model, found.accelerator]
            assert found.replicas * rate >= server.current.load.rate_rps


@settings(max_examples=150)
@given(fleet=fleets())
def test_bounds_hold(lab: Any, fleet: Fleet) -> None:
    outcome = Outcome.of(lab, fleet)
    for server in fleet.servers:
        bounds = fleet.bounds[server.name]
        found = outcome.solution.allocations.get(server.name)
        if bounds.keep:
            assert found == server.current
        elif found is not None:
            floor = min(bounds.min_replicas, server.current.replicas)
            assert found.replicas >= floor or found.accelerator != server.current.accelerator
            if found.replicas > server.current.replicas and bounds.max_replicas is not None:
                assert found.replicas <= bounds.max_replicas
            if bounds.accelerator and found.replicas:
                assert found.accelerator == bounds.accelerator


@settings(max_examples=200)
@given(fleet=fleets(), seed=st.integers(0, 10))
def test_the_order_of_servers_does_not_matter(lab: Any, fleet: Fleet, seed: int) -> None:
    shuffled = list(fleet.servers)
    random.Random(seed).shuffle(shuffled)
    planner = Planner(lab.model_of, registry())
    answers = [
        planner.solve(Problem(each.system(lab), each.bounds, {}))
        for each in (fleet, replace(fleet, servers=tuple(shuffled)))
    ]
    first, second = (replace(answer, seconds=0.0) for answer in answers)
    assert first == second
