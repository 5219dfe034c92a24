"""Completes a solution: who is not served yet takes what fits, in order."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import IntArray
from controlloop.optimizer.milp.pool import Pool
from controlloop.optimizer.milp.stage import NOTHING


def urgency(candidates: Candidates) -> IntArray:
    """Servers with candidates as they stand in line: priority, regret, value, name.

    That is the order in which the greedy solver starts.
    """
    servers = np.flatnonzero(np.diff(candidates.start) > 0)
    if not len(servers):
        return servers
    value = candidates.value[candidates.rows_by_value()]
    first = candidates.start[:-1][servers]
    single = np.diff(candidates.start)[servers] == 1
    second = value[np.minimum(first + 1, len(value) - 1)]
    regret = np.where(single, np.inf, second - value[first])
    priority = candidates.priority[servers]
    return servers[np.lexsort((servers, -value[first], -regret, priority))]


def fill(pool: Pool, picked: IntArray, servers: Iterable[int]) -> IntArray:
    """`picked` with the candidate of least value that fits for each of `servers`, in their order.

    Args:
        pool: the columns.
        picked: (S,) position of the column that each server has, NOTHING for none.
        servers: who takes next; those that have a column are passed over.

    """
    picked = picked.copy()
    left = pool.capacity - pool.columns.cards[picked[picked != NOTHING]].sum(axis=0)
    cards = pool.rows.cards
    start = np.searchsorted(pool.rows.server, np.arange(len(picked) + 1)).tolist()
    for server in servers:
        if picked[server] != NOTHING:
            continue
        for column in range(start[server], start[server + 1]):
            entries = slice(cards.indptr[column], cards.indptr[column + 1])
            needed, kinds = cards.data[entries], cards.indices[entries]
            if np.all(needed <= left[kinds]):
                left[kinds] -= needed
                picked[server] = column
                break
    return picked
