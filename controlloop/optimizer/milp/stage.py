"""One question of the lexicographic order, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.optimizer.milp.columns import Columns

NOTHING = -1


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Who must be served, as the stages before found.

    Attributes:
        members: (S,) positions of the servers in play, ascending.
        must: (S,) whether the server is served in any case.
        level: (S,) position in `least` of the group whose served servers are counted, K for none.
        least: (K,) fewest served servers of each such group.

    """

    members: IntArray
    must: BoolArray
    level: IntArray
    least: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Choose at most one column of each of S servers so that the sum of objectives is least.

    Attributes:
        column: (m,) positions in the columns, grouped by server.
        objective: (m,) what is summed.
        cards: (m, T) cards.
        server: (m,) position in `counts.members`, ascending.
        start: (S + 1,) offsets of each server's columns.
        counts: who must be served.
        capacity: (T,) cards that there are.
        step: two solutions differ by this at least, or not at all; 0 where that is not known.

    """

    column: IntArray
    objective: FloatArray
    cards: sp.csr_array
    server: IntArray
    start: IntArray
    counts: Counts
    capacity: FloatArray
    step: float

    @classmethod
    def of(
        cls,
        columns: Columns,
        column: IntArray,
        objective: FloatArray,
        counts: Counts,
        capacity: FloatArray,
        step: float = 0.0,
    ) -> Stage:
        """The stage over the given columns; their servers must all be in play.

        Args:
            columns: all columns.
            column: (m,) positions of those to choose from, in any order.
            objective: (m,) their objectives.
            counts: who must be served.
            capacity: cards of each type.
            step: least difference between solutions.

        """
        order = np.lexsort((column, columns.server[column]))
        column = column[order]
        server = np.searchsorted(counts.members, columns.server[column])
        return cls(
            column=column,
            objective=objective[order],
            cards=columns.cards[column],
            server=server.astype(np.int64),
            start=np.searchsorted(server, np.arange(len(counts.members) + 1)).astype(np.int64),
            counts=counts,
            capacity=capacity,
            step=step,
        )

    def __len__(self) -> int:
        return len(self.column)

    @property
    def scale(self) -> float:
        """The size of objectives, to tell what is as good as nothing; > 0."""
        return max(float(np.max(np.abs(self.objective), initial=0.0)), 1e-9)

    def holds(self, chosen: IntArray) -> bool:
        """Whether positions `chosen` of this stage keep every rule."""
        counts = self.counts
        served = np.bincount(self.server[chosen], minlength=len(counts.members))
        groups = np.bincount(counts.level[self.server[chosen]], minlength=len(counts.least) + 1)
        return bool(
            np.all(served <= 1)
            and np.all(served[counts.must] == 1)
            and np.all(groups[: len(counts.least)] >= counts.least)
            and np.all(self.cards[chosen].sum(axis=0) <= self.capacity)
        )
