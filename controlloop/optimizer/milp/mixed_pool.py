"""Columns of servers that may run on several accelerators at once, found as they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.optimizer.milp.columns import Columns, Mix
from controlloop.optimizer.milp.dual import Prices, best_prices, price
from controlloop.optimizer.milp.limits import Limits
from controlloop.optimizer.milp.mixes import Mixes, Part, find_mixes
from controlloop.optimizer.milp.pool import Aim, stage_of
from controlloop.optimizer.milp.stage import Counts, Stage
from controlloop.optimizer.mix_values import MixValues

_ROUNDS: Final = 60
_PRECISION: Final = 1e-9
# Mixes of one server that are looked for at once, and steps of that search.
_MOST_MIXES: Final = 2_000
_MOST_STEPS: Final = 200_000


class MixedPool:
    """Several accelerators for each server: columns are mixes of replicas.

    Args:
        candidates: what there is to choose from.
        capacity: (T,) cards of each type.

    """

    def __init__(self, candidates: Candidates, capacity: IntArray) -> None:
        self.rows = Columns.of_rows(candidates, capacity)
        self.columns = self.rows
        self.capacity = capacity.astype(np.float64)
        self.mixable = _mixable(candidates)
        self._candidates = candidates
        self._values = MixValues.of(candidates)
        self._useful = _useful_rows(candidates, self._values, self.mixable)
        self._limit = _limits(candidates, capacity)
        self._known = set(zip(self.rows.server.tolist(), self.rows.mixes, strict=True))
        self.servable = np.bincount(self.rows.server, minlength=len(candidates.servers)) > 0
        self._seed()

    def _seed(self) -> None:
        """A first column for servers of which no single candidate fits."""
        aim = Aim.least_cards(self)
        nothing = np.zeros_like(self.capacity)
        seeds = []
        for server in np.flatnonzero(self.mixable & ~self.servable).tolist():
            found = self.find(server, aim, nothing, math.inf, 0.0, _MOST_STEPS)
            seeds += [(server, mix) for _, mix in found.found]
        self.take(seeds)
        self.servable = np.bincount(self.columns.server, minlength=len(self.servable)) > 0

    def question(self, counts: Counts, aim: Aim) -> MixedQuestion:
        """See `Pool`."""
        return MixedQuestion(self, counts, aim)

    def take(self, mixes: Iterable[tuple[int, Mix]]) -> bool:
        """Put mixes of servers that are new among the columns; whether there were any."""
        fresh = [each for each in dict.fromkeys(mixes) if each not in self._known]
        if not fresh:
            return False
        self._known.update(fresh)
        value = np.array([self._values.of_mix(server, mix) for server, mix in fresh])
        servers = np.array([server for server, _ in fresh], dtype=np.int64)
        more = Columns.of(self._candidates, servers, value, [mix for _, mix in fresh])
        self.columns = self.columns.joined(more)
        return True

    def constant(self, server: int, aim: Aim) -> float:
        """What every mix of a server costs beside its parts."""
        return aim.value * float(self._values.base[server]) - float(aim.counted[server])

    def find(
        self, server: int, aim: Aim, card: FloatArray, ceiling: float, margin: float, steps: int
    ) -> Mixes:
        """The mixes of a server at prices `card` (T,); see `find_mixes`."""
        candidates, values = self._candidates, self._values
        rows = np.arange(candidates.start[server], candidates.start[server + 1])
        # No mix has fewer replicas than the fastest accelerator alone, but for the minimum.
        least = int(candidates.replicas[rows].min())
        rows = rows[self._useful[rows]]
        prices = (aim.card + card)[candidates.card_type[rows]]
        columns = (
            rows,
            candidates.rate_rps[rows],
            self._limit[rows],
            aim.value * values.slope[rows] + prices * candidates.cards_per_replica[rows],
            aim.value * values.entry[rows],
            values.running[rows],
            aim.value * values.unchanged[rows],
        )
        parts = [Part(*each) for each in zip(*(c.tolist() for c in columns), strict=True)]
        return find_mixes(
            parts,
            float(candidates.demand_rps[server]),
            least,
            ceiling=ceiling,
            margin=margin,
            most=_MOST_MIXES,
            steps=steps,
        )


def _mixable(candidates: Candidates) -> BoolArray:
    """Servers whose demand may be shared: several candidates, none of which is cut: (S,)."""
    servers = len(candidates.servers)
    whole = (candidates.replicas == candidates.needed_replicas) & (candidates.replicas > 0)
    cut = np.bincount(candidates.server[~whole], minlength=servers) > 0
    return np.asarray((np.diff(candidates.start) > 1) & ~cut, dtype=np.bool_)


def _limits(candidates: Candidates, capacity: IntArray) -> IntArray:
    """Replicas of each row that are enough for its server alone, and fit: (m,)."""
    cards = np.maximum(candidates.cards_per_replica, 1)
    there = np.append(capacity, 0)[candidates.card_type]
    return np.asarray(np.minimum(candidates.replicas, there // cards))


def _useful_rows(candidates: Candidates, values: MixValues, mixable: BoolArray) -> BoolArray:
    """Rows of which a mix may be better: (m,).

    A replica that others of its type replace, with no more cards and value and no less rate,
    is in no better mix, unless it runs now.
    """
    useful = np.ones(len(candidates), dtype=np.bool_)
    plain = (values.entry == 0) & (values.unchanged == 0)
    for server in np.flatnonzero(mixable):
        rows = slice(int(candidates.start[server]), int(candidates.start[server + 1]))
        kind, rate = candidates.card_type[rows], candidates.rate_rps[rows]
        slope, cards = values.slope[rows], candidates.cards_per_replica[rows]
        # So many replicas of the column's accelerator do the work of one of the row's.
        times = np.ceil(rate[:, None] / rate * (1 - _PRECISION))
        replaced = (times * cards <= cards[:, None]) & (times * slope <= slope[:, None])
        replaced &= (kind[:, None] == kind) & plain[rows][:, None] & plain[rows]
        # Of two that replace one another the first stays; itself nothing replaces.
        replaced &= ~(replaced.T & np.triu(np.ones_like(replaced)))
        useful[rows] = ~replaced.any(axis=1)
    return useful


class MixedQuestion:
    """A stage whose columns are found at the prices that the search comes to."""

    def __init__(self, pool: MixedPool, counts: Counts, aim: Aim) -> None:
        self._pool = pool
        self._counts = counts
        self._aim = aim
        self._known: tuple[Stage, Prices] | None = None

    def relax(self, upper: float, limits: Limits) -> tuple[Stage, Prices]:
        """See `Question`: prices and columns in turn, until no new column would change them."""
        if self._known is None:
            self._known = self._generate(upper, limits)
        return self._known

    def _generate(self, upper: float, limits: Limits) -> tuple[Stage, Prices]:
        stage = stage_of(self._pool, self._counts, self._aim)
        best = prices = best_prices(stage, upper, limits.in_time)
        for attempt in range(_ROUNDS):
            base, grown, _ = self._look(prices, None, limits)
            true = price(stage, prices.card, prices.reward, base)
            if attempt == 0 or true.bound > best.bound:
                best = true
            if not grown:
                break
            stage = stage_of(self._pool, self._counts, self._aim)
            if not limits.in_time():
                break
            prices = best_prices(stage, upper, limits.in_time)
        return stage, price(stage, best.card, best.reward, best.base)

    def within(
        self, stage: Stage, prices: Prices, excess: float, limits: Limits
    ) -> tuple[Stage, Prices, bool]:
        """See `Question`."""
        _, grown, complete = self._look(prices, excess, limits)
        if grown:
            stage = stage_of(self._pool, self._counts, self._aim)
            prices = price(stage, prices.card, prices.reward, prices.base)
        return stage, prices, complete

    def _look(
        self, prices: Prices, excess: float | None, limits: Limits
    ) -> tuple[FloatArray, bool, bool]:
        """Add mixes to the pool: better ones than it has, or all of at most `excess`.

        Returns:
            What each server contributes to the bound (S,), whether anything was added, and
            whether nothing was left out.

        """
        pool, base, complete = self._pool, prices.base.copy(), True
        rewards = np.append(prices.reward, 0.0)[self._counts.level].tolist()
        fresh: list[tuple[int, Mix]] = []
        for at, server in enumerate(self._counts.members.tolist()):
            if not pool.mixable[server]:
                continue
            constant = pool.constant(server, self._aim) - rewards[at]
            known = float(prices.base[at]) - constant
            steps = _MOST_STEPS if limits.in_time() else 0
            if excess is None:
                # What is as good as what is known would only go round in circles.
                least = _PRECISION * max(abs(known), 1e-3)
                found = pool.find(server, self._aim, prices.card, known - least, -least, steps)
                if found.found or not found.complete:
                    base[at] = min(base[at], found.floor + constant)
            else:
                found = pool.find(server, self._aim, prices.card, known + excess, math.inf, steps)
            complete &= found.complete
            fresh += [(server, mix) for _, mix in found.found]
        return base, pool.take(fresh), complete
