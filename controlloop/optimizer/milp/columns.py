"""Ways to serve servers whole, as columns of an integer program."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import BoolArray, FloatArray, IntArray

# Rows of the candidates with replicas of each: one entry, or several for a heterogeneous server.
Mix: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """m ways to serve a server whole, of T card types.

    Attributes:
        server: (m,) position in the servers of the candidates.
        value: (m,) what it costs to get there.
        cards: (m, T) cards that it takes.
        mixes: m mixes of rows.

    """

    server: IntArray
    value: FloatArray
    cards: sp.csr_array
    mixes: tuple[Mix, ...]

    def __len__(self) -> int:
        return len(self.server)

    @property
    def first_row(self) -> IntArray:
        """The first row of each mix: (m,)."""
        return np.array([mix[0][0] for mix in self.mixes], dtype=np.int64)

    @classmethod
    def of(
        cls, candidates: Candidates, server: IntArray, value: FloatArray, mixes: Iterable[Mix]
    ) -> Columns:
        """Columns of the given mixes, whose cards the candidates know."""
        mixes = tuple(mixes)
        entries = np.array([part for mix in mixes for part in mix], dtype=np.int64).reshape(-1, 2)
        column = np.repeat(np.arange(len(mixes)), [len(mix) for mix in mixes])
        row, replicas = entries[:, 0], entries[:, 1]
        card_type = candidates.card_type[row]
        some = card_type >= 0
        cards = (replicas * candidates.cards_per_replica[row]).astype(np.float64)
        table = sp.csr_array(
            (cards[some], (column[some], card_type[some])),
            shape=(len(mixes), len(candidates.types)),
        )
        return cls(server, value, table, mixes)

    @classmethod
    def of_rows(cls, candidates: Candidates, capacity: IntArray) -> Columns:
        """The candidates that fit an empty cluster, one column each.

        Least value first within a server, then by name of the accelerator: an order that does
        not depend on the order of the input.
        """
        limit = np.append(capacity, np.iinfo(np.int64).max)
        fits = candidates.cards <= limit[candidates.card_type]
        names = (*candidates.accelerators, "")
        rank = np.empty(len(names), dtype=np.int64)
        rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        order = np.lexsort((rank[candidates.accelerator], candidates.value, candidates.server))
        row = order[fits[order]]
        mixes = zip(row.tolist(), candidates.replicas[row].tolist(), strict=True)
        return cls.of(
            candidates, candidates.server[row], candidates.value[row], [(mix,) for mix in mixes]
        )

    def joined(self, more: Columns) -> Columns:
        """These columns, which keep their positions, and then `more`."""
        return Columns(
            np.concatenate([self.server, more.server]),
            np.concatenate([self.value, more.value]),
            sp.vstack([self.cards, more.cards], format="csr"),
            self.mixes + more.mixes,
        )


def undominated(columns: Columns, among: IntArray, objective: FloatArray) -> IntArray:
    """Which of `among` are worth choosing from: positions, ascending.

    A column falls out where another of the same server takes no more cards of any type and has
    no greater objective.

    Args:
        columns: the columns.
        among: (k,) positions in them, ascending.
        objective: (k,) what is made least.

    """
    cards = columns.cards[among]
    types = np.diff(cards.indptr)
    single = np.flatnonzero(types == 1)
    single = single[_best_of_type(columns.server[among], cards, objective, single)]
    kept = np.sort(np.concatenate([np.flatnonzero(types != 1), single]))
    server = columns.server[among[kept]]
    of_mixed = np.isin(server, columns.server[among[types > 1]])
    if np.any(of_mixed):
        several, owner = kept[of_mixed], server[of_mixed]
        order = np.argsort(owner, kind="stable")
        groups = np.split(several[order], np.flatnonzero(np.diff(owner[order])) + 1)
        better = [group[_minimal(cards[group].toarray(), objective[group])] for group in groups]
        kept = np.sort(np.concatenate([kept[~of_mixed], *better]))
    return np.asarray(among[kept])


def _best_of_type(
    server: IntArray, cards: sp.csr_array, objective: FloatArray, single: IntArray
) -> BoolArray:
    """Which of the columns `single`, of one type each, no other of server and type dominates."""
    first = cards.indptr[:-1][single]
    group = server[single] * cards.shape[1] + cards.indices[first]
    order = np.lexsort((objective[single], cards.data[first], group))
    rank = np.unique(objective[single], return_inverse=True)[1][order].astype(np.int64)
    # Ranks of a later group are all less, so that the running least starts anew in each.
    groups = np.unique(group[order], return_inverse=True)[1]
    least = np.minimum.accumulate(rank - groups * (len(rank) + 1))
    better = np.ones(len(order), dtype=np.bool_)
    better[1:] = least[1:] < least[:-1]
    found = np.zeros(len(order), dtype=np.bool_)
    found[order[better]] = True
    return found


def _minimal(cards: FloatArray, objective: FloatArray) -> BoolArray:
    """Which rows of one server no other dominates; of equal ones the first stays."""
    numbers = np.column_stack([objective, cards])
    minimal = np.ones(len(numbers), dtype=np.bool_)
    for at, row in enumerate(numbers):
        if minimal[at]:
            worse = np.all(numbers >= row, axis=1)
            worse[at] = False
            minimal &= ~worse
    return minimal
