"""What servers get that nothing could serve whole: the saturation policies, on what is left."""

from __future__ import annotations

from controlloop.api.candidates import Candidates
from controlloop.api.replicas import FloatArray, IntArray
from controlloop.api.system import SaturationPolicy
from controlloop.optimizer.answer import Choice
from controlloop.optimizer.saturation import Ticket, best_effort


def serve_in_part(
    candidates: Candidates,
    choice: Choice,
    waiting: IntArray,
    left: FloatArray,
    policy: SaturationPolicy,
) -> list[int]:
    """Give `waiting` servers part of a candidate each, as far as the cards go.

    Args:
        candidates: what there is to choose from.
        choice: filled in for those who get something.
        waiting: servers in their order.
        left: (T,) cards left.
        policy: who gets how much.

    Returns:
        The cards of each type that are still left.

    """
    rows = candidates.rows_by_value().tolist()
    start = candidates.start.tolist()
    tickets = []
    for server in waiting.tolist():
        mine = rows[start[server] : start[server + 1]]
        wanted = candidates.replicas[mine].tolist()
        tickets.append(Ticket(int(candidates.priority[server]), mine, wanted))
    pool = _Left(candidates, left)
    best_effort(policy, tickets, pool)
    for server, ticket in zip(waiting.tolist(), tickets, strict=True):
        if ticket.replicas:
            choice.row[server] = ticket.rows[ticket.at]
            choice.replicas[server] = ticket.replicas
    return pool.left


class _Left:
    """The cards that are left, for `best_effort`."""

    def __init__(self, candidates: Candidates, left: FloatArray) -> None:
        self._card_type = candidates.card_type.tolist()
        self._cards = candidates.cards_per_replica.tolist()
        self.left = [int(cards) for cards in left]

    def room(self, row: int) -> int:
        """Replicas of `row` that still fit."""
        return int(self.left[self._card_type[row]] // self._cards[row])

    def take(self, row: int, replicas: int) -> None:
        """Take the cards of so many replicas, which fit."""
        self.left[self._card_type[row]] -= replicas * self._cards[row]
