"""Who has which cards, while allocations are being worked out.

Cards of a type are committed (to those whose allocation is settled), held (by those who run on
them and are not settled yet) or free. When capacity shrinks below what runs, free is negative:
then nobody grows, and nobody loses anything for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlloop.api.cards import CardCounter
from controlloop.api.system import System


@dataclass(frozen=True, slots=True)
class Running:
    """What a server runs on, in cards."""

    card_type: str
    cards_per_replica: int
    replicas: int

    @property
    def cards(self) -> int:
        """Cards of all replicas."""
        return self.cards_per_replica * self.replicas


def running_cards(system: System) -> list[tuple[str, Running]]:
    """What each server of `system` runs on, by name; one on an unknown accelerator is left out.

    Two servers of one name are two entries: each has its cards.
    """
    counter = CardCounter(system)
    found: list[tuple[str, Running]] = []
    for server in system.servers:
        current = server.current
        one = counter.of_replica(server.model, current.accelerator)
        if one is not None and current.replicas > 0:
            found.append((server.name, Running(one.card_type, one.count, current.replicas)))
    return found


@dataclass(slots=True)
class Holding:
    """What a server that is not settled has of one type.

    Attributes:
        server: its name.
        priority: of its class.
        card_type: the type.
        cards_per_replica: what one replica takes.
        replicas: what it has now.
        before: what it ran when the cycle began.
        row: the candidate that is its accelerator, -1 where that is no candidate.
        floor: replicas that nobody may take from it.
        takers: who took replicas from it, in order.

    """

    server: str
    priority: int
    card_type: str
    cards_per_replica: int
    replicas: int
    before: int
    row: int = -1
    floor: int = 0
    takers: list[str] = field(default_factory=list)

    @property
    def cards(self) -> int:
        """Cards of all replicas."""
        return self.cards_per_replica * self.replicas

    @property
    def spare(self) -> int:
        """Replicas that may be taken from it."""
        return max(self.replicas - self.floor, 0)


class Ledger:
    """Cards by type: capacity, committed, held.

    Servers are settled in order of priority, highest first: cards go up, never down.

    Args:
        capacity: cards of each type that there are.
        committed: cards of each type that are not to be touched.
        holdings: what runs besides, in the hands of those who are not settled yet.

    """

    def __init__(
        self,
        capacity: Mapping[str, int],
        committed: Mapping[str, int],
        holdings: Iterable[Holding],
    ) -> None:
        self._free = Counter(capacity)
        self._free.subtract(committed)
        self._holdings = {each.server: each for each in holdings}
        # Cards that may be taken, by type and priority.
        self._spare: dict[str, Counter[int]] = {}
        # Who may be asked for cards of a type, the first to be asked last.
        self._asked: dict[str, list[Holding]] = {}
        for each in self._holdings.values():
            self._free[each.card_type] -= each.cards
            self._count_spare(each, each.spare)
            self._asked.setdefault(each.card_type, []).append(each)
        for asked in self._asked.values():
            asked.sort(key=lambda each: (-each.priority, each.server), reverse=True)

    @property
    def holdings(self) -> Mapping[str, Holding]:
        """What is held, by server."""
        return self._holdings

    def free(self, card_type: str) -> int:
        """Cards neither committed nor held; negative where more run than there are."""
        return self._free[card_type]

    def trim(self, server: str, cards: int) -> None:
        """Let go of what `server` does not need to have `cards` of the type that it holds."""
        holding = self._holdings[server]
        enough = -(-cards // holding.cards_per_replica)
        if enough < holding.replicas:
            self._alter(holding, enough - holding.replicas)

    def shortfall(self, server: str, card_type: str, cards: int) -> int:
        """Cards that are missing before `server` can have `cards`; <= 0: it can.

        What it holds of the type counts as its own, and who does not grow needs nothing free.
        """
        holding = self._holdings.get(server)
        own = holding.cards if holding and holding.card_type == card_type else 0
        return 0 if cards <= own else cards - own - self.free(card_type)

    def reclaimable(self, card_type: str, priority: int) -> int:
        """Cards that a server of `priority` may take from those below it."""
        spare = self._spare.get(card_type, Counter())
        return sum(cards for below, cards in spare.items() if below > priority)

    def settle(self, server: str, priority: int, card_type: str, cards: int) -> None:
        """Commit `cards` to `server` and free what it held; takes what is short from below."""
        self._reclaim(card_type, priority, self.shortfall(server, card_type, cards), server)
        holding = self._holdings.pop(server, None)
        if holding is not None:
            self._free[holding.card_type] += holding.cards
            self._count_spare(holding, -holding.spare)
        self._free[card_type] -= cards

    def grow(self, holding: Holding, replicas: int) -> None:
        """Add replicas to a holding, which may be new; takes what is short from below."""
        short = replicas * holding.cards_per_replica - self.free(holding.card_type)
        self._reclaim(holding.card_type, holding.priority, short, holding.server)
        self._holdings[holding.server] = holding
        self._alter(holding, replicas)

    def _reclaim(self, card_type: str, priority: int, cards: int, taker: str) -> None:
        asked = self._asked.get(card_type, [])
        while cards > 0 and asked and asked[-1].priority > priority:
            holding = asked[-1]
            if self._holdings.get(holding.server) is not holding or not holding.spare:
                asked.pop()
                continue
            taken = min(holding.spare, -(-cards // holding.cards_per_replica))
            self._alter(holding, -taken)
            holding.takers.append(taker)
            cards -= taken * holding.cards_per_replica

    def _alter(self, holding: Holding, replicas: int) -> None:
        self._free[holding.card_type] -= replicas * holding.cards_per_replica
        self._count_spare(holding, -holding.spare)
        holding.replicas += replicas
        self._count_spare(holding, holding.spare)

    def _count_spare(self, holding: Holding, replicas: int) -> None:
        spare = self._spare.setdefault(holding.card_type, Counter())
        spare[holding.priority] += replicas * holding.cards_per_replica
