"""What one more card of each type would change, by solving again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from controlloop.api.explanation import ShadowPrice
from controlloop.api.solution import Solution
from controlloop.api.system import System

Resolve: TypeAlias = Callable[[Mapping[str, int]], Solution]
# A difference of totals that is less than their rounding is none.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class _Change:
    """What a solution with one more card differs in from the one before."""

    card_type: str
    solution: Solution
    saving: float | None
    newly_served: tuple[str, ...]
    no_longer_served: tuple[str, ...]


def changes_by_card(
    system: System, solution: Solution, resolve: Resolve
) -> Callable[[str], tuple[ShadowPrice, ...]]:
    """Solves once for each type of card; then tells each server's shadow prices.

    Args:
        system: with the capacity that `solution` was found for.
        solution: what it is compared with.
        resolve: solves the same with another capacity.

    """
    before = _whole(solution)
    changes = []
    for card_type in dict.fromkeys(each.type for each in system.accelerators):
        more = {**system.capacity, card_type: system.capacity.get(card_type, 0) + 1}
        found = resolve(more)
        after = _whole(found)
        saving = solution.objective - found.objective
        if abs(saving) <= _ROUNDING * abs(solution.objective):
            saving = 0.0
        change = _Change(
            card_type=card_type,
            solution=found,
            saving=saving if after == before else None,
            newly_served=tuple(sorted(after - before)),
            no_longer_served=tuple(sorted(before - after)),
        )
        changes.append(change)

    def prices(server: str) -> tuple[ShadowPrice, ...]:
        now = solution.allocations.get(server)
        return tuple(
            ShadowPrice(
                each.card_type,
                each.saving,
                each.newly_served,
                each.no_longer_served,
                None if (then := each.solution.allocations.get(server)) == now else then,
            )
            for each in changes
        )

    return prices


def _whole(solution: Solution) -> set[str]:
    """Servers that are served whole."""
    return set(solution.allocations) - {each.server for each in solution.unserved}
