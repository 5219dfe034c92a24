"""From bounds and holds to what the optimizer may choose of one server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlloop.api.decision import ServerConstraint
from controlloop.api.holds import Forbids, Hold
from controlloop.api.observation import Workload


@dataclass(frozen=True, slots=True)
class ReplicaBounds:
    """What bounds every server that does not say otherwise of itself.

    Attributes:
        least: never fewer; at least 1, since nothing shows demand at zero replicas.
        most: never more; None is no upper bound.

    """

    least: int = 1
    most: int | None = None

    def of(self, workload: Workload) -> tuple[int, int | None]:
        """The bounds of one workload: its own where it has them."""
        least = self.least if workload.min_replicas is None else workload.min_replicas
        most = self.most if workload.max_replicas is None else workload.max_replicas
        return max(least, 1), most


def constraint_of(
    workload: Workload, bounds: ReplicaBounds, holds: Iterable[Hold]
) -> ServerConstraint:
    """What bounds the optimizer for one workload.

    Its accelerator and batch are held as they run: nothing that may be asked for could make
    another one real, and labels must say what runs.
    """
    holds = tuple(holds)
    current = workload.replicas
    least, most = bounds.of(workload)
    for hold in holds:
        limit = current if hold.limit is None else hold.limit
        if hold.forbids is not Forbids.INCREASE:
            least = max(least, limit)
        if hold.forbids is not Forbids.DECREASE:
            most = limit if most is None else min(most, limit)
    return ServerConstraint(
        min_replicas=least,
        # A floor that safety asks for stands above a ceiling that thrift asks for.
        max_replicas=None if most is None else max(most, least),
        accelerator=workload.accelerator,
        max_batch=workload.max_batch or None,
        keep=any(hold.forbids is Forbids.CHANGE for hold in holds),
    )
