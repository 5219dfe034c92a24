"""The replicas of a plant's servers: they wait for cards, start up, serve, drain, and are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controlloop.api.observation import Pod


class Phase(StrEnum):
    """Where a replica stands in its life."""

    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(slots=True)
class Replica:
    """One replica. `until` ends its phase; `in_service` is what a draining one still serves."""

    name: str
    created_at: float
    phase: Phase = Phase.PENDING
    since: float = 0.0
    until: float = 0.0
    ready_since: float | None = None
    in_service: float = 0.0

    @property
    def holds_cards(self) -> bool:
        """Whether cards are its own."""
        return self.phase is not Phase.PENDING

    def enter(self, phase: Phase, now: float, until: float) -> None:
        """Begin a phase."""
        self.phase, self.since, self.until = phase, now, until
        if phase is Phase.READY:
            self.ready_since = now

    def pod(self) -> Pod:
        """As Kubernetes shows it."""
        pending = self.phase is Phase.PENDING
        return Pod(
            name=self.name,
            uid=self.name,
            phase="Pending" if pending else "Running",
            ready=self.phase in (Phase.READY, Phase.DRAINING),
            scheduled=not pending,
            started_at=None if pending else self.created_at,
            ready_since=self.ready_since,
            terminating=self.phase is Phase.DRAINING,
        )


@dataclass(slots=True)
class ReplicaSet:
    """The replicas of one server. `cards` of one `card_type` each; `startup_s` to start.

    `draw_startup_s` gives the time of each replica where they differ.
    """

    server: str
    card_type: str
    cards: int
    startup_s: float
    wanted: int = 0
    members: list[Replica] = field(default_factory=list)
    made: int = 0
    draw_startup_s: Callable[[], float] | None = None

    def count(self, *phases: Phase) -> int:
        """Replicas in any of `phases`."""
        return sum(member.phase in phases for member in self.members)

    @property
    def held_cards(self) -> int:
        """Cards that its replicas hold."""
        return self.cards * sum(member.holds_cards for member in self.members)

    def fill(self, now: float, *, ready: bool = False) -> None:
        """Ask for as many new replicas as are missing; `ready` ones serve at once."""
        while self.count(Phase.PENDING, Phase.STARTING, Phase.READY) < self.wanted:
            self.made += 1
            member = Replica(f"{self.server}-{self.made}", now, since=now)
            if ready:
                member.enter(Phase.READY, now, now)
            self.members.append(member)

    def surplus(self) -> list[Replica]:
        """Replicas above `wanted`: those that do not serve first, then the youngest."""
        order = (Phase.PENDING, Phase.STARTING, Phase.READY)
        alive = [member for member in reversed(self.members) if member.phase in order]
        alive.sort(key=lambda member: (order.index(member.phase), -member.since))
        return alive[: max(len(alive) - self.wanted, 0)]

    def settle(self, now: float) -> None:
        """Starting replicas whose time has come serve; drained ones are gone."""
        for member in self.members:
            if member.phase is Phase.STARTING and member.until <= now:
                member.enter(Phase.READY, now, now)
        self.members = [
            member
            for member in self.members
            if not (member.phase is Phase.DRAINING and member.until <= now)
        ]


def schedule(sets: Iterable[ReplicaSet], capacity: Mapping[str, int], now: float) -> None:
    """Give free cards to pending replicas, oldest first; one that does not fit waits."""
    sets = tuple(sets)
    free = dict(capacity)
    for one in sets:
        free[one.card_type] = free.get(one.card_type, 0) - one.held_cards
    waiting = [
        (member.created_at, one.server, member, one)
        for one in sets
        for member in one.members
        if member.phase is Phase.PENDING
    ]
    for _, _, member, one in sorted(waiting, key=lambda entry: entry[:2]):
        if one.cards <= free[one.card_type]:
            free[one.card_type] -= one.cards
            startup_s = one.draw_startup_s() if one.draw_startup_s else one.startup_s
            member.enter(Phase.STARTING, now, now + startup_s)
