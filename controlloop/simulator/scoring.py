"""How well a fleet did: attainment of objectives, cost, and what it made of its cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.api.system import System, Target
from controlloop.simulator.history import History, percentile_of
from controlloop.simulator.plant import PlantServer
from controlloop.units import hours_from_s

# Shares of requests whose latencies are told.
LEVELS: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Attainment:
    """Requests of a group and the shares of them within their objectives, 0..1.

    A request is within by its own time to first token and its own mean time between tokens; one
    that was lost or never finished is not. Shares are 1 where there was no request to miss.
    """

    group: str
    requests: float
    within_ttft: float
    within_itl: float
    within_both: float


@dataclass(frozen=True, slots=True)
class CardUse:
    """Cards of one type: how many there are, and how many were held (mean, most)."""

    card_type: str
    capacity: int
    mean_held: float
    most_held: int


@dataclass(frozen=True, slots=True)
class ServerScore:
    """One server: its attainment, its replicas holding cards, and latencies at `LEVELS` in ms."""

    server: str
    attainment: Attainment
    least_replicas: int
    mean_replicas: float
    most_replicas: int
    ttft_ms: tuple[float, ...]
    itl_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A run as a whole. Costs in cents."""

    hours: float
    cost: float
    card_hours: float
    overall: Attainment
    classes: tuple[Attainment, ...]
    servers: tuple[ServerScore, ...]
    cards: tuple[CardUse, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Objectives:
    """Targets of each server in ms, infinite where there is none: (servers,)."""

    ttft_ms: FloatArray
    itl_ms: FloatArray

    def met(
        self, column: int, ttft_ms: FloatArray, itl_ms: FloatArray
    ) -> tuple[BoolArray, BoolArray]:
        """Whether the TTFT, and whether the ITL, of each request is within.

        Args:
            column: the requests' server.
            ttft_ms: (n,) their TTFT, infinite for one that was never served.
            itl_ms: (n,) their mean ITL, likewise.

        """
        return (
            np.asarray((ttft_ms <= self.ttft_ms[column]) & np.isfinite(ttft_ms), dtype=np.bool_),
            np.asarray((itl_ms <= self.itl_ms[column]) & np.isfinite(itl_ms), dtype=np.bool_),
        )


def objectives(servers: Sequence[PlantServer], catalog: System) -> Objectives:
    """What the classes of `catalog` ask of each server."""
    targets = [_target(catalog, server) for server in servers]
    return Objectives(
        ttft_ms=np.array([one.ttft_ms or np.inf for one in targets]),
        itl_ms=np.array([one.itl_ms or np.inf for one in targets]),
    )


def score(history: History, catalog: System) -> Score:
    """Judge a run by the objectives and prices of `catalog`.

    Classes are in order of priority, servers in the plant's order. Every replica that holds
    cards is paid for: starting and draining ones too.
    """
    class_of = np.array([server.service_class for server in history.servers])
    ranked = sorted(catalog.classes, key=lambda one: one.priority)
    everything = np.ones(len(history.servers), dtype=np.bool_)
    seconds = len(history.times) * history.step_s
    return Score(
        hours=hours_from_s(seconds),
        cost=float(np.sum(cost_rate(history, catalog)) * hours_from_s(history.step_s)),
        card_hours=float(np.sum(history.cards) * hours_from_s(history.step_s)),
        overall=_attainment("all", history, everything),
        classes=tuple(
            _attainment(one.name, history, class_of == one.name)
            for one in ranked
            if one.name in class_of
        ),
        servers=tuple(_server_score(history, column) for column in range(len(history.servers))),
        cards=_card_use(history, catalog.capacity),
    )


def cost_rate(history: History, catalog: System) -> FloatArray:
    """Cost of the replicas that hold cards, step by step, in cents/hour: (steps,)."""
    return np.asarray(history.held @ replica_costs(history.servers, catalog), dtype=np.float64)


def replica_costs(servers: Sequence[PlantServer], catalog: System) -> FloatArray:
    """Cost of one replica of each server, in cents/hour: (servers,)."""
    prices = {one.name: one.cost_per_hour for one in catalog.accelerators}
    units = {(one.model, one.accelerator): one.accelerators_per_replica for one in catalog.perf}
    return np.array(
        [units[one.model, one.accelerator] * prices[one.accelerator] for one in servers]
    )


def _target(catalog: System, server: PlantServer) -> Target:
    service = next((one for one in catalog.classes if one.name == server.service_class), None)
    found = None if service is None else service.target(server.model)
    return found or Target(server.model)


def _attainment(group: str, history: History, columns: BoolArray) -> Attainment:
    requests = float(np.sum(history.arrived[:, columns]))

    def share(within: FloatArray) -> float:
        return float(np.sum(within[:, columns])) / requests if requests > 0 else 1.0

    return Attainment(
        group=group,
        requests=requests,
        within_ttft=share(history.within_ttft),
        within_itl=share(history.within_itl),
        within_both=share(history.within_both),
    )


def _server_score(history: History, column: int) -> ServerScore:
    name = history.servers[column].name
    only = np.arange(len(history.servers)) == column
    held = history.held[:, column]
    return ServerScore(
        server=name,
        attainment=_attainment(name, history, only),
        least_replicas=int(np.min(held)),
        mean_replicas=float(np.mean(held)),
        most_replicas=int(np.max(held)),
        ttft_ms=tuple(percentile_of(history.ttft_bins[column], level) for level in LEVELS),
        itl_ms=tuple(percentile_of(history.itl_bins[column], level) for level in LEVELS),
    )


def _card_use(history: History, capacity: Mapping[str, int]) -> tuple[CardUse, ...]:
    return tuple(
        CardUse(
            card_type=kind,
            capacity=capacity.get(kind, 0),
            mean_held=float(np.mean(history.cards[:, column])),
            most_held=int(np.max(history.cards[:, column])),
        )
        for column, kind in enumerate(history.card_types)
    )
