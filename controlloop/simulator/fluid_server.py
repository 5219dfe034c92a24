"""One inference server of the fluid plant: its replicas, the requests in them, its counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from controlloop.api.observation import Workload
from controlloop.api.replicas import Replicas
from controlloop.api.system import DEFAULT_QUEUE_MODEL, System
from controlloop.protocols import QueueModel
from controlloop.queueing.models import default_max_queue
from controlloop.simulator.curve import ReplicaCurve, ReplicaState
from controlloop.simulator.deployment import pair_of, replica_set_of, workload_of
from controlloop.simulator.plant import Meter, PlantServer
from controlloop.simulator.replicas import Phase, Replica, ReplicaSet


@dataclass(slots=True)
class FluidServer:
    """A server as a fluid.

    `content` is what the ready replicas and the queue before them hold; `draining` replicas
    hold what they still serve themselves.
    """

    spec: PlantServer
    curve: ReplicaCurve
    replicas: ReplicaSet
    version: int = 1
    content: float = 0.0
    arrived: float = 0.0
    completed: float = 0.0
    served: float = 0.0
    ttft_ms_sum: float = 0.0
    itl_ms_sum: float = 0.0
    draining: list[Replica] = field(default_factory=list)

    @property
    def resource_version(self) -> str:
        """Changes with every change of the server."""
        return str(self.version)

    @property
    def in_system(self) -> float:
        """Every request inside: waiting, running, and in draining replicas."""
        return self.content + sum(one.in_service for one in self.draining)

    def flow(self, arrived: float, now: float, seconds: float) -> ReplicaState | None:
        """Let `arrived` requests in over the step that begins `now`.

        Returns:
            The state of each ready replica at the end of the step, None where none is ready.

        """
        self.arrived += arrived
        self._drain(now, seconds)
        ready = self.replicas.count(Phase.READY)
        if not ready:
            self.content += arrived
            return None
        after = ready * self.curve.after(self.content / ready, arrived / ready, seconds)
        done = max(self.content + arrived - after, 0.0)
        self.content = after
        state = self.curve.at(after / ready)
        self.completed += done
        self.served += done
        self.ttft_ms_sum += done * state.ttft_ms
        self.itl_ms_sum += done * state.itl_ms
        return state

    def scale(self, replicas: int, now: float) -> None:
        """Ask for new replicas, or take surplus ones away; a ready one drains first."""
        self.version += 1
        self.replicas.wanted = replicas
        state = self.state()
        for one in self.replicas.surplus():
            serving = one.phase is Phase.READY
            one.enter(Phase.DRAINING, now, now)
            if serving and state.throughput_rps > 0:
                # Requests that joined one by one leave one by one, over one time of service.
                one.in_service = min(state.in_service, self.content)
                one.until = now + one.in_service / state.throughput_rps
                self.content -= one.in_service
                self.draining.append(one)
        self.replicas.settle(now)
        self.replicas.fill(now)

    def state(self) -> ReplicaState:
        """The state of each ready replica; an idle one's where none is ready."""
        ready = self.replicas.count(Phase.READY)
        return self.curve.at(self.content / ready if ready else 0.0)

    def meter(self, now: float) -> Meter:
        """What the engines count."""
        ready = self.replicas.count(Phase.READY)
        waiting = ready * self.state().waiting if ready else self.content
        return Meter(
            time=now,
            arrived=self.arrived,
            completed=self.completed,
            served=self.served,
            ttft_ms_sum=self.ttft_ms_sum,
            itl_ms_sum=self.itl_ms_sum,
            running=self.in_system - waiting,
            waiting=waiting,
        )

    def workload(self) -> Workload:
        """The server as a Deployment that says of itself what it is."""
        return workload_of(self.spec, self.replicas, self.resource_version)

    def _drain(self, now: float, seconds: float) -> None:
        for one in self.draining:
            left_s = one.until - now
            gone = one.in_service * min(seconds / left_s, 1.0) if left_s > 0 else one.in_service
            one.in_service -= gone
            self.completed += gone
        self.draining = [one for one in self.draining if one.in_service > 0]


def build_server(
    spec: PlantServer, system: System, model_of: Callable[[str], QueueModel], now: float
) -> FluidServer:
    """The server with its first replicas ready and nothing in them.

    Raises:
        ValueError: the system has no such accelerator, or no performance data of the pair.

    """
    _, perf = pair_of(spec, system)
    replicas = replica_set_of(spec, system, now)
    max_batch = np.array([spec.max_batch])
    replica = Replicas(
        max_batch=max_batch,
        max_queue=default_max_queue(max_batch),
        input_tokens=np.array([spec.input_tokens]),
        output_tokens=np.array([spec.output_tokens]),
        parameters=np.array([perf.parameters]),
    )
    model = model_of(perf.queue_model or DEFAULT_QUEUE_MODEL)
    return FluidServer(spec, ReplicaCurve(model, replica), replicas)
