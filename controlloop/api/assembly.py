"""Puts what the stages found together into the system to optimize."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from controlloop.api.cards import CardCounter
from controlloop.api.decision import Estimate, Forecast, Situation
from controlloop.api.holds import Forbids, Hold, HoldReason
from controlloop.api.observation import Observation, ServerObservation, Workload
from controlloop.api.readings import value_of
from controlloop.api.system import (
    Accelerator,
    Allocation,
    Load,
    PerfParameters,
    Server,
    ServiceClass,
    System,
)


def assemble(
    now: float,
    since: float,
    catalog: System,
    observation: Observation,
    estimate: Estimate,
    forecast: Forecast,
    drain_time_s: float,
) -> Situation:
    """The situation of this cycle: the catalog with every observed server in it.

    Args:
        now: the cycle's time, seconds since the epoch.
        since: since when this process has been in control without a break.
        catalog: accelerators, capacity, classes and options of the files.
        observation: what was seen; its capacity, where it has one, replaces the catalog's.
        estimate: the parameters to plan with.
        forecast: the loads to size for.
        drain_time_s: the time in which requests that wait now are to be served; 0 ignores them.

    """
    index = _Index.of(replace(catalog, perf=estimate.perf))
    servers = tuple(
        _server(index, server, forecast.loads.get(server.name), drain_time_s)
        for server in observation.servers
    )
    holds = {
        server.name: server.all_holds + _unknowns(index, server.workload)
        for server in observation.servers
    }
    capacity = catalog.capacity if observation.capacity is None else observation.capacity
    system = replace(catalog, perf=estimate.perf, servers=servers, capacity=capacity)
    system = replace(system, capacity=_found(system, observation))
    return Situation(now, since, system, _with_load_known(holds, forecast), observation)


def _found(system: System, observation: Observation) -> Mapping[str, int]:
    """The cards without those that pods wait for in vain: they are said to be there, and are not.

    Cards that were counted on nodes are there all the same; which replicas fit them is seen there.
    """
    counter, cards = CardCounter(system), dict(system.capacity)
    for each in observation.servers:
        one = counter.of_replica(each.workload.model, each.workload.accelerator)
        if one is None or not each.unplaced or one.card_type not in cards:
            continue
        if observation.nodes is None or one.card_type in observation.elastic:
            left = cards[one.card_type] - each.unplaced * one.count
            cards[one.card_type] = max(left, 0)
    return cards


def unknown_names(catalog: System, workload: Workload) -> tuple[Hold, ...]:
    """What a catalog does not say of a server; each keeps the server as it is."""
    return _unknowns(_Index.of(catalog), workload)


@dataclass(frozen=True, slots=True)
class _Index:
    """The catalog by name."""

    accelerators: Mapping[str, Accelerator]
    classes: Mapping[str, ServiceClass]
    perf: Mapping[tuple[str, str], PerfParameters]
    models: frozenset[str]

    @classmethod
    def of(cls, catalog: System) -> _Index:
        return cls(
            accelerators={accelerator.name: accelerator for accelerator in catalog.accelerators},
            classes={service.name: service for service in catalog.classes},
            perf={(perf.model, perf.accelerator): perf for perf in catalog.perf},
            models=frozenset(perf.model for perf in catalog.perf),
        )


def _server(
    index: _Index, seen: ServerObservation, load: Load | None, drain_time_s: float
) -> Server:
    workload = seen.workload
    waiting = value_of(seen.signals.waiting) or 0.0
    return Server(
        name=workload.server,
        model=workload.model,
        service_class=workload.service_class,
        keep_accelerator=workload.keep_accelerator,
        max_batch=workload.max_batch,
        current=Allocation(
            accelerator=workload.accelerator,
            replicas=workload.replicas,
            max_batch=workload.max_batch,
            cost_per_hour=_cost_per_hour(index, workload),
            itl_ms=value_of(seen.signals.itl_ms) or 0.0,
            ttft_ms=value_of(seen.signals.ttft_ms) or 0.0,
            load=load or Load(),
        ),
        backlog_rps=waiting / drain_time_s if drain_time_s > 0 else 0.0,
    )


def _cost_per_hour(index: _Index, workload: Workload) -> float:
    accelerator = index.accelerators.get(workload.accelerator)
    if accelerator is None:
        return 0.0
    perf = index.perf.get((workload.model, workload.accelerator))
    per_replica = 1 if perf is None else perf.accelerators_per_replica
    return workload.replicas * per_replica * accelerator.cost_per_hour


def _unknowns(index: _Index, workload: Workload) -> tuple[Hold, ...]:
    """What the data does not say of a server; each keeps the server as it is."""
    found: list[Hold] = []
    if workload.model not in index.models:
        found.append(_keep(HoldReason.UNKNOWN_MODEL, f"no performance data of {workload.model!r}"))
    service = index.classes.get(workload.service_class)
    if service is None:
        known = ", ".join(index.classes) or "none"
        detail = f"no service class {workload.service_class!r}; known: {known}"
        found.append(_keep(HoldReason.UNKNOWN_CLASS, detail))
    elif service.target(workload.model) is None:
        detail = f"class {service.name!r} has no target for model {workload.model!r}"
        found.append(_keep(HoldReason.UNKNOWN_MODEL, detail))
    if workload.accelerator not in index.accelerators:
        known = ", ".join(index.accelerators) or "none"
        detail = f"no accelerator {workload.accelerator!r}; known: {known}"
        found.append(_keep(HoldReason.UNKNOWN_ACCELERATOR, detail))
    return tuple(found)


def _keep(reason: HoldReason, detail: str) -> Hold:
    return Hold(reason, Forbids.CHANGE, detail)


def _with_load_known(
    holds: Mapping[str, tuple[Hold, ...]], forecast: Forecast
) -> Mapping[str, tuple[Hold, ...]]:
    """No load is never assumed: a server without one, and without another reason, holds."""
    unknown = Hold(HoldReason.SIGNAL_MISSING, Forbids.CHANGE, "its load is not known")
    return {
        name: own
        if name in forecast.loads or any(hold.forbids is Forbids.CHANGE for hold in own)
        else (*own, unknown)
        for name, own in holds.items()
    }
