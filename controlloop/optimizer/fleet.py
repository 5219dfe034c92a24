"""Servers as arrays: what each one is asked to do, and within which bounds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Final

import numpy as np

from controlloop.api.decision import ServerConstraint
from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.api.solution import Unserved, UnservedReason
from controlloop.api.system import NO_ACCELERATOR, Server, ServiceClass, System, Target
from controlloop.units import PERCENT

UNBOUNDED: Final = 2**62
ANY_ACCELERATOR: Final = -1

Choices = Mapping[int, tuple[int, ...]]
"""Maximum batches to choose from, by position of the accelerator; the preferred one first."""


class DemandRule(Enum):
    """What a server's demand is.

    DOCUMENTED: a TPS target replaces the arrivals, and no load is what the data says.
    LOOP: the greater of both, plus the backlog; arrivals without a known output length are
    not "no load".
    """

    DOCUMENTED = "documented"
    LOOP = "loop"


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """The S servers that can be considered, in order of name.

    Attributes:
        servers: the servers.
        unserved: those that cannot be considered, with the reason.
        priority: (S,) 1 is the highest.
        model: (S,) position in the models given.
        idle: (S,) whether there is no load.
        demand_rps: (S,) rate to be served; 0 where idle.
        input_tokens: (S,) of a request.
        output_tokens: (S,) of a request.
        itl_ms: (S,) target, 0 is none.
        ttft_ms: (S,) target, 0 is none.
        tps: (S,) target, 0 is none.
        itl_level: (S,) percentile that the ITL target is of, a share; 0 is the mean.
        ttft_level: (S,) the same of TTFT.
        batch: (S,) the batch that must be, 0 leaves it to the performance data.
        min_replicas: (S,) never fewer.
        max_replicas: (S,) never more, `UNBOUNDED` where there is no bound.
        only_accelerator: (S,) the one accelerator allowed, or `ANY_ACCELERATOR`.
        choices: (S,) the accelerators allowed besides that bound, with the batches to choose
            from on each, the preferred one first; None is all accelerators, with `batch`.

    """

    servers: tuple[Server, ...]
    unserved: tuple[Unserved, ...]
    priority: IntArray
    model: IntArray
    idle: BoolArray
    demand_rps: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    itl_ms: FloatArray
    ttft_ms: FloatArray
    tps: FloatArray
    itl_level: FloatArray
    ttft_level: FloatArray
    batch: IntArray
    min_replicas: IntArray
    max_replicas: IntArray
    only_accelerator: IntArray
    choices: tuple[Choices | None, ...]

    def __len__(self) -> int:
        return len(self.servers)

    def allows(self, accelerators: int) -> BoolArray:
        """Which of so many accelerators each server may use: (S, accelerators)."""
        only = self.only_accelerator[:, np.newaxis]
        allowed = np.asarray((only == ANY_ACCELERATOR) | (only == np.arange(accelerators)))
        for at, some in enumerate(self.choices):
            if some is not None:
                allowed[at] &= np.isin(np.arange(accelerators), list(some))
        return allowed

    def take(self, servers: IntArray) -> Fleet:
        """The servers at these positions (k,), each as often as it is named."""
        arrays = {
            each.name: getattr(self, each.name)[servers]
            for each in fields(self)
            if isinstance(getattr(self, each.name), np.ndarray)
        }
        positions = servers.tolist()
        return replace(
            self,
            servers=tuple(self.servers[at] for at in positions),
            choices=tuple(self.choices[at] for at in positions),
            **arrays,
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One server with what the rest of the system says of it."""

    server: Server
    priority: int
    target: Target
    bounds: ServerConstraint
    only: int
    choices: Choices | None


def read_fleet(
    system: System,
    models: Mapping[str, int],
    rule: DemandRule,
    constraints: Mapping[str, ServerConstraint],
) -> Fleet:
    """The servers of `system` as arrays.

    Args:
        system: the system.
        models: position of each model that has performance data.
        rule: what demand is.
        constraints: bounds by server; a server that is not named has none.

    """
    reader = _Reader(system, models, rule, constraints)
    entries, unserved = reader.entries()
    servers = tuple(entry.server for entry in entries)
    loads = [server.current.load for server in servers]
    rate_rps = np.array([load.rate_rps for load in loads], dtype=np.float64)
    backlog_rps = np.array([server.backlog_rps for server in servers], dtype=np.float64)
    output = np.array([load.output_tokens for load in loads], dtype=np.float64)
    tps = np.array([entry.target.tps for entry in entries], dtype=np.float64)
    idle = (rate_rps + backlog_rps <= 0) | (output <= 0)
    asked_rps = np.divide(tps, output, out=np.zeros_like(tps), where=output > 0)
    if rule is DemandRule.LOOP:
        rate_rps = np.maximum(rate_rps, asked_rps)
    else:
        rate_rps = np.where(tps > 0, asked_rps, rate_rps)
    bounds = [entry.bounds for entry in entries]
    least = [max(entry.server.min_replicas, entry.bounds.min_replicas, 0) for entry in entries]
    return Fleet(
        servers=servers,
        unserved=unserved,
        priority=_whole([entry.priority for entry in entries]),
        model=_whole([models[server.model] for server in servers]),
        idle=idle,
        demand_rps=np.where(idle, 0.0, rate_rps + backlog_rps),
        input_tokens=np.array([load.input_tokens for load in loads], dtype=np.float64),
        output_tokens=output,
        itl_ms=np.array([entry.target.itl_ms for entry in entries], dtype=np.float64),
        ttft_ms=np.array([entry.target.ttft_ms for entry in entries], dtype=np.float64),
        tps=tps,
        itl_level=_levels([entry.target.itl_percentile for entry in entries]),
        ttft_level=_levels([entry.target.ttft_percentile for entry in entries]),
        batch=_whole([entry.bounds.max_batch or entry.server.max_batch for entry in entries]),
        min_replicas=_whole(least),
        # A floor that safety asks for stands above a ceiling.
        max_replicas=_whole(
            [
                UNBOUNDED if bound.max_replicas is None else max(bound.max_replicas, floor)
                for bound, floor in zip(bounds, least, strict=True)
            ]
        ),
        only_accelerator=_whole([entry.only for entry in entries]),
        choices=tuple(entry.choices for entry in entries),
    )


