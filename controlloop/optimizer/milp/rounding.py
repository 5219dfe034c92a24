"""A good solution from good prices: everybody takes what prices make best, if it fits."""

from __future__ import annotations

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.optimizer.milp.dual import Prices
from controlloop.optimizer.milp.stage import Stage


def rounded(stage: Stage, prices: Prices) -> IntArray:
    """Positions of columns within capacity, one for each server served.

    Whether all are served that must be is for the caller to see.

    Servers that must be served go first, those first that would lose most by their second
    column; then the others, those first that are worth most at these prices.
    """
    order = np.lexsort((prices.excess, stage.server))
    columns = order.tolist()
    start = stage.start.tolist()
    indptr, kinds = stage.cards.indptr.tolist(), stage.cards.indices.tolist()
    needed, left = stage.cards.data.tolist(), stage.capacity.tolist()
    chosen = []
    for server in _in_line(stage, prices, order).tolist():
        for column in columns[start[server] : start[server + 1]]:
            entries = range(indptr[column], indptr[column + 1])
            if all(needed[each] <= left[kinds[each]] for each in entries):
                for each in entries:
                    left[kinds[each]] -= needed[each]
                chosen.append(column)
                break
    return np.sort(np.array(chosen, dtype=np.int64))


def _in_line(stage: Stage, prices: Prices, order: IntArray) -> IntArray:
    """Servers in the order in which they choose."""
    counts = stage.counts
    members = np.arange(len(counts.members))
    worth = np.where(counts.must, -np.inf, prices.base)
    return np.lexsort((members, -_regret(stage, prices, order), worth))


def _regret(stage: Stage, prices: Prices, order: IntArray) -> FloatArray:
    """What each server's second column costs beyond its first; infinite without a second."""
    regret = np.full(len(stage.counts.members), np.inf)
    several = np.flatnonzero(np.diff(stage.start) > 1)
    first = stage.start[several]
    excess = prices.excess[order]
    regret[several] = excess[first + 1] - excess[first]
    return regret
