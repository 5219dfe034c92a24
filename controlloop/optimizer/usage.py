"""Who has which cards under a solution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlloop.api.cards import CardCounter
from controlloop.api.solution import Solution
from controlloop.api.system import LOWEST_PRIORITY, System

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Holder:
    """Cards of one type in the hands of one server."""

    server: str
    priority: int
    count: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Cards by server and by type, beside the capacity.

    Attributes:
        capacity: cards by type; None where there are always enough.
        cards: what each server has of each type, by its allocation or, in the loop, by what it
            keeps.
        own: what each server runs on now where that stays its own, whatever is short.
        holders: who has cards of each type, in order of priority and name.
        totals: cards that are taken of each type.

    """

    capacity: Mapping[str, int] | None
    cards: Mapping[str, Mapping[str, int]]
    own: Mapping[str, Mapping[str, int]]
    holders: Mapping[str, Sequence[Holder]]
    totals: Mapping[str, int]

    @classmethod
    def of(cls, system: System, solution: Solution, *, limited: bool, keeps: bool) -> Usage:
        """The usage under `solution`.

        Args:
            system: that was solved.
            solution: its solution.
            limited: whether capacity counts.
            keeps: whether a server without an allocation keeps what it runs on, with its cards.

        """
        counter = CardCounter(system)
        ranks = {each.name: each.priority for each in system.classes}
        cards: dict[str, Mapping[str, int]] = {}
        own: dict[str, Mapping[str, int]] = {}
        holders: dict[str, list[Holder]] = {}
        for server in sorted(system.servers, key=lambda each: each.name):
            if keeps:
                own[server.name] = counter.of(server.model, server.current)
            found = solution.allocations.get(server.name, server.current if keeps else None)
            taken = cards[server.name] = counter.of(server.model, found) if found else {}
            rank = ranks.get(server.service_class, LOWEST_PRIORITY)
            for card_type, count in taken.items():
                holders.setdefault(card_type, []).append(Holder(server.name, rank, count))
        return cls(
            capacity=system.capacity if limited else None,
            cards=cards,
            own=own,
            holders={
                card_type: sorted(each, key=lambda one: one.priority)
                for card_type, each in holders.items()
            },
            totals={
                card_type: sum(one.count for one in each) for card_type, each in holders.items()
            },
        )

    def room(self, server: str, card_type: str) -> int | None:
        """Cards of the type that `server` could have beside all others; None for any number."""
        if self.capacity is None or not card_type:
            return None
        free = self.capacity.get(card_type, 0) - self.totals.get(card_type, 0)
        room = max(free + self.cards.get(server, {}).get(card_type, 0), 0)
        return max(room, self.own.get(server, {}).get(card_type, 0))

    def others(self, server: str, card_type: str) -> tuple[Holder, ...]:
        """Who else has cards of the type, in order of priority and name."""
        return tuple(each for each in self.holders.get(card_type, ()) if each.server != server)


def named(servers: Iterable[str]) -> str:
    """A few names, and how many more there are."""
    names = list(servers)
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
