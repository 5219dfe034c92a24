"""Greedy with regret: who would lose most by waiting chooses first."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.solution import Solution, SolveStatus
from controlloop.api.system import OptimizerOptions
from controlloop.optimizer.answer import Choice, cards_left, solution_of
from controlloop.optimizer.saturation import Ticket, best_effort
from controlloop.optimizer.unlimited import least_total

# Priority, then regret and value with the largest first, then name; last the position of the
# candidate among the server's, least value first.
_Entry = tuple[int, float, float, int, int]


class GreedySolver:
    """Servers in order of priority, then regret, then value; each takes what fits.

    Regret is what the next candidate costs more, infinite for the last one. Who does not fit
    goes back into the order with its next candidate; who has none left gets best effort.
    """

    name = "greedy"

    def solve(
        self, candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions
    ) -> Solution:
        """Allocations within `capacity`, with best effort as `options` say."""
        choice = choose_greedily(candidates, capacity, options)
        solution = solution_of(
            candidates,
            choice,
            cards_left(candidates, choice, capacity),
            solver=self.name,
            status=SolveStatus.FEASIBLE,
            bound=least_total(candidates),
        )
        # Where everybody has the first choice, nothing can be better.
        proven = solution.bound == solution.objective
        return replace(solution, status=SolveStatus.OPTIMAL) if proven else solution


def choose_greedily(
    candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions
) -> Choice:
    """What the greedy solver gives each server."""
    lists = _Lists.of(candidates)
    pool = _Cards(lists, candidates.capacity_by_type(capacity).tolist())
    choice = Choice.nothing(len(candidates.servers))
    entries = sorted(lists.entry(server, 0) for server in lists.servers_with_rows())
    groups = (
        [entries]
        if options.delayed_best_effort
        else [list(group) for _, group in groupby(entries, key=lambda entry: entry[0])]
    )
    for group in groups:
        out = _allocate(lists, group, pool, choice)
        tickets = [lists.ticket(server) for server in out]
        best_effort(options.saturation_policy, tickets, pool)
        for server, ticket in zip(out, tickets, strict=True):
            if ticket.replicas:
                choice.row[server] = ticket.rows[ticket.at]
                choice.replicas[server] = ticket.replicas
    return choice


def _allocate(lists: _Lists, entries: list[_Entry], pool: _Cards, choice: Choice) -> list[int]:
    """Give candidates that fit whole; who is left, in the order in which they ran out."""
    out: list[int] = []
    heapq.heapify(entries)
    while entries:
        server, at = entries[0][3:]
        place = lists.start[server] + at
        row = lists.row[place]
        replicas = lists.replicas[row]
        if pool.fits(row, replicas):
            heapq.heappop(entries)
            pool.take(row, replicas)
            choice.row[server], choice.replicas[server] = row, replicas
        elif place + 1 < lists.start[server + 1]:
            heapq.heapreplace(entries, lists.entry(server, at + 1))
        else:
            heapq.heappop(entries)
            out.append(server)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Lists:
    """The candidates as plain lists, which a loop reads faster than arrays.

    `row` and `value` are in order of server and value; the others by row.
    """

    priority: list[int]
    start: list[int]
    row: list[int]
    value: list[float]
    replicas: list[int]
    card_type: list[int]
    cards_per_replica: list[int]

    @classmethod
    def of(cls, candidates: Candidates) -> _Lists:
        order = candidates.rows_by_value()
        return cls(
            priority=candidates.priority.tolist(),
            start=candidates.start.tolist(),
            row=order.tolist(),
            value=candidates.value[order].tolist(),
            replicas=candidates.replicas.tolist(),
            card_type=candidates.card_type.tolist(),
            cards_per_replica=candidates.cards_per_replica.tolist(),
        )

    def servers_with_rows(self) -> Iterable[int]:
        return np.flatnonzero(np.diff(self.start) > 0).tolist()

    def entry(self, server: int, at: int) -> _Entry:
        place = self.start[server] + at
        value = self.value[place]
        last = place + 1 == self.start[server + 1]
        regret = math.inf if last else self.value[place + 1] - value
        return self.priority[server], -regret, -value, server, at

    def ticket(self, server: int) -> Ticket:
        rows = self.row[self.start[server] : self.start[server + 1]]
        return Ticket(self.priority[server], rows, [self.replicas[row] for row in rows])


class _Cards:
    """The cards of each type that are left."""

    def __init__(self, lists: _Lists, left: list[int]) -> None:
        self._lists = lists
        self._left = left

    def fits(self, row: int, replicas: int) -> bool:
        """Whether so many replicas of `row` fit; none always do."""
        if replicas == 0:
            return True
        needed = replicas * self._lists.cards_per_replica[row]
        return needed <= self._left[self._lists.card_type[row]]

    def room(self, row: int) -> int:
        """Replicas of `row` that still fit."""
        return self._left[self._lists.card_type[row]] // self._lists.cards_per_replica[row]

    def take(self, row: int, replicas: int) -> None:
        """Take the cards of so many replicas, which fit."""
        if replicas:
            card_type = self._lists.card_type[row]
            self._left[card_type] -= replicas * self._lists.cards_per_replica[row]
