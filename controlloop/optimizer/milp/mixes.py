"""Ways to serve one server on several accelerators: all that cost little enough.

At given prices of cards the best mix of replicas is a covering problem of its own: replicas r of
each accelerator with sum(lambda* r) >= demand and sum(r) >= the least number. It is solved by
depth-first search: what runs now first, then accelerators in order of their cost for a unit of
rate, so that what is missing is bounded from below by the cheapest rate that is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Rates are known to about this, relative to the demand.
_TOLERANCE: Final = 1e-9
_NOISE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Part:
    """One accelerator of a server.

    Attributes:
        row: its row of the candidates.
        rate_rps: lambda* of one replica, > 0.
        most: replicas that would serve the server alone.
        weight: cost of one replica at the prices asked for, >= 0.
        entry: added when any replica is used: 0, or less for one that runs now.
        running: replicas that run now, 0 for none.
        unchanged: added when exactly these are used.

    """

    row: int
    rate_rps: float
    most: int
    weight: float
    entry: float = 0.0
    running: int = 0
    unchanged: float = 0.0

    def cost(self, replicas: int) -> float:
        """What so many replicas cost."""
        if replicas == 0:
            return 0.0
        cost = self.weight * replicas + self.entry
        return cost + self.unchanged if replicas == self.running else cost

    @property
    def is_plain(self) -> bool:
        """Whether the cost is proportional to the replicas."""
        return self.entry == 0 and self.unchanged == 0


@dataclass(frozen=True, slots=True)
class Mixes:
    """What a search gave.

    Attributes:
        found: (cost, ((row, replicas), ...)) of each mix, least first.
        floor: no mix costs less; where none is found, that is the ceiling.
        complete: whether these are all that cost no more than asked.

    """

    found: tuple[tuple[float, tuple[tuple[int, int], ...]], ...]
    floor: float
    complete: bool


def find_mixes(
    parts: Sequence[Part],
    demand_rps: float,
    least: int,
    *,
    ceiling: float,
    margin: float,
    most: int,
    steps: int,
) -> Mixes:
    """The best mixes: all that cost at most `margin` more than the best, and at most `ceiling`.

    Mixes of which a replica could be left out are not all found: none is better.

    Args:
        parts: the accelerators.
        demand_rps: what they must serve together.
        least: fewest replicas together.
        ceiling: dearer mixes are of no interest.
        margin: how much dearer than the best one may be; below 0 only what is so much better
            than all before is looked for.
        most: stop after so many mixes.
        steps: stop after so many steps.

    """
    search = _Search(parts, demand_rps, least, ceiling, margin, most, steps)
    search.visit(0, search.demand, least, 0.0)
    limit = min(ceiling, search.best + max(margin, 0.0))
    found = sorted(each for each in search.found if each[0] <= limit)
    floor = min(search.best, ceiling) if search.complete else search.floor
    return Mixes(tuple(found), floor, search.complete)


class _Search:
    def __init__(
        self,
        parts: Sequence[Part],
        demand_rps: float,
        least: int,
        ceiling: float,
        margin: float,
        most: int,
        steps: int,
    ) -> None:
        self._parts = sorted(
            parts, key=lambda part: (part.is_plain, part.weight / part.rate_rps, part.row)
        )
        self.demand = demand_rps * (1 - _TOLERANCE)
        self._noise = demand_rps * _NOISE
        self._limit = ceiling
        self._margin = margin
        self._most = most
        self._steps = steps
        self._chosen: list[tuple[int, int]] = []
        self.found: list[tuple[float, tuple[tuple[int, int], ...]]] = []
        self.best = math.inf
        self.complete = True
        self._tails()
        self.floor = self._tail(0, self.demand, least)

    def _tails(self) -> None:
        """The least cost of a unit of rate, of a replica, and of extras from each part on."""
        self._rate_cost, self._replica_cost, self._extra = [math.inf], [math.inf], [0.0]
        for part in reversed(self._parts):
            self._rate_cost.append(min(self._rate_cost[-1], part.weight / part.rate_rps))
            self._replica_cost.append(min(self._replica_cost[-1], part.weight))
            self._extra.append(self._extra[-1] + min(0.0, part.entry, part.entry + part.unchanged))
        for each in (self._rate_cost, self._replica_cost, self._extra):
            each.reverse()

    def _tail(self, at: int, demand: float, count: int) -> float:
        """What the rest costs at least, from part `at` on."""
        rest = 0.0
        if demand > self._noise:
            rest = demand * self._rate_cost[at]
        if count > 0:
            rest = max(rest, count * self._replica_cost[at])
        return rest + self._extra[at]

    def visit(self, at: int, demand: float, count: int, cost: float) -> None:
        """Decide on part `at` and all after it; `demand` and `count` are still missing."""
        self._steps -= 1
        if self._steps < 0 or len(self.found) >= self._most:
            self.complete = False
            return
        covered = demand <= self._noise and count <= 0
        if covered and (at == len(self._parts) or self._parts[at].is_plain):
            self._record(cost)
            return
        if at == len(self._parts) or cost + self._tail(at, demand, count) > self._limit:
            return
        part = self._parts[at]
        needed = 0 if demand <= self._noise else math.ceil(demand / part.rate_rps - _NOISE)
        enough = max(needed, count, 0)
        # More than what serves the rest is never better, but for what runs now.
        greatest = min(part.most, enough) if part.is_plain else part.most
        for replicas in range(greatest, -1, -1):
            spent = cost + part.cost(replicas)
            left, missing = demand - replicas * part.rate_rps, count - replicas
            if spent + self._tail(at + 1, left, missing) > self._limit:
                if part.is_plain and count <= 0 and replicas < enough:
                    # Fewer replicas leave still more to parts whose rate is dearer.
                    break
                continue
            if replicas:
                self._chosen.append((part.row, replicas))
            self.visit(at + 1, left, missing, spent)
            if replicas:
                self._chosen.pop()

    def _record(self, cost: float) -> None:
        self.found.append((cost, tuple(sorted(self._chosen))))
        if cost < self.best:
            self.best = cost
            self._limit = min(self._limit, cost + self._margin)
