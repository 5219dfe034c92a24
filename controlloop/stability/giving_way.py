"""Reclaim order: whose windows give way when cards are short.

Replicas that only steadiness keeps are the first to be asked for: those of the lowest priority
before others, and among equals where there are most. Replicas that a load needs are given up only
to servers of higher priority, which the optimizer decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What one server would have of its cards.

    Attributes:
        server: its name.
        priority: of its class, 1 is the highest.
        card_type: what it runs on.
        cards: of one replica.
        current: replicas now.
        needed: those that its load, its bounds and the evidence ask for.
        kept: those with what steadiness keeps; at least `needed`.

    """

    server: str
    priority: int
    card_type: str
    cards: int
    current: int
    needed: int
    kept: int


def who_gives_way(
    claims: Iterable[Claim], capacity: Mapping[str, int]
) -> Mapping[str, tuple[str, ...]]:
    """Servers whose steadiness gives way, each with the servers that it gives way to.

    Nobody gives way where nobody grows: fewer cards alone evict nobody.
    """
    by_type: dict[str, list[Claim]] = {}
    for claim in claims:
        by_type.setdefault(claim.card_type, []).append(claim)
    giving: dict[str, tuple[str, ...]] = {}
    for card_type, rivals in by_type.items():
        short = sum(each.kept * each.cards for each in rivals) - capacity.get(card_type, 0)
        growing = [each for each in rivals if each.kept > each.current]
        short = min(short, sum((each.kept - each.current) * each.cards for each in growing))
        takers = tuple(sorted(each.server for each in growing))
        for each in sorted(rivals, key=_reclaim_order):
            if short <= 0:
                break
            spare = (each.kept - max(each.needed, 0)) * each.cards
            if spare > 0 and each.kept <= each.current:
                giving[each.server] = takers
                short -= spare
    return giving


def _reclaim_order(claim: Claim) -> tuple[int, int, str]:
    return -claim.priority, -(claim.kept - claim.needed) * claim.cards, claim.server
