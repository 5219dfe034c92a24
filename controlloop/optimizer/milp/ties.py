"""Which of equally good solutions it is: the first accelerators, the first names."""

from __future__ import annotations

import numpy as np

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import IntArray
from controlloop.optimizer.milp.pool import Pool
from controlloop.optimizer.milp.stage import NOTHING

_PRECISION = 1e-9


def settle_ties(pool: Pool, candidates: Candidates, picked: IntArray) -> IntArray:
    """`picked` with ties broken as they are everywhere: by order of accelerators, by name.

    Served servers and total value stay what they are. Who could move alone to an earlier
    accelerator at the same value does; of servers that are alike in everything, the first in
    order of name has what is first.

    Args:
        pool: the columns.
        candidates: what they are made of.
        picked: (S,) position of each server's column, NOTHING for none.

    """
    return _first_names(pool, candidates, _first_accelerators(pool, candidates, picked))


def _first_accelerators(pool: Pool, candidates: Candidates, picked: IntArray) -> IntArray:
    rows = pool.rows
    picked = picked.copy()
    whole = (picked != NOTHING) & (picked < len(rows))
    mine, order = rows.server, candidates.accelerator[rows.first_row]
    now = np.where(whole, picked, 0)[mine]
    alike = np.abs(rows.value - rows.value[now]) <= _PRECISION * np.abs(rows.value)
    tied = np.flatnonzero(whole[mine] & alike & (order < order[now]))
    left = pool.capacity - pool.columns.cards[picked[picked != NOTHING]].sum(axis=0)
    for column in tied[np.lexsort((order[tied], mine[tied]))].tolist():
        server = mine[column]
        if order[column] >= order[picked[server]]:
            continue
        room = left + rows.cards[[picked[server]]].toarray()[0]
        needed = rows.cards[[column]].toarray()[0]
        if np.all(needed <= room):
            left = room - needed
            picked[server] = column
    return picked


def _first_names(pool: Pool, candidates: Candidates, picked: IntArray) -> IntArray:
    rows = pool.rows
    picked = picked.copy()
    start = np.searchsorted(rows.server, np.arange(len(picked) + 1)).tolist()
    alike: dict[tuple[int, bytes], list[int]] = {}
    accelerator = candidates.accelerator[rows.first_row]
    cards = np.diff(rows.cards.indptr)
    amount = np.zeros(len(rows))
    amount[cards > 0] = rows.cards.data
    for server in range(len(picked)):
        if picked[server] < len(rows) and start[server] < start[server + 1]:
            mine = slice(start[server], start[server + 1])
            numbers = accelerator[mine].tobytes() + rows.value[mine].tobytes()
            key = (int(candidates.priority[server]), numbers + amount[mine].tobytes())
            alike.setdefault(key, []).append(server)
    order = np.lexsort((accelerator, rows.value, rows.server))
    rank = np.argsort(order, kind="stable")
    for servers in alike.values():
        places = sorted(
            int(rank[picked[each]]) - start[each] for each in servers if picked[each] != NOTHING
        )
        picked[servers] = NOTHING
        for server, place in zip(servers, places, strict=False):
            picked[server] = order[start[server] + place]
    return picked
