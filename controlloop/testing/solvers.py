"""What every solver promises, as tests of yours: derive, say which solver, run pytest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Final

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlloop.api.candidates import Candidates
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import Allocation, System, Variant
from controlloop.optimizer.candidates import build_candidates
from controlloop.protocols import Solver
from controlloop.queueing.models import queue_models
from controlloop.testing import strategies

PLENTY: Final = 10**6
EQUAL: Final = 1e-9
# A target is met to the accuracy of the rate that it was sized at.
SLACK: Final = 1e-6

_law = settings(
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
    deadline=None,
    max_examples=60,
)


@dataclass(frozen=True, slots=True)
class Solved:
    """A system, what there is to choose from, and what a solver chose."""

    system: System
    candidates: Candidates
    solution: Solution

    @property
    def unserved(self) -> frozenset[str]:
        """Servers that are not served whole."""
        return frozenset(each.server for each in self.solution.unserved)

    @property
    def whole(self) -> Mapping[str, Allocation]:
        """The allocations of servers that are served whole."""
        found = self.solution.allocations.items()
        return {name: each for name, each in found if name not in self.unserved}

    def row(self, server: str, part: Allocation | Variant) -> int:
        """The candidate that a part of a server's allocation is; -1 where it is none."""
        candidates = self.candidates
        at = candidates.servers.index(server)
        for row in range(int(candidates.start[at]), int(candidates.start[at + 1])):
            accelerator = int(candidates.accelerator[row])
            name = candidates.accelerators[accelerator] if accelerator >= 0 else ""
            if name == part.accelerator and candidates.max_batch[row] == part.max_batch:
                return row
        return -1

    def demand_rps(self, server: str) -> float:
        """What the server has to serve."""
        return float(self.candidates.demand_rps[self.candidates.servers.index(server)])

    def cards(self) -> Counter[str]:
        """Cards that the solution takes, by type."""
        taken: Counter[str] = Counter()
        for name, allocation in self.solution.allocations.items():
            for part in parts(allocation):
                row = self.row(name, part)
                if part.replicas:
                    card_type = self.candidates.types[int(self.candidates.card_type[row])]
                    taken[card_type] += part.replicas * int(self.candidates.cards_per_replica[row])
        return taken


def parts(allocation: Allocation) -> tuple[Allocation | Variant, ...]:
    """What runs on one accelerator each: the variants, or the allocation itself."""
    return allocation.variants or (allocation,)


