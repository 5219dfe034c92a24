"""Which new replicas find a node: two of 8 cards do not fit four nodes of 4. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from controlloop.api.cards import Cards
from controlloop.api.node_cards import NodeCards
from controlloop.api.observation import Observation, Workload


@dataclass(frozen=True, slots=True)
class Room:
    """Where new replicas can go.

    Attributes:
        nodes: free cards of each node.
        waiting: by server, replicas that were asked for and are on no node yet.
        elastic: types of which nodes are added where pods wait; they are not bound by nodes.

    """

    nodes: tuple[NodeCards, ...]
    waiting: Mapping[str, int]
    elastic: tuple[str, ...] = ()

    def freest(self, card_type: str) -> int:
        """The most cards of a type that are free on one node."""
        return max((each.free for each in self.nodes if each.card_type == card_type), default=0)


@dataclass(frozen=True, slots=True)
class Ask:
    """So many more replicas of one server, each with all of its `cards` on one node."""

    server: str
    priority: int
    cards: Cards
    replicas: int


def room_of(observation: Observation) -> Room | None:
    """What the nodes leave; None where cards were not counted on nodes."""
    if observation.nodes is None:
        return None
    waiting = {each.name: unplaced_replicas(each.workload) for each in observation.servers}
    return Room(observation.nodes, waiting, observation.elastic)


def place(
    room: Room, waiting: Iterable[Ask], growth: Iterable[Ask], freed: Iterable[Cards] = ()
) -> Mapping[str, int]:
    """How many replicas of each server's growth find a node.

    Those that wait already go first, then growth in order of priority; within one priority the
    greatest replicas go first, each to the node that it leaves the least on.

    Args:
        room: what is free.
        waiting: replicas that wait for a node already; they are nobody's growth.
        growth: replicas to add.
        freed: cards of each replica that the same plan takes away: together on some node.

    """
    free: dict[str, list[int]] = {}
    for each in room.nodes:
        free.setdefault(each.card_type, []).append(each.free)
    for cards in freed:
        free.setdefault(cards.card_type, []).append(cards.count)
    for ask in sorted(waiting, key=_order):
        _fill(free, ask, room)
    return {ask.server: _fill(free, ask, room) for ask in sorted(growth, key=_order)}


def less(
    nodes: tuple[NodeCards, ...], cards: Cards, replicas: int, elastic: Collection[str] = ()
) -> tuple[NodeCards, ...]:
    """The nodes without the cards that so many replicas, which wait for a node, are to have."""
    left = replicas if cards.card_type not in elastic and cards.count > 0 else 0
    free = {at: each.free for at, each in enumerate(nodes) if each.card_type == cards.card_type}
    for at in sorted(free, key=lambda each: free[each]):
        here = min(free[at] // max(cards.count, 1), left)
        free[at] -= here * cards.count
        left -= here
    return tuple(
        replace(each, free=free[at]) if at in free else each for at, each in enumerate(nodes)
    )


def unplaced_replicas(workload: Workload) -> int:
    """Replicas that are asked for and are on no node yet."""
    placed = sum(pod.scheduled and not pod.terminating for pod in workload.pods)
    return max(workload.replicas - placed, 0)


def _fill(free: dict[str, list[int]], ask: Ask, room: Room) -> int:
    """Place as many as fit; takes their cards out of `free`."""
    need = ask.cards.count
    if ask.cards.card_type in room.elastic or need <= 0:
        return max(ask.replicas, 0)
    nodes = free.setdefault(ask.cards.card_type, [])
    placed = 0
    for at in sorted(range(len(nodes)), key=lambda each: nodes[each]):
        here = min(nodes[at] // need, ask.replicas - placed)
        if here > 0:
            nodes[at] -= here * need
            placed += here
    return placed


def _order(ask: Ask) -> tuple[int, int, str]:
    return ask.priority, -ask.cards.count, ask.server
