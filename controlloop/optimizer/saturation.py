"""Best effort: part of a candidate for servers for which none fits whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from controlloop.api.system import SaturationPolicy


@dataclass(slots=True)
class Ticket:
    """One server in need, and what it has got so far.

    Attributes:
        priority: of its class.
        rows: its candidates, least value first.
        wanted: replicas of each of `rows` that serve it whole.
        at: position in `rows` of the candidate it holds on to, -1 before it has one.
        replicas: what it has of that candidate.

    """

    priority: int
    rows: Sequence[int]
    wanted: Sequence[int]
    at: int = -1
    replicas: int = 0

    @property
    def choices(self) -> Iterable[int]:
        """Positions in `rows` that it may still take from."""
        return range(len(self.rows)) if self.at < 0 else (self.at,)


class Pool(Protocol):
    """The cards that are left."""

    def room(self, row: int) -> int:
        """Replicas of `row` that still fit."""
        ...

    def take(self, row: int, replicas: int) -> None:
        """Take the cards of so many replicas, which fit."""
        ...


def best_effort(policy: SaturationPolicy, tickets: Sequence[Ticket], pool: Pool) -> None:
    """Hand out what is left to `tickets`, in their order, as `policy` says."""
    if policy is SaturationPolicy.PRIORITY_EXHAUSTIVE:
        for ticket in tickets:
            _take_most(ticket, pool)
    elif policy is SaturationPolicy.ROUND_ROBIN:
        _take_in_turn(tickets, pool)
    elif policy is SaturationPolicy.PRIORITY_ROUND_ROBIN:
        by_priority = sorted(tickets, key=lambda ticket: ticket.priority)
        for _, group in groupby(by_priority, key=lambda ticket: ticket.priority):
            _take_in_turn(tuple(group), pool)


def _take_most(ticket: Ticket, pool: Pool) -> None:
    """As many replicas as fit of the first candidate that fits any."""
    for at in ticket.choices:
        replicas = min(pool.room(ticket.rows[at]), ticket.wanted[at] - ticket.replicas)
        if replicas > 0:
            _take(ticket, at, replicas, pool)
            return


def _take_in_turn(tickets: Sequence[Ticket], pool: Pool) -> None:
    """One replica at a time until nobody gets another."""
    waiting = tickets
    while waiting:
        waiting = [ticket for ticket in waiting if _take_one(ticket, pool)]


def _take_one(ticket: Ticket, pool: Pool) -> bool:
    for at in ticket.choices:
        if ticket.replicas < ticket.wanted[at] and pool.room(ticket.rows[at]) > 0:
            _take(ticket, at, 1, pool)
            return True
    return False


def _take(ticket: Ticket, at: int, replicas: int, pool: Pool) -> None:
    pool.take(ticket.rows[at], replicas)
    ticket.at = at
    ticket.replicas += replicas