class SolverContract:
    """Laws of solvers; override `solver`, and `limited` where cards never run out for yours.

    class TestMine(SolverContract):
        def solver(self) -> Solver:
            return Mine()
    """

    limited: bool = True

    def solver(self) -> Solver:
        """The solver under test."""
        raise NotImplementedError

    def _solved(self, system: System) -> Solved:
        candidates = build_candidates(system, queue_models().create)
        solution = self.solver().solve(candidates, system.capacity, system.options)
        return Solved(system, candidates, solution)

    def test_it_has_a_name(self) -> None:
        """Options choose it by that name, and its solutions carry it.

        To the letter: a solution under another name counts as that of a stand-in, and users are
        told so.
        """
        assert self.solver().name
        assert self._solved(System()).solution.solver == self.solver().name

    def test_no_servers_need_nothing(self) -> None:
        """An empty system is solved, at no value."""
        solution = self._solved(System()).solution
        assert not solution.allocations
        assert not solution.unserved
        assert solution.objective == 0

    @_law
    @given(strategies.systems())
    def test_every_server_is_accounted_for(self, system: System) -> None:
        """Each has an allocation, a reason why not, or both where it got less than it needs."""
        solved = self._solved(system)
        names = {server.name for server in system.servers}
        assert set(solved.solution.allocations) | solved.unserved == names
        assert {each.server for each in solved.candidates.unserved} <= solved.unserved
        assert len(solved.unserved) == len(solved.solution.unserved)
        assert all(each.detail for each in solved.solution.unserved)

    @_law
    @given(strategies.systems())
    def test_no_more_cards_are_taken_than_there_are(self, system: System) -> None:
        """Of no type, the one that capacity does not name included."""
        if self.limited:
            for capacity in (system.capacity, {"A": system.capacity["A"]}, {}):
                taken = self._solved(replace(system, capacity=capacity)).cards()
                assert all(count <= capacity.get(name, 0) for name, count in taken.items())

    @_law
    @given(strategies.systems())
    def test_what_is_allocated_is_a_candidate_at_its_price(self, system: System) -> None:
        """Accelerator, batch and cost are a candidate's; accelerators are not repeated."""
        solved = self._solved(system)
        candidates = solved.candidates
        for name, allocation in solved.solution.allocations.items():
            pieces = parts(allocation)
            assert len({piece.accelerator for piece in pieces}) == len(pieces)
            for piece in pieces:
                row = solved.row(name, piece)
                assert row >= 0, f"{name} got {piece}, which is no candidate of its"
                unit = candidates.cost[row] / max(candidates.replicas[row], 1)
                assert math.isclose(piece.cost_per_hour, unit * piece.replicas, rel_tol=EQUAL)
                assert piece.replicas > 0 or candidates.replicas[row] == 0

    @_law
    @given(strategies.systems())
    def test_who_is_served_whole_has_what_the_load_needs(self, system: System) -> None:
        """Enough replicas for demand and minimum; latencies within the targets."""
        solved = self._solved(system)
        servers = {server.name: server for server in system.servers}
        targets = {(c.name, t.model): t for c in system.classes for t in c.targets}
        for name, allocation in solved.whole.items():
            server = servers[name]
            rows = [solved.row(name, piece) for piece in parts(allocation)]
            rates = solved.candidates.rate_rps[rows]
            replicas = np.array([piece.replicas for piece in parts(allocation)])
            if len(rows) == 1:
                assert replicas[0] >= solved.candidates.needed_replicas[rows[0]]
            assert (rates * replicas).sum() >= solved.demand_rps(name) * (1 - EQUAL)
            assert replicas.sum() >= server.min_replicas
            target = targets[server.service_class, server.model]
            if server.current.load.is_empty:
                continue
            for piece in parts(allocation):
                assert not target.itl_ms or piece.itl_ms <= target.itl_ms * (1 + SLACK)
                assert not target.ttft_ms or piece.ttft_ms <= target.ttft_ms * (1 + SLACK)

    @_law
    @given(strategies.systems())
    def test_who_got_less_is_told_so(self, system: System) -> None:
        """A server in both lists has some replicas, and fewer than its load needs."""
        solved = self._solved(system)
        for name in solved.unserved & set(solved.solution.allocations):
            allocation = solved.solution.allocations[name]
            row = solved.row(name, allocation)
            assert 0 < allocation.replicas < solved.candidates.needed_replicas[row]

    @_law
    @given(strategies.systems())
    def test_with_plenty_of_cards_whoever_can_be_served_is(self, system: System) -> None:
        """Only those without a candidate are left."""
        plenty = replace(system, capacity=dict.fromkeys(("A", "B"), PLENTY))
        solved = self._solved(plenty)
        rows = np.diff(solved.candidates.start)
        able = {name for name, n in zip(solved.candidates.servers, rows, strict=True) if n}
        above = solved.candidates.needed_replicas > solved.candidates.replicas
        if not above.any():
            assert set(solved.whole) == able

    @_law
    @given(strategies.systems())
    def test_the_objective_is_the_value_of_what_is_allocated(self, system: System) -> None:
        """With one accelerator a server: values of candidates, by the replicas got of them."""
        solved = self._solved(replace(system, options=replace(system.options, heterogeneous=False)))
        candidates, total = solved.candidates, 0.0
        for name, allocation in solved.solution.allocations.items():
            row = solved.row(name, allocation)
            needed = int(candidates.replicas[row])
            share = allocation.replicas / needed if needed else 1.0
            total += float(candidates.value[row]) * share
        assert math.isclose(solved.solution.objective, total, rel_tol=1e-6, abs_tol=1e-6)

    @_law
    @given(strategies.systems())
    def test_a_status_says_no_more_than_is_proven(self, system: System) -> None:
        """The bound is one, the gap is between bound and objective, optimal has none."""
        solution = self._solved(system).solution
        assert solution.status is not SolveStatus.FAILED
        assert math.isfinite(solution.objective)
        if solution.bound is None:
            assert solution.gap is None
            return
        assert solution.gap is not None
        assert solution.bound <= solution.objective + 1e-6 * max(1.0, abs(solution.objective))
        assert solution.gap >= 0
        if solution.status is SolveStatus.OPTIMAL:
            assert solution.gap <= 1e-6

    @_law
    @given(strategies.systems(), st.randoms(use_true_random=False))
    def test_equal_questions_have_equal_answers(self, system: System, random: Random) -> None:
        """Again, and with servers, performance data and classes in another order."""
        first = self._solved(system).solution
        shuffled = replace(
            system,
            servers=tuple(random.sample(system.servers, len(system.servers))),
            perf=tuple(random.sample(system.perf, len(system.perf))),
            classes=tuple(random.sample(system.classes, len(system.classes))),
        )
        for other in (self._solved(system).solution, self._solved(shuffled).solution):
            assert other.allocations == first.allocations
            assert other.unserved == first.unserved
            assert other.objective == first.objective

    @_law
    @given(strategies.systems())
    def test_what_is_given_is_not_changed(self, system: System) -> None:
        """Candidates are shared; a solver that marks them up spoils the next question."""
        candidates = build_candidates(system, queue_models().create)
        arrays = {
            field.name: value
            for field in fields(candidates)
            if isinstance(value := getattr(candidates, field.name), np.ndarray)
        }
        before = {name: value.copy() for name, value in arrays.items()}
        capacity = dict(system.capacity)
        self.solver().solve(candidates, capacity, system.options)
        assert capacity == dict(system.capacity)
        for name, value in arrays.items():
            assert np.array_equal(value, before[name], equal_nan=value.dtype.kind == "f"), name
