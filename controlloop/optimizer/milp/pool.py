"""The columns that questions choose from, and the questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.optimizer.milp.columns import Columns, undominated
from controlloop.optimizer.milp.dual import Prices, best_prices
from controlloop.optimizer.milp.limits import Limits
from controlloop.optimizer.milp.stage import Counts, Stage


@dataclass(frozen=True, slots=True, eq=False)
class Aim:
    """What is made least, summed over the servers served.

    Attributes:
        value: weight of the value.
        card: (T,) weight of each card of a type.
        counted: (S,) servers that count -1 when they are served.
        step: two solutions differ by this at least, or not at all; 0 where that is not known.

    """

    value: float
    card: FloatArray
    counted: BoolArray
    step: float

    @classmethod
    def least_value(cls, pool: Pool) -> Aim:
        """The least total value."""
        return cls(1.0, np.zeros_like(pool.capacity), np.zeros_like(pool.servable), 0.0)

    @classmethod
    def most_served(cls, pool: Pool, counted: BoolArray) -> Aim:
        """As many as possible of the servers `counted`."""
        return cls(0.0, np.zeros_like(pool.capacity), counted, 1.0)

    @classmethod
    def least_cards(cls, pool: Pool) -> Aim:
        """The least share of the cards that there are."""
        return cls(0.0, 1.0 / np.maximum(pool.capacity, 1.0), np.zeros_like(pool.servable), 0.0)

    def of(self, columns: Columns, among: IntArray) -> FloatArray:
        """What each column `among` (k,) contributes."""
        cards = columns.cards[among] @ self.card
        return np.asarray(
            self.value * columns.value[among] + cards - self.counted[columns.server[among]]
        )


class Pool(Protocol):
    """Columns of all servers; more may come while questions are answered.

    `rows` are those of whole candidates, grouped by server and least value first; they are the
    first of `columns`.
    """

    @property
    def columns(self) -> Columns:
        """All columns found so far: positions never change."""
        ...

    @property
    def rows(self) -> Columns:
        """One column for each candidate."""
        ...

    @property
    def capacity(self) -> FloatArray:
        """(T,) cards."""
        ...

    @property
    def servable(self) -> BoolArray:
        """(S,) which servers could be served at all."""
        ...

    def question(self, counts: Counts, aim: Aim) -> Question:
        """What serves `aim` best under `counts`."""
        ...


class Question(Protocol):
    """A stage whose columns may be found as they are needed."""

    def relax(self, upper: float, limits: Limits) -> tuple[Stage, Prices]:
        """The stage with the columns known so far, and the best prices.

        `upper` is the objective of a known solution.
        """
        ...

    def within(
        self, stage: Stage, prices: Prices, excess: float, limits: Limits
    ) -> tuple[Stage, Prices, bool]:
        """The stage with all columns of at most `excess`, and whether these are truly all."""
        ...


def stage_of(pool: Pool, counts: Counts, aim: Aim) -> Stage:
    """The stage over all columns of the servers in play that are worth choosing from."""
    columns = pool.columns
    in_play = np.zeros_like(pool.servable)
    in_play[counts.members] = True
    among = np.flatnonzero(in_play[columns.server])
    objective = aim.of(columns, among)
    kept = undominated(columns, among, objective)
    objective = objective[np.searchsorted(among, kept)]
    return Stage.of(columns, kept, objective, counts, pool.capacity, aim.step)


class WholePool:
    """One accelerator for each server: all columns are known from the start.

    Args:
        candidates: what there is to choose from.
        capacity: (T,) cards of each type.

    """

    def __init__(self, candidates: Candidates, capacity: IntArray) -> None:
        self.rows = Columns.of_rows(candidates, capacity)
        self.columns = self.rows
        self.capacity = capacity.astype(np.float64)
        self.servable = np.bincount(self.rows.server, minlength=len(candidates.servers)) > 0

    def question(self, counts: Counts, aim: Aim) -> WholeQuestion:
        """See `Pool`."""
        return WholeQuestion(stage_of(self, counts, aim))


class WholeQuestion:
    """A stage of which all columns are known."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._prices: Prices | None = None

    def relax(self, upper: float, limits: Limits) -> tuple[Stage, Prices]:
        """See `Question`."""
        if self._prices is None:
            self._prices = best_prices(self._stage, upper, limits.in_time)
        return self._stage, self._prices

    def within(
        self,
        stage: Stage,
        prices: Prices,
        excess: float,  # noqa: ARG002 - the protocol's arguments
        limits: Limits,  # noqa: ARG002
    ) -> tuple[Stage, Prices, bool]:
        """See `Question`; here there is nothing more to find."""
        return stage, prices, True
