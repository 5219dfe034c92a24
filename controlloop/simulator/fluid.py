"""The fluid plant: queueing models in motion, fast enough for a day in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from controlloop.api.observation import Workload, WorkloadRef
from controlloop.api.system import System
from controlloop.protocols import QueueModel
from controlloop.simulator.deployment import check_ref
from controlloop.simulator.fluid_server import build_server
from controlloop.simulator.plant import Meter, PlantServer, StepSample
from controlloop.simulator.replicas import Phase, schedule
from controlloop.simulator.traffic import Traffic


class FluidPlant:
    """Servers as fluids, in steps of the traffic's length.

    A router balances perfectly: each ready replica holds an equal part of its server's requests.
    A replica that is taken away serves its batch to the end and keeps its cards until then;
    what waited there waits for the others.

    Args:
        system: accelerators, capacity and performance parameters as they truly are.
        servers: the servers at the start, in the order of the traffic's columns.
        traffic: what arrives.
        model_of: the queue model of a name, as performance data names it.
        start: the simulated time of the traffic's first moment, seconds.

    Raises:
        ValueError: a server's pair has no performance data, the traffic another width, or the
            replicas at the start need more cards than there are.

    """

    def __init__(
        self,
        system: System,
        servers: Sequence[PlantServer],
        traffic: Traffic,
        model_of: Callable[[str], QueueModel],
        start: float = 0.0,
    ) -> None:
        if traffic.arrivals.shape[1] != len(servers):
            raise ValueError(f"{len(servers)} servers, traffic for {traffic.arrivals.shape[1]}")
        self._capacity = dict(system.capacity)
        self._traffic = traffic
        self._start = start
        self._steps_done = 0
        self._servers = tuple(build_server(one, system, model_of, start) for one in servers)
        self._by_name = {one.spec.name: one for one in self._servers}
        for kind, held in self._cards_held().items():
            if held > self._capacity.get(kind, 0):
                raise ValueError(
                    f"the fleet starts on {held} cards of {kind}, "
                    f"there are {self._capacity.get(kind, 0)}"
                )

    @property
    def time(self) -> float:
        """The end of the last step, in seconds of the simulated clock."""
        return self._start + self._steps_done * self._traffic.step_s

    def advance_to(self, time: float) -> tuple[StepSample, ...]:
        """Make every whole step that ends by `time`; the traffic must last so long."""
        due = math.floor((time - self._start) / self._traffic.step_s + 1e-9)
        return tuple(self._step() for _ in range(due - self._steps_done))

    def workloads(self) -> tuple[Workload, ...]:
        """Every server as a workload, in order of name."""
        return tuple(self._by_name[name].workload() for name in sorted(self._by_name))

    def meters(self) -> Mapping[str, Meter]:
        """What the engines of each server count."""
        return {name: server.meter(self.time) for name, server in self._by_name.items()}

    def scale(self, ref: WorkloadRef, replicas: int) -> None:
        """Ask for `replicas` of one workload, at the version that was read."""
        server = self._by_name.get(ref.name)
        version = server.resource_version if server else None
        check_ref(ref, version)
        self._by_name[ref.name].scale(replicas, self.time)
        self._place()

    def _step(self) -> StepSample:
        arrivals = self._traffic.arrivals[self._steps_done]
        before = [server.completed for server in self._servers]
        states = [
            server.flow(float(arrived), self.time, self._traffic.step_s)
            for server, arrived in zip(self._servers, arrivals, strict=True)
        ]
        held = [
            server.replicas.count(Phase.STARTING, Phase.READY, Phase.DRAINING)
            for server in self._servers
        ]
        cards = self._cards_held()
        ready = [server.replicas.count(Phase.READY) for server in self._servers]
        self._steps_done += 1
        for server in self._servers:
            server.replicas.settle(self.time)
        self._place()
        return StepSample(
            time=self.time,
            arrived=arrivals,
            completed=np.array([one.completed for one in self._servers]) - np.array(before),
            in_system=np.array([one.in_system for one in self._servers]),
            ttft_ms=np.array([math.inf if one is None else one.ttft_ms for one in states]),
            itl_ms=np.array([math.inf if one is None else one.itl_ms for one in states]),
            ready=np.array(ready),
            held=np.array(held),
            cards=np.array([cards[kind] for kind in self._capacity]),
        )

    def _place(self) -> None:
        schedule([server.replicas for server in self._servers], self._capacity, self.time)

    def _cards_held(self) -> dict[str, int]:
        held = dict.fromkeys(self._capacity, 0)
        for server in self._servers:
            kind = server.replicas.card_type
            held[kind] = held.get(kind, 0) + server.replicas.held_cards
        return held
