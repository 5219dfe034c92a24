"""How well a run did: attainment, cost, changes, overload, queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.backtest.run import Run
from controlloop.simulator.scoring import objectives, replica_costs
from controlloop.units import SECONDS_PER_HOUR, hours_from_s

LEVELS: Final = (0.5, 0.9, 0.95, 0.99)
_OVERLOAD_WINDOW_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Group:
    """The requests of a class, or all: shares within objectives 0..1, latencies by percentile.

    `ttft_ms` and `itl_ms` are at `LEVELS`; infinite where so many were never served.
    """

    name: str
    requests: float
    within_ttft: float
    within_itl: float
    within_both: float
    ttft_ms: tuple[float, ...]
    itl_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Metrics:
    """A run in numbers, warm-up left out.

    Attributes:
        overall: every request.
        classes: by class, in order of priority.
        cost: of all replicas that held cards, in cents.
        card_hours: hours of cards held.
        changes_per_hour: of replicas, mean over servers.
        most_changes: of one server in any hour.
        overload: share of time, mean over servers, in which more arrived than could be served.
        worst_queue: requests that waited at one server at once.
        failures: cycles of control that failed.

    """

    overall: Group
    classes: tuple[Group, ...]
    cost: float
    card_hours: float
    changes_per_hour: float
    most_changes: int
    overload: float
    worst_queue: float
    failures: int

    @property
    def attainment(self) -> float:
        """The share of all requests within both objectives."""
        return self.overall.within_both


def measure(run: Run) -> Metrics:
    """Judge a run by the objectives and prices of its scenario's catalog."""
    scenario = run.scenario
    counted = run.times > scenario.from_s
    hours = scenario.hours
    step_h = hours_from_s(run.step_s)
    prices = replica_costs(scenario.servers, scenario.catalog)
    held_h = run.held[counted].sum(axis=0) * step_h
    moved = Counter(one.server for one in run.moves if one.time >= scenario.from_s)
    return Metrics(
        overall=_group("all", run, [one.name for one in scenario.servers]),
        classes=_classes(run),
        cost=float(held_h @ prices),
        card_hours=float(held_h @ _cards(run)),
        changes_per_hour=sum(moved.values()) / hours / len(scenario.servers),
        most_changes=max((_most_in_an_hour(run, name) for name in moved), default=0),
        overload=float(np.mean(_overloaded(run)[counted])),
        worst_queue=float(np.max(run.waiting[counted])),
        failures=len(run.failures),
    )


def cost_cents_per_hour(run: Run) -> FloatArray:
    """Cost of the replicas that hold cards, step by step: (steps,)."""
    return np.asarray(run.held @ replica_costs(run.scenario.servers, run.scenario.catalog))


def within_objectives(run: Run) -> tuple[BoolArray, BoolArray]:
    """Whether the TTFT, and whether the ITL, of each entry of `run.served` is within."""
    aims = objectives(run.scenario.servers, run.scenario.catalog)
    served = run.served
    return (
        np.asarray(served.ttft_ms <= aims.ttft_ms[served.server], dtype=np.bool_)
        & np.isfinite(served.ttft_ms),
        np.asarray(served.itl_ms <= aims.itl_ms[served.server], dtype=np.bool_)
        & np.isfinite(served.itl_ms),
    )


def document(metrics: Metrics) -> Mapping[str, object]:
    """As JSON: camel case, cost in dollars; a latency that is not finite is null."""
    return {
        **_group_document(metrics.overall),
        "classes": [_group_document(one) for one in metrics.classes],
        "cost": metrics.cost / 100.0,
        "gpuHours": metrics.card_hours,
        "changesPerHour": metrics.changes_per_hour,
        "mostChangesInAnHour": metrics.most_changes,
        "overload": metrics.overload,
        "worstQueue": metrics.worst_queue,
        "failedCycles": metrics.failures,
    }


def percentiles(values: FloatArray, weight: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """Weighted percentiles: the least value that at least so much of the weight is at or below.

    0 where there is no weight.
    """
    total = float(np.sum(weight))
    if total <= 0:
        return np.zeros(len(levels))
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order]) / total
    at = np.searchsorted(below, np.asarray(levels) - 1e-12)
    return np.asarray(values[order][np.minimum(at, len(order) - 1)], dtype=np.float64)


def _classes(run: Run) -> tuple[Group, ...]:
    scenario = run.scenario
    ranked = sorted(scenario.catalog.classes, key=lambda one: one.priority)
    members = {
        one.name: [server.name for server in scenario.servers if server.service_class == one.name]
        for one in ranked
    }
    return tuple(_group(name, run, servers) for name, servers in members.items() if servers)


def _group(name: str, run: Run, servers: list[str]) -> Group:
    served = run.served
    mine = np.array([one.name in servers for one in run.scenario.servers])
    rows = mine[served.server] & (served.time > run.scenario.from_s) & (served.weight > 0)
    weight = served.weight[rows]
    total = float(np.sum(weight))
    ttft, itl = (within[rows] for within in within_objectives(run))

    def share(within: BoolArray) -> float:
        return float(np.sum(weight * within)) / total if total > 0 else 1.0

    return Group(
        name=name,
        requests=total,
        within_ttft=share(ttft),
        within_itl=share(itl),
        within_both=share(ttft & itl),
        ttft_ms=tuple(percentiles(served.ttft_ms[rows], weight, LEVELS).tolist()),
        itl_ms=tuple(percentiles(served.itl_ms[rows], weight, LEVELS).tolist()),
    )


def _cards(run: Run) -> FloatArray:
    """Cards of one replica of each server: (servers,)."""
    catalog = run.scenario.catalog
    multiplicity = {one.name: one.multiplicity for one in catalog.accelerators}
    units = {(one.model, one.accelerator): one.accelerators_per_replica for one in catalog.perf}
    return np.array(
        [
            units[one.model, one.accelerator] * multiplicity[one.accelerator]
            for one in run.scenario.servers
        ],
        dtype=np.float64,
    )


def _overloaded(run: Run) -> BoolArray:
    """Whether more arrived, over half a minute, than what was ready can complete."""
    width = max(round(_OVERLOAD_WINDOW_S / run.step_s), 1)
    sums = np.cumsum(np.vstack([np.zeros(run.arrived.shape[1]), run.arrived]), axis=0)
    first = np.maximum(np.arange(1, len(sums)) - width, 0)
    spans = (np.arange(1, len(sums)) - first) * run.step_s
    rates = (sums[1:] - sums[first]) / spans[:, None]
    able = run.ready * np.array([one.most_rps for one in run.scenario.capability])
    return np.asarray(rates > able, dtype=np.bool_)


def _most_in_an_hour(run: Run, server: str) -> int:
    times = np.array(
        [one.time for one in run.moves if one.server == server and one.time >= run.scenario.from_s]
    )
    after = np.searchsorted(times, times + SECONDS_PER_HOUR)
    return int(np.max(after - np.arange(len(times))))


def _group_document(group: Group) -> Mapping[str, object]:
    def latencies(values: tuple[float, ...]) -> Mapping[str, float | None]:
        shown = [value if np.isfinite(value) else None for value in values]
        return dict(zip((f"p{level * 100:g}" for level in LEVELS), shown, strict=True))

    return {
        "name": group.name,
        "requests": group.requests,
        "withinTtft": group.within_ttft,
        "withinItl": group.within_itl,
        "withinBoth": group.within_both,
        "ttftMs": latencies(group.ttft_ms),
        "itlMs": latencies(group.itl_ms),
    }
