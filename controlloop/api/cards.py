"""How many cards allocations take, by type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from controlloop.api.system import Accelerator, Allocation, System


@dataclass(frozen=True, slots=True)
class Cards:
    """So many cards of one type."""

    card_type: str
    count: int


class CardCounter:
    """Counts cards by the data of a system.

    Without performance data a replica is taken to use one accelerator.
    """

    def __init__(self, system: System) -> None:
        self._accelerators: Mapping[str, Accelerator] = {
            each.name: each for each in system.accelerators
        }
        self._units = {
            (perf.model, perf.accelerator): perf.accelerators_per_replica for perf in system.perf
        }
        self._models = {server.name: server.model for server in system.servers}

    def of_replica(self, model: str, accelerator: str) -> Cards | None:
        """Cards of one replica; None where the accelerator is not known."""
        found = self._accelerators.get(accelerator)
        if found is None:
            return None
        return Cards(found.type, self._units.get((model, accelerator), 1) * found.multiplicity)

    def of(self, model: str, allocation: Allocation) -> Counter[str]:
        """Cards of each type that an allocation takes; accelerators not known take none."""
        taken: Counter[str] = Counter()
        for part in allocation.variants or (allocation,):
            one = self.of_replica(model, part.accelerator)
            if one is not None and part.replicas > 0:
                taken[one.card_type] += one.count * part.replicas
        return taken

    def used(self, allocations: Mapping[str, Allocation]) -> Counter[str]:
        """Cards of each type that allocations by server take in all."""
        taken: Counter[str] = Counter()
        for name, allocation in allocations.items():
            taken += self.of(self._models.get(name, ""), allocation)
        return taken
