"""The event plant: every request and every iteration of every engine.

    plant = EventPlant(truth, servers, workloads, seed=1)
    sensor, actuator = PlantSensor(plant, servers), PlantActuator(plant)
    simulate(plant, build_loop(source, sensor, actuator, clock), clock, cycles, period_s)
    plant.finish(600.0)
    plant.requests()["llama-premium"].ttft_ms

`workloads` are one a server, in the order of `servers`: see `workloads.requests`. Equal seeds
give equal requests whatever control does, and an equal course if it does the same. Those who
judge a run take the latencies of requests from `requests` (or `forget`, for a run longer than
memory), not the samples' means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from controlloop.api.observation import Workload, WorkloadRef
from controlloop.api.replicas import IntArray
from controlloop.api.system import System
from controlloop.simulator.deployment import check_ref
from controlloop.simulator.engine.layout import Counts
from controlloop.simulator.engine.server import Results
from controlloop.simulator.event_server import (
    EngineOptions,
    EventServer,
    build_event_server,
)
from controlloop.simulator.faults import Fault, NodeLoss, ReplicaDeath
from controlloop.simulator.plant import Meter, PlantServer, StepSample
from controlloop.simulator.replicas import Phase, Replica, schedule
from controlloop.simulator.workloads.requests import Workload as Arrivals
from controlloop.units import ms_from_s

STEP_S = 10.0


@dataclass(frozen=True, slots=True)
class ReplicaMeter:
    """One replica that serves or drains: what its engine counts, and how many are in it now."""

    server: str
    model: str
    counts: Counts
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """A server at the end of a step."""

    arrived: int
    running: int
    waiting: int
    counts: Counts

    @property
    def in_system(self) -> int:
        return self.running + self.waiting


class EventPlant:
    """Servers as engines, event by event. Implements `plant.Plant`.

    A router sends each request to one of its server's ready replicas, where it stays: a replica
    that is taken away finishes what it has, keeping its cards until then. Requests that find no
    replica wait for the first one. Control and cards act at the ends of steps; all else happens
    at its own moment.

    Args:
        system: accelerators, capacity and performance parameters as they truly are.
        servers: the servers at the start.
        workloads: what arrives at each of them, times counted from `start`.
        seed: where chance comes from.
        options: how the engines are.
        step_s: the length of a step, seconds.
        start: the simulated time at the start, seconds.
        faults: what goes wrong.

    Raises:
        ValueError: a server's pair has no performance data, there is not one workload a server,
            or the replicas at the start need more cards than there are.
        UnknownPluginError: nothing says what an iteration takes under a pair's queue model.

    """

    def __init__(
        self,
        system: System,
        servers: Sequence[PlantServer],
        workloads: Sequence[Arrivals],
        seed: int = 0,
        options: EngineOptions | None = None,
        step_s: float = STEP_S,
        start: float = 0.0,
        faults: Sequence[Fault] = (),
    ) -> None:
        seeds = np.random.SeedSequence(seed).spawn(len(servers))
        self._servers = tuple(
            build_event_server(spec, system, arrivals, options or EngineOptions(), chance, start)
            for spec, arrivals, chance in zip(servers, workloads, seeds, strict=True)
        )
        self._by_name = {one.spec.name: one for one in self._servers}
        self._capacity = dict(system.capacity)
        self._start, self._step_s, self._steps_done = start, step_s, 0
        self._faults = _timeline(faults)
        self._counted = self._count()
        for kind, held in self._cards_held().items():
            if held > self._capacity.get(kind, 0):
                raise ValueError(
                    f"the fleet starts on {held} cards of {kind}, "
                    f"there are {self._capacity.get(kind, 0)}"
                )

    @property
    def time(self) -> float:
        """The end of the last step, in seconds of the simulated clock."""
        return self._start + self._steps_done * self._step_s

    @property
    def capacity(self) -> Mapping[str, int]:
        """Cards of each type that there are now."""
        return dict(self._capacity)

    def advance_to(self, time: float) -> tuple[StepSample, ...]:
        """Make every whole step that ends by `time`."""
        due = math.floor((time - self._start) / self._step_s + 1e-9)
        return tuple(self._step() for _ in range(due - self._steps_done))

    def finish(self, within_s: float) -> tuple[StepSample, ...]:
        """Let nothing more arrive, and go on until nothing is left, or `within_s` are over."""
        samples = []
        end = self.time + within_s
        while self.time < end and any(one.in_system for one in self._servers):
            samples.append(self._step(arrivals=False))
        return tuple(samples)

    def workloads(self) -> tuple[Workload, ...]:
        """Every server as a workload, in order of name."""
        return tuple(self._by_name[name].workload() for name in sorted(self._by_name))

    def meters(self) -> Mapping[str, Meter]:
        """What the engines of each server count."""
        return {name: server.meter(self.time) for name, server in self._by_name.items()}

    def replicas(self) -> Mapping[str, ReplicaMeter]:
        """Every replica that has an engine running, by the name of its pod."""
        return {
            pod: ReplicaMeter(server.spec.name, server.spec.model, *server.engines.replica(row))
            for server in self._servers
            for pod, row in server.rows.items()
        }

    def requests(self) -> Mapping[str, Results]:
        """What has become so far of every request of each server that is not forgotten."""
        return {name: server.engines.results() for name, server in self._by_name.items()}

    def forget(self) -> Mapping[str, Results]:
        """The requests of each server that are over, which are then kept no longer."""
        return {name: server.engines.forget() for name, server in self._by_name.items()}

    def scale(self, ref: WorkloadRef, replicas: int) -> None:
        """Ask for `replicas` of one workload, at the version that was read."""
        server = self._by_name.get(ref.name)
        check_ref(ref, server.resource_version if server else None)
        self._by_name[ref.name].scale(replicas, self.time)
        self._place(self.time)

    def _step(self, *, arrivals: bool = True) -> StepSample:
        before = self._counted
        held, cards = self._held(), self._cards_held()
        end = self._start + (self._steps_done + 1) * self._step_s
        now = self.time
        while now < end:
            now = min(end, self._next_moment())
            for server in self._servers:
                server.advance(now, arrivals=arrivals)
                server.settle(now)
            while self._faults and self._faults[0].time <= now:
                self._suffer(self._faults.pop(0), now)
        self._steps_done += 1
        ready = np.array([one.replicas.count(Phase.READY) for one in self._servers])
        self._place(end)
        self._counted = after = self._count()
        pairs = list(zip(before, after, strict=True))
        return StepSample(
            time=end,
            arrived=np.array([new.arrived - old.arrived for old, new in pairs], dtype=np.float64),
            completed=np.array([new.counts.completed - old.counts.completed for old, new in pairs]),
            in_system=np.array([float(new.in_system) for new in after]),
            ttft_ms=np.array([_mean_ttft(old, new) for old, new in pairs]),
            itl_ms=np.array([_mean_itl(old, new) for old, new in pairs]),
            ready=ready,
            held=held,
            cards=np.array([cards[kind] for kind in self._capacity]),
        )

    def _count(self) -> tuple[_Seen, ...]:
        return tuple(
            _Seen(one.arrived, one.engines.running, one.engines.waiting, one.engines.counts())
            for one in self._servers
        )

    def _next_moment(self) -> float:
        ready = min((server.next_ready() for server in self._servers), default=math.inf)
        return min(ready, self._faults[0].time if self._faults else math.inf)

    def _suffer(self, fault: Fault, now: float) -> None:
        if isinstance(fault, ReplicaDeath):
            server = self._by_name[fault.server]
            for one in _alive(server)[: fault.replicas]:
                server.kill(one, now)
        else:
            self._capacity[fault.card_type] = self._capacity.get(fault.card_type, 0) - fault.cards
            lost = fault.cards
            for server, one in self._on_cards(fault.card_type):
                if lost <= 0:
                    break
                lost -= server.replicas.cards
                server.kill(one, now)

    def _on_cards(self, kind: str) -> list[tuple[EventServer, Replica]]:
        """Replicas that hold cards of that type, the oldest first."""
        found = [
            (server, one)
            for server in self._servers
            if server.replicas.card_type == kind
            for one in _alive(server)
        ]
        return sorted(found, key=lambda entry: (entry[1].created_at, entry[1].name))

    def _place(self, now: float) -> None:
        schedule([server.replicas for server in self._servers], self._capacity, now)

    def _held(self) -> IntArray:
        phases = (Phase.STARTING, Phase.READY, Phase.DRAINING)
        return np.array([server.replicas.count(*phases) for server in self._servers])

    def _cards_held(self) -> dict[str, int]:
        held = dict.fromkeys(self._capacity, 0)
        for server in self._servers:
            kind = server.replicas.card_type
            held[kind] = held.get(kind, 0) + server.replicas.held_cards
        return held


def request_seeds(seed: int, servers: int) -> tuple[np.random.SeedSequence, ...]:
    """What a plant of this seed opens its servers' workloads with, in their order."""
    return tuple(one.spawn(1)[0] for one in np.random.SeedSequence(seed).spawn(servers))


