"""Candidates beside what runs now: a solver's answer is taken only where it harms nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.decision import ServerConstraint
from controlloop.api.solution import Solution, SolveStatus, Unserved, UnservedReason
from controlloop.api.system import Allocation, OptimizerOptions, Server, System
from controlloop.optimizer.answer import Choice, choice_of, solution_of
from controlloop.optimizer.asked import answer_of
from controlloop.optimizer.ledger import Holding, Ledger, Running, running_cards
from controlloop.optimizer.repair import Repair
from controlloop.protocols import Solver

_NO_BOUNDS: Final = ServerConstraint()
_NOTHING: Final = Running("", 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Incumbents:
    """Candidates with what runs now.

    Attributes:
        candidates: of the servers that may change.
        servers: those servers, in the candidates' order.
        capacity: cards by type.
        fixed: cards by type of servers that keep what they have in any case.
        running: what each server of the candidates that has any rows runs on.
        bounds: constraints by server.

    """

    candidates: Candidates
    servers: tuple[Server, ...]
    capacity: Mapping[str, int]
    fixed: Mapping[str, int]
    running: Mapping[str, Running]
    bounds: Mapping[str, ServerConstraint]

    @classmethod
    def of(
        cls, system: System, bounds: Mapping[str, ServerConstraint], candidates: Candidates
    ) -> Incumbents:
        """`candidates` of the servers of `system` that may change, beside what runs."""
        by_name = {server.name: server for server in system.servers}
        has_rows = np.diff(candidates.start) > 0
        movable = {candidates.servers[at] for at in np.flatnonzero(has_rows)}
        running = running_cards(system)
        return cls(
            candidates=candidates,
            servers=tuple(by_name[name] for name in candidates.servers),
            capacity=system.capacity,
            fixed=_cards(each for name, each in running if name not in movable),
            running={name: each for name, each in running if name in movable},
            bounds=bounds,
        )

    def solve(self, solver: Solver, options: OptimizerOptions) -> Solution:
        """The solver's answer where it harms nobody, else what can be made of it."""
        held = _cards(self.running.values())
        # As many cards as run now, even where fewer exist: who runs there may stay.
        capacity = {
            each: max(self.capacity.get(each, 0) - self.fixed.get(each, 0), held.get(each, 0))
            for each in {*self.candidates.types, *self.capacity}
        }
        guess = answer_of(solver, self.candidates, capacity, options)
        guide = choice_of(self.candidates, guess)
        if self._is_complete(guess, guide) and self._is_harmless(guide):
            return guess
        ledger = Ledger(self.capacity, self.fixed, self._holdings())
        choice = Repair(self.candidates, guide, ledger, options).run()
        return self._solution(choice, ledger, guess)

    def _holdings(self) -> list[Holding]:
        found = []
        for at, server in enumerate(self.servers):
            running = self.running.get(server.name)
            if running is None:
                continue
            floor = self.bounds.get(server.name, _NO_BOUNDS).min_replicas
            holding = Holding(
                server=server.name,
                priority=int(self.candidates.priority[at]),
                card_type=running.card_type,
                cards_per_replica=running.cards_per_replica,
                replicas=running.replicas,
                before=running.replicas,
                row=self._current_row(at),
                floor=floor,
            )
            found.append(holding)
        return found

    def _current_row(self, at: int) -> int:
        start, end = self.candidates.start[at], self.candidates.start[at + 1]
        mine = self.candidates.accelerator[start:end] == self.candidates.current_accelerator[at]
        return int(start + np.argmax(mine)) if mine.any() else -1

    def _is_complete(self, guess: Solution, choice: Choice) -> bool:
        """Whether a solver speaks of every server, and of nothing but candidates."""
        spoken_of = {*guess.allocations, *(each.server for each in guess.unserved)}
        chosen = int(np.count_nonzero(choice.row >= 0))
        return chosen == len(guess.allocations) and spoken_of.issuperset(self.candidates.servers)

    def _is_harmless(self, choice: Choice) -> bool:
        """Whether nobody loses what it runs, and nobody grows where more run than exist."""
        candidates = self.candidates
        if not len(candidates):
            return True
        types = {name: at for at, name in enumerate(candidates.types)}
        now = [self.running.get(name, _NOTHING) for name in candidates.servers]
        type_now = np.array([types.get(each.card_type, -1) for each in now], dtype=np.int64)
        cards_now = np.array([each.cards for each in now], dtype=np.int64)
        rows = np.maximum(choice.row, 0)
        whole = (choice.row >= 0) & (choice.replicas == candidates.replicas[rows])
        card_type, cards = choice.cards(candidates)
        own = np.where(card_type == type_now, cards_now, 0)
        if np.any((cards_now > 0) & ~whole & ((own == 0) | (cards < own))):
            return False
        some = cards > 0
        total = candidates.capacity_by_type(self.fixed)
        np.add.at(total, card_type[some], cards[some])
        crowded = total > candidates.capacity_by_type(self.capacity)
        return not bool(np.any(some & (cards > own) & crowded[card_type]))

    def _solution(self, choice: Choice, ledger: Ledger, guess: Solution) -> Solution:
        """What `choice`, led by the solver's `guess`, gives whole; what became of those in need."""
        positions = {name: at for at, name in enumerate(self.candidates.servers)}
        reclaimed: dict[str, Unserved] = {}
        rests: dict[str, Allocation] = {}
        keeping = 0
        for name, holding in ledger.holdings.items():
            at = positions[name]
            if holding.replicas == holding.before:
                keeping += 1
            elif holding.replicas and holding.row >= 0:
                choice.row[at], choice.replicas[at] = holding.row, holding.replicas
            else:
                rests[name] = _rest(self.servers[at], holding.replicas)
            if holding.replicas < holding.before:
                reclaimed[name] = _why_reclaimed(holding, self.servers[at])
        short = (
            f"cards are short: {keeping} servers keep less than they need,"
            f" {len(reclaimed)} gave replicas to servers of higher priority"
        )
        solution = solution_of(
            self.candidates,
            choice,
            {each: max(ledger.free(each), 0) for each in self.candidates.types},
            solver=guess.solver,
            status=SolveStatus.FEASIBLE,
            message="; ".join([short, guess.message] if guess.message else [short]),
        )
        unserved = {each.server: each for each in solution.unserved} | reclaimed
        return replace(
            solution,
            asked=guess.asked,
            allocations={**solution.allocations, **rests},
            unserved=tuple(unserved[name] for name in sorted(unserved)),
        )


def _rest(server: Server, replicas: int) -> Allocation:
    """What is left of an allocation that no candidate stands for, on its own accelerator."""
    current = server.current
    cost = current.cost_per_hour * replicas / current.replicas
    rest = replace(current, replicas=replicas, cost_per_hour=cost)
    return rest if replicas else replace(rest, itl_ms=0.0, ttft_ms=0.0)


def _why_reclaimed(holding: Holding, server: Server) -> Unserved:
    takers = tuple(dict.fromkeys(holding.takers))
    detail = (
        f"gave {holding.before - holding.replicas} of {holding.before} replicas of"
        f" {server.current.accelerator} to {', '.join(takers)}, of higher priority"
    )
    return Unserved(holding.server, UnservedReason.RECLAIMED, detail, takers)


def _cards(running: Iterable[Running]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in running:
        total[each.card_type] += each.cards
    return dict(total)
