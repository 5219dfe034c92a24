"""What a server on several accelerators needs of its own, and what a mix costs. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from controlloop.api.observation import ServerObservation, Signals, Workload
from controlloop.api.readings import Present, Reading, Stale
from controlloop.api.system import System
from controlloop.stability.choosing import Spot
from controlloop.stability.windows import NeedsOf

ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Part:
    """Replicas of one accelerator, and how many of them alone the whole load would need.

    `needed` None is not known: they are then counted as if they carried nothing.
    """

    replicas: int
    needed: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A server with what is to become of its siblings, in one cycle.

    Attributes:
        seen: the server.
        targets: replicas that each sibling is to have, by accelerator.
        why: the reason for which it may have no siblings, "" where it may.
        needed: replicas of its own accelerator that its whole load needs; None not known.
        rest: those that its load needs beside what its siblings carry; None not known.
        held: whether nothing of it may change.

    """

    seen: ServerObservation
    targets: Mapping[str, int]
    why: str = ""
    needed: float | None = None
    rest: float | None = None
    held: bool = False

    @property
    def share(self) -> float:
        """The part of the load that its own replicas carry; all where that is not known."""
        return self.rest / self.needed if self.needed and self.rest is not None else 1.0


@dataclass(frozen=True, slots=True)
class Mix:
    """Replicas of siblings, and those of the server's own that its load needs beside them."""

    siblings: Mapping[Spot, int]
    own: int
    cost_per_hour: float

    @property
    def replicas(self) -> int:
        """Of all together."""
        return self.own + sum(self.siblings.values())


def spot_of(workload: Workload) -> Spot:
    """What a workload runs on."""
    return Spot(workload.accelerator, workload.max_batch)


def running(standing: Standing) -> Mapping[Spot, int]:
    """What a server's siblings run."""
    return {spot_of(each): each.replicas for each in standing.seen.siblings}


def needs_by_spot(
    system: System, spots: Mapping[str, Collection[Spot]], needs_of: NeedsOf
) -> Mapping[tuple[str, Spot], float]:
    """Replicas that each server's whole load would need of each of its spots alone.

    Absent where nothing tells, or no number of them meets the targets.
    """
    asked: dict[str, tuple[str, Spot]] = {}
    servers = []
    for at, server in enumerate(system.servers):
        for number, spot in enumerate(spots.get(server.name, ())):
            name = f"{at}/{number}"
            asked[name] = server.name, spot
            current = replace(
                server.current,
                accelerator=spot.accelerator,
                max_batch=spot.max_batch,
                replicas=1,
                variants=(),
            )
            servers.append(replace(server, name=name, keep_accelerator=False, current=current))
    found = needs_of(replace(system, servers=tuple(servers))) if servers else {}
    return {asked[name]: need for name, need in found.items()}


def rest_needed(home_needed: float, parts: Iterable[Part], *, even: bool) -> float:
    """Replicas of a server's own accelerator that its load needs beside other parts.

    Args:
        home_needed: what the whole load would need of it alone.
        parts: what else serves.
        even: whether every replica gets as many requests as any other, however slow: then as many
            are needed as if all were of the slowest kind. Otherwise each gets what it can do.

    """
    known = [(each.replicas, each.needed) for each in parts if each.replicas > 0]
    if even:
        slowest = max([home_needed, *(needed for _, needed in known if needed is not None)])
        return max(slowest - sum(count for count, needed in known if needed is not None), 0.0)
    carried = sum(count / needed for count, needed in known if needed)
    return home_needed * max(1.0 - carried, 0.0)


def whole(needed: float) -> int:
    """So many replicas do; what arithmetic leaves over is no further one."""
    return math.ceil(needed - ROUNDING)


class Prices:
    """Cents/hour of one replica of a model on an accelerator, by the data of a system."""

    def __init__(self, system: System) -> None:
        self._costs = {each.name: each.cost_per_hour for each in system.accelerators}
        self._units = {
            (each.model, each.accelerator): each.accelerators_per_replica for each in system.perf
        }

    def of(self, model: str, accelerator: str) -> float:
        """Infinite for an accelerator that nobody knows: no mix with it ever pays."""
        units = self._units.get((model, accelerator), 1)
        return self._costs.get(accelerator, math.inf) * units


def own_share(seen: ServerObservation) -> ServerObservation:
    """The server with its own pods' part of the requests inside, by the places that they have.

    What shows overload is compared with the replicas of the server's own Deployment.
    """
    serving = (seen.workload, *seen.siblings)
    batches_known = all(each.max_batch for each in serving)
    places = [each.ready_replicas * (each.max_batch if batches_known else 1) for each in serving]
    share = places[0] / sum(places) if any(places) else 1.0
    signals: Signals = replace(
        seen.signals,
        running=_scaled(seen.signals.running, share),
        waiting=_scaled(seen.signals.waiting, share),
    )
    return replace(seen, signals=signals)


def _scaled(reading: Reading, share: float) -> Reading:
    if isinstance(reading, Present | Stale):
        return replace(reading, value=reading.value * share)
    return reading
