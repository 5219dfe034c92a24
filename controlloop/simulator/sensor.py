"""Sees a plant as Prometheus and Kubernetes show a cluster: counters, gauges, pods, gaps.

What the evidence forbids is the collector's own rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from controlloop.api.observation import Observation, ServerObservation, Signals, Workload
from controlloop.api.readings import Missing, Present, Reading
from controlloop.clock import Deadline
from controlloop.collector.aggregate import NO_TRAFFIC
from controlloop.collector.evidence import holds_of
from controlloop.collector.memory import Memory, remember, workload_key
from controlloop.collector.server import Evidence
from controlloop.simulator.plant import Meter, Plant, PlantServer


@dataclass(frozen=True, slots=True)
class SignalOutage:
    """A time, [start, end) in seconds, without metrics; of every server where none is named."""

    start: float
    end: float
    servers: frozenset[str] = frozenset()

    def covers(self, server: str, time: float) -> bool:
        """Whether `server` gives no metrics at `time`."""
        return self.start <= time < self.end and (not self.servers or server in self.servers)


class PlantSensor:
    """Observes a plant over a window that ends now.

    Args:
        plant: what is observed.
        servers: the plant's servers, for the token lengths that their engines count.
        outages: when metrics are missing.
        window_s: the window; no shorter than the time since the observation before.

    """

    def __init__(
        self,
        plant: Plant,
        servers: Sequence[PlantServer],
        outages: Sequence[SignalOutage] = (),
        window_s: float = 0.0,
    ) -> None:
        self._plant = plant
        self._servers = {one.name: one for one in servers}
        self._outages = tuple(outages)
        self._window_s = window_s
        self._looks: deque[Mapping[str, Meter]] = deque([plant.meters()])
        self._looked_at = plant.time
        self._memory: Memory = MappingProxyType({})

    def observe(self, now: float, deadline: Deadline) -> Observation:  # noqa: ARG002 - nothing here can block
        """Look once. A sample is as old as the plant's last step."""
        meters, workloads = self._plant.meters(), self._plant.workloads()
        looks, begins = self._looks, now - self._window_s
        while len(looks) > 1 and all(meter.time <= begins for meter in looks[1].values()):
            looks.popleft()
        self._memory = remember(self._memory, workloads, now, now - self._looked_at)
        seen = tuple(self._server(one, meters[one.server], now) for one in workloads)
        looks.append(meters)
        self._looked_at = now
        return Observation(time=now, servers=seen)

    def _server(self, workload: Workload, meter: Meter, now: float) -> ServerObservation:
        carrying = sum(pod.carries_load for pod in workload.pods)
        if any(outage.covers(workload.server, now) for outage in self._outages):
            signals = _silent(carrying, "no sample in the window")
        else:
            before, server = self._looks[0][workload.server], self._servers[workload.server]
            signals = _signals(before, meter, server, carrying, now)
        evidence = Evidence(gone=self._gone(workload))
        return ServerObservation(workload, signals, holds_of(signals, evidence))

    def _gone(self, workload: Workload) -> tuple[str, ...]:
        own = workload_key(workload)
        return tuple(
            known.pod[1]
            for known in self._memory.values()
            if known.gone_at is not None and known.workload == own
        )


def _signals(
    before: Meter, meter: Meter, server: PlantServer, carrying: int, now: float
) -> Signals:
    age_s = now - meter.time
    window_s = meter.time - before.time
    if window_s <= 0:
        return _silent(carrying, "no two samples in the window")
    mean_of = _means(before, meter, server)

    def mean(name: str) -> Reading:
        total, count = mean_of[name]
        return Present(total / count, age_s) if count > 0 else Missing(NO_TRAFFIC)

    return Signals(
        arrival_rate_rps=Present((meter.arrived - before.arrived) / window_s, age_s),
        completion_rate_rps=Present((meter.completed - before.completed) / window_s, age_s),
        input_tokens=mean("input_tokens"),
        output_tokens=mean("output_tokens"),
        ttft_ms=mean("ttft_ms"),
        itl_ms=mean("itl_ms"),
        running=Present(meter.running, age_s),
        # An engine counts whole requests: less than one that waits is none.
        waiting=Present(float(int(meter.waiting)), age_s),
        reported_pods=carrying,
        expected_pods=carrying,
    )


def _means(before: Meter, after: Meter, server: PlantServer) -> dict[str, tuple[float, float]]:
    """By name: a sum over the window, and of how many."""
    old, new = before.tokens, after.tokens
    if old is None or new is None:
        served = after.served - before.served
        return {
            "input_tokens": (served * server.input_tokens, served),
            "output_tokens": (served * server.output_tokens, served),
            "ttft_ms": (after.ttft_ms_sum - before.ttft_ms_sum, served),
            "itl_ms": (after.itl_ms_sum - before.itl_ms_sum, served),
        }
    completed = after.completed - before.completed
    firsts = new.first_tokens - old.first_tokens
    return {
        "input_tokens": (new.input_tokens - old.input_tokens, completed),
        "output_tokens": (new.output_tokens - old.output_tokens, completed),
        "ttft_ms": (new.ttft_ms_sum - old.ttft_ms_sum, firsts),
        "itl_ms": (new.gaps_ms_sum - old.gaps_ms_sum, new.gaps - old.gaps),
    }


def _silent(carrying: int, reason: str) -> Signals:
    missing = Missing(reason)
    return Signals(
        arrival_rate_rps=missing,
        completion_rate_rps=missing,
        input_tokens=missing,
        output_tokens=missing,
        ttft_ms=missing,
        itl_ms=missing,
        running=missing,
        waiting=missing,
        reported_pods=0,
        expected_pods=carrying,
    )