def _alive(server: EventServer) -> list[Replica]:
    """Replicas that hold cards, the oldest first."""
    held = [one for one in server.replicas.members if one.holds_cards]
    return sorted(held, key=lambda one: (one.created_at, one.name))


def _timeline(faults: Sequence[Fault]) -> list[Fault]:
    """The faults in order; a node that comes back is one of fewer than no cards."""
    back = [
        replace(fault, time=fault.back, cards=-fault.cards, back=math.inf)
        for fault in faults
        if isinstance(fault, NodeLoss) and math.isfinite(fault.back)
    ]
    return sorted([*faults, *back], key=lambda fault: fault.time)


def _mean_ttft(before: _Seen, after: _Seen) -> float:
    """Of the first tokens of the step; without any, infinite while somebody waits for one."""
    count = after.counts.first_tokens - before.counts.first_tokens
    if count > 0:
        return ms_from_s(after.counts.ttft_s - before.counts.ttft_s) / count
    return math.inf if after.waiting else 0.0


def _mean_itl(before: _Seen, after: _Seen) -> float:
    """Of the gaps between tokens in the step; without any, 0."""
    count = after.counts.gaps - before.counts.gaps
    return ms_from_s(after.counts.gaps_s - before.counts.gaps_s) / count if count > 0 else 0.0