def _whole(values: list[int]) -> IntArray:
    return np.array(values, dtype=np.int64)


def _levels(percentiles: list[float]) -> FloatArray:
    return np.array(percentiles, dtype=np.float64) / PERCENT


class _Reader:
    """Sorts out which servers can be considered."""

    def __init__(
        self,
        system: System,
        models: Mapping[str, int],
        rule: DemandRule,
        constraints: Mapping[str, ServerConstraint],
    ) -> None:
        self._servers = system.servers
        self._classes: dict[str, tuple[ServiceClass, dict[str, Target]]] = {
            service.name: (service, {target.model: target for target in service.targets})
            for service in system.classes
        }
        self._accelerators = {each.name: at for at, each in enumerate(system.accelerators)}
        self._models = models
        # The accelerators that each model has performance data on, there or not.
        self._measured: dict[str, list[str]] = {}
        for each in system.perf:
            self._measured.setdefault(each.model, []).append(each.accelerator)
        self._rule = rule
        self._constraints = constraints

    def entries(self) -> tuple[list[_Entry], tuple[Unserved, ...]]:
        """Usable servers, and the others with their reason; both in order of name."""
        entries: list[_Entry] = []
        unserved: list[Unserved] = []
        times = Counter(server.name for server in self._servers)
        for server in sorted(self._servers, key=lambda one: one.name):
            if times[server.name] > 1:
                detail = f"{times[server.name]} servers have this name"
                found: _Entry | Unserved = Unserved(
                    server.name, UnservedReason.INVALID_DATA, detail
                )
            else:
                found = self._entry(server)
            if isinstance(found, _Entry):
                entries.append(found)
            else:
                unserved.append(found)
        # A name that is there twice is one server that is not served.
        return entries, tuple({each.server: each for each in unserved}.values())

    def _entry(self, server: Server) -> _Entry | Unserved:
        reason, detail = UnservedReason.UNKNOWN_CLASS, f'no service class "{server.service_class}"'
        if server.service_class in self._classes:
            service, targets = self._classes[server.service_class]
            target = targets.get(server.model)
            bounds = self._constraints.get(server.name, ServerConstraint())
            fixed = self._fixed_accelerator(server, bounds)
            if target is None:
                reason = UnservedReason.NO_TARGET
                detail = f'class "{service.name}" has no target for model "{server.model}"'
            elif not self._accelerators:
                reason, detail = UnservedReason.NO_PERF_DATA, "there is no accelerator"
            elif server.model not in self._models:
                reason, detail = self._without_data(server.model)
            elif fixed != NO_ACCELERATOR and fixed not in self._accelerators:
                reason = UnservedReason.NO_PERF_DATA
                detail = f'it stays on accelerator "{fixed}", which is not in the data'
            elif wrong := self._wrong_number(server, target):
                reason, detail = UnservedReason.INVALID_DATA, wrong
            else:
                only = self._accelerators.get(fixed, ANY_ACCELERATOR)
                choices = None
                if bounds.choices is not None:
                    known = [name for name in bounds.choices if name in self._accelerators]
                    choices = {self._accelerators[name]: bounds.choices[name] for name in known}
                return _Entry(server, service.priority, target, bounds, only, choices)
        return Unserved(server.name, reason, detail)

    def _without_data(self, model: str) -> tuple[UnservedReason, str]:
        """Why a model has no performance data that counts."""
        if model not in self._measured:
            return UnservedReason.UNKNOWN_MODEL, f'no performance data of model "{model}"'
        names = ", ".join(f'"{each}"' for each in self._measured[model])
        return (
            UnservedReason.NO_PERF_DATA,
            f'performance data of model "{model}" is of {names} alone, not in the accelerators',
        )

    def _fixed_accelerator(self, server: Server, bounds: ServerConstraint) -> str:
        if bounds.accelerator:
            return bounds.accelerator
        return server.current.accelerator if server.keep_accelerator else NO_ACCELERATOR

    def _wrong_number(self, server: Server, target: Target) -> str:
        load = server.current.load
        for name, value in (
            ("arrival rate", load.rate_rps),
            ("input tokens", load.input_tokens),
            ("output tokens", load.output_tokens),
            ("backlog", server.backlog_rps),
            ("ITL target", target.itl_ms),
            ("TTFT target", target.ttft_ms),
            ("TPS target", target.tps),
            ("current cost", server.current.cost_per_hour),
        ):
            if not (math.isfinite(value) and value >= 0):
                return f"{name} must be a number >= 0, got {value}"
        for name, percentile in (
            ("ITL percentile", target.itl_percentile),
            ("TTFT percentile", target.ttft_percentile),
        ):
            if not 0 <= percentile < 100:
                return f"{name} must be >= 0 and < 100, got {percentile}"
        asked = load.rate_rps + server.backlog_rps > 0
        if self._rule is DemandRule.LOOP and asked and load.output_tokens <= 0:
            return "requests arrive, but their output tokens are not known"
        return ""
