"""The order of questions: most servers of each priority in turn, then the least total value."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, IntArray
from controlloop.optimizer.milp.backends import BackendError
from controlloop.optimizer.milp.fill import fill
from controlloop.optimizer.milp.limits import Limits
from controlloop.optimizer.milp.pool import Aim, Pool, Question
from controlloop.optimizer.milp.search import Found, find_any, search
from controlloop.optimizer.milp.stage import NOTHING, Counts

# An unfinished count may take this share of the time that is left: what follows needs some.
_SHARE_OF_TIME: Final = 0.5
# With more columns than this that serve equally well, fewest cards leads the way.
_MANY_ALIKE: Final = 10_000
# Bounds on numbers of servers are whole numbers but for rounding.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Level:
    """How far a priority is served.

    Attributes:
        priority: the priority.
        served: servers served whole.
        most: no solution serves more, as long as higher priorities are as they are.

    """

    priority: int
    served: int
    most: int

    @property
    def proven(self) -> bool:
        """Whether it is known that no more can be served."""
        return self.served == self.most


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The best solution in lexicographic order.

    Attributes:
        picked: (S,) position of each server's column in the pool, NOTHING for none.
        levels: the priorities of which not all servers are served.
        value: total value of the servers served.
        bound: no solution that serves as many has less; None where more may be served.
        proven: whether no solution is better.
        failure: why the solver could not go on, "" where it could.

    """

    picked: IntArray
    levels: tuple[Level, ...]
    value: float
    bound: float | None
    proven: bool
    failure: str


def solve(
    pool: Pool, picked: IntArray, priority: IntArray, order: IntArray, limits: Limits
) -> Result:
    """Improve on `picked` until nothing better is possible, or the time is up.

    Args:
        pool: the columns.
        picked: (S,) a solution within capacity: position of each server's column.
        priority: (S,) 1 is the highest.
        order: servers as they stand in line for what is left over.
        limits: when to stop.

    """
    ladder = _Ladder(pool, picked, priority, order)
    for each in np.unique(priority[pool.servable]).tolist():
        ladder.climb(each, limits)
        if ladder.failure:
            break
    return ladder.finish(limits)


class _Ladder:
    """Priorities one after the other: what is reached for one binds all that follow."""

    def __init__(self, pool: Pool, picked: IntArray, priority: IntArray, order: IntArray) -> None:
        self._pool = pool
        self._priority = priority
        self._order = order
        self.picked = picked
        self.failure = ""
        self._must = np.zeros(len(picked), dtype=np.bool_)
        self._in_play = np.zeros(len(picked), dtype=np.bool_)
        self._group = np.full(len(picked), NOTHING, dtype=np.int64)
        self._least: list[int] = []
        self._levels: list[Level] = []

    def climb(self, priority: int, limits: Limits) -> None:
        """Serve as many servers of `priority` as possible."""
        mine = self._pool.servable & (self._priority == priority)
        members = int(np.count_nonzero(mine))
        served = most = self._served(mine)
        self._in_play |= mine
        if served < members:
            served, most = self._serve_more(mine, limits.part(_SHARE_OF_TIME))
        if served == members:
            self._must |= mine
            return
        self._levels.append(Level(priority, served, most))
        if most == 0:
            # As long as those above are served as they are, nobody here can be.
            self._in_play &= ~mine
            return
        self._group[mine] = len(self._least)
        self._least.append(served)

    def _serve_more(self, mine: BoolArray, limits: Limits) -> tuple[int, int]:
        """How many of `mine` are served in the end, and how many could be at most."""
        question = self._pool.question(self._counts(), Aim.most_served(self._pool, mine))
        _, prices = question.relax(-float(self._served(mine)), limits)
        most = math.floor(-prices.bound + _ROUNDING)
        alike = int(np.count_nonzero(prices.excess <= _ROUNDING))
        if most == int(np.count_nonzero(mine)) or alike > _MANY_ALIKE:
            self._serve(most, mine, limits)
        served = self._served(mine)
        if served < most and not self.failure:
            found = self._search(question, limits, -served)
            served, most = -round(found.objective), math.floor(-found.bound + _ROUNDING)
        return served, most

    def _serve(self, target: int, mine: BoolArray, limits: Limits) -> None:
        """Try to serve `target` of `mine`, with as few cards as possible.

        Where all that is asked is who is served, most columns are alike, and solvers lose
        themselves among them; fewest cards leads to a solution at once.
        """
        counts = self._counts()
        asked = mine[counts.members]
        group = len(counts.least)
        counts = replace(
            counts,
            must=counts.must | (asked & (target == int(np.count_nonzero(asked)))),
            level=np.where(asked, group, counts.level + (counts.level == group)),
            least=np.append(counts.least, float(target)),
        )
        question = self._pool.question(counts, Aim.least_cards(self._pool))
        try:
            found = find_any(question, limits)
        except BackendError as error:
            self.failure = str(error)
            return
        if found is not None:
            self._take(found)

    def finish(self, limits: Limits) -> Result:
        """The least total value with as many servers served."""
        value = math.fsum(self._pool.columns.value[self._chosen()].tolist())
        found = Found(self._chosen(), value, -math.inf, proven=False)
        if not self.failure:
            question = self._pool.question(self._counts(), Aim.least_value(self._pool))
            found = self._search(question, limits, value)
        levels = tuple(self._now(level) for level in self._levels)
        counted = all(level.proven for level in levels)
        return Result(
            picked=self.picked,
            levels=levels,
            value=found.objective,
            bound=found.bound if counted and math.isfinite(found.bound) else None,
            proven=counted and found.proven,
            failure=self.failure,
        )

    def _search(self, question: Question, limits: Limits, objective: float) -> Found:
        found = search(question, self._chosen(), objective, limits)
        self.failure = found.failure
        self._take(found.columns)
        return found

    def _take(self, columns: IntArray) -> None:
        """Make these the columns of the servers in play; the others take what is left."""
        if np.array_equal(columns, self._chosen()):
            return
        picked = np.full_like(self.picked, NOTHING)
        picked[self._pool.columns.server[columns]] = columns
        self.picked = fill(self._pool, picked, self._later())

    def _later(self) -> list[int]:
        """Who is not in play yet, in line."""
        return [server for server in self._order.tolist() if not self._in_play[server]]

    def _chosen(self) -> IntArray:
        mine = self.picked[self._in_play]
        return np.asarray(mine[mine != NOTHING])

    def _now(self, level: Level) -> Level:
        # What came later may have served more.
        served = self._served(self._pool.servable & (self._priority == level.priority))
        return replace(level, served=served, most=max(level.most, served))

    def _served(self, mine: BoolArray) -> int:
        return int(np.count_nonzero(self.picked[mine] != NOTHING))

    def _counts(self) -> Counts:
        members = np.flatnonzero(self._in_play)
        group = self._group[members]
        return Counts(
            members=members,
            must=self._must[members],
            level=np.where(group == NOTHING, len(self._least), group),
            least=np.array(self._least, dtype=np.float64),
        )
