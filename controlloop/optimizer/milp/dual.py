"""What cards are worth: the Lagrangian dual of a stage, by cutting planes.

With a price on every card and a reward for every server that a group still needs, each server
chooses for itself, and the sum is a lower bound on every solution, whatever the prices: the
bound is proven by this arithmetic and rests on no solver. The best prices make a concave
function greatest that is piecewise linear in a few dozen numbers. Cuts are kept for blocks of
servers, so that few rounds are needed (Kelley's method, disaggregated).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.optimizer.milp.stage import Stage

_BLOCKS: Final = 20
_ROUNDS: Final = 300
# Prices beyond so many times the greatest objective are not looked for.
_GREATEST_PRICE: Final = 1e4
# The dual is solved well enough when so much of it, relative, could still be won.
_ENOUGH: Final = 1e-7
_PRECISION: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Prices of cards and rewards for needed servers, with what follows from them.

    Attributes:
        card: (T,) price of a card of each type, >= 0.
        reward: (K,) for each server of a group that is needed, >= 0.
        bound: no solution of the stage has a lower objective.
        base: (S,) what each server contributes to the bound.
        excess: (m,) what each column costs beyond that: a solution that uses it is at least
            `bound` + `excess`.
        skip_excess: (S,) the same for not serving a server, infinite for one that must be.

    """

    card: FloatArray
    reward: FloatArray
    bound: float
    base: FloatArray
    excess: FloatArray
    skip_excess: FloatArray


def price(
    stage: Stage, card: FloatArray, reward: FloatArray, base: FloatArray | None = None
) -> Prices:
    """What follows from given prices; see `Prices`.

    Args:
        stage: the stage.
        card: (T,) price of a card.
        reward: (K,) for each server that a group needs.
        base: (S,) what each server contributes at least, where more columns than those of the
            stage count; None takes the stage's.

    """
    counts = stage.counts
    priced = stage.objective + stage.cards @ card
    priced -= np.append(reward, 0.0)[counts.level[stage.server]]
    if base is None:
        least = least_of_each(stage, priced)
        base = np.where(counts.must, least, np.minimum(least, 0.0))
    bound = base.sum() - card @ stage.capacity + reward @ counts.least
    skip = np.where(counts.must, np.inf, -base)
    return Prices(card, reward, float(bound), base, priced - base[stage.server], skip)


def least_of_each(stage: Stage, priced: FloatArray) -> FloatArray:
    """The least of each server's columns, infinite where it has none: (S,)."""
    least = np.full(len(stage.counts.members), np.inf)
    some = np.diff(stage.start) > 0
    if some.any():
        least[some] = np.minimum.reduceat(priced, stage.start[:-1][some])
    return least


def best_prices(stage: Stage, upper: float, in_time: Callable[[], bool]) -> Prices:
    """The prices that give the greatest bound, or the best found while `in_time`.

    Args:
        stage: the stage; each server that must be served has a column.
        upper: objective of a known solution.
        in_time: whether there is time for another round.

    """
    types, groups = len(stage.capacity), len(stage.counts.least)
    master = _Master(stage)
    best = now = price(stage, np.zeros(types), np.zeros(groups))
    for _ in range(_ROUNDS):
        master.cut(now)
        gap = upper - best.bound
        proven = gap <= _PRECISION * stage.scale or gap < stage.step * (1 - _PRECISION)
        if proven or not in_time():
            break
        found = master.solve()
        if found is None:
            break
        multipliers, ceiling = found
        left = ceiling - best.bound
        if left <= _ENOUGH * max(abs(best.bound), stage.scale):
            break
        now = price(stage, multipliers[:types], multipliers[types:])
        if now.bound > best.bound:
            best = now
    return best


class _Master:
    """All cuts so far: an upper model of the dual function, block by block."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        servers = len(stage.counts.members)
        self._blocks = max(1, min(_BLOCKS, servers))
        self._block = np.arange(servers) * self._blocks // max(servers, 1)
        self._rows: list[FloatArray] = []
        self._limits: list[FloatArray] = []
        self._scale = stage.scale

    def cut(self, prices: Prices) -> None:
        """Add what every server does at these prices."""
        stage, counts = self._stage, self._stage.counts
        chosen = _chosen(stage, prices)
        server = stage.server[chosen]
        of_block = sp.csr_array(
            (np.ones(len(chosen)), (self._block[server], np.arange(len(chosen)))),
            shape=(self._blocks, len(chosen)),
        )
        cards = (of_block @ stage.cards[chosen]).toarray()
        groups = len(counts.least) + 1
        served = np.bincount(
            self._block[server] * groups + counts.level[server], minlength=self._blocks * groups
        ).reshape(self._blocks, groups)
        self._rows.append(np.hstack([-cards, served[:, :-1], np.eye(self._blocks)]))
        value = np.bincount(
            self._block[server], weights=stage.objective[chosen], minlength=self._blocks
        )
        self._limits.append(value / self._scale)

    def solve(self) -> tuple[FloatArray, float] | None:
        """The prices where the model is greatest, and how great; None where that fails."""
        stage = self._stage
        prices = len(stage.capacity) + len(stage.counts.least)
        found = linprog(
            np.concatenate([stage.capacity, -stage.counts.least, -np.ones(self._blocks)]),
            A_ub=np.vstack(self._rows),
            b_ub=np.concatenate(self._limits),
            bounds=[(0.0, _GREATEST_PRICE)] * prices + [(None, None)] * self._blocks,
            method="highs",
        )
        if found.status != 0 or found.x is None or found.fun is None:
            return None
        multipliers = np.maximum(found.x[:prices], 0.0) * self._scale
        return multipliers, -float(found.fun) * self._scale


def _chosen(stage: Stage, prices: Prices) -> IntArray:
    """The first of the best columns of each server that is better served than not."""
    wanted = stage.counts.must | (prices.base < 0)
    best = np.flatnonzero((prices.excess == 0) & wanted[stage.server])
    return best[np.unique(stage.server[best], return_index=True)[1]]
