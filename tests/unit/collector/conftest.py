"""A bench for the collector: workloads as the cluster lists them, samples as engines show them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from controlloop.api.assembly import assemble
from controlloop.api.decision import Decision, Patch
from controlloop.api.node_cards import CountedCards, NodeCards
from controlloop.api.observation import (
    Observation,
    Pod,
    ServerObservation,
    Workload,
    WorkloadRef,
)
from controlloop.api.system import Accelerator, PerfParameters, ServiceClass, System, Target
from controlloop.clock import Deadline, ManualClock
from controlloop.collector.options import CapacityOptions, CollectorOptions
from controlloop.collector.sensor import FleetSensor
from controlloop.collector.series import Series
from controlloop.errors import MetricsError
from controlloop.forecast.last_value import LastValueForecaster
from controlloop.optimizer.planner import Planner
from controlloop.stability.bounds import Bounds, BoundsPolicy
from controlloop.tuner.configured import ConfiguredEstimator

NOW = 1_000_000.0
TIMES = tuple(NOW - 57.0 + 5.0 * i for i in range(12))
"""A scrape each 5 s; the newest is 2 s old."""

SYSTEM = System(
    accelerators=(Accelerator("A100", "A100", cost_per_hour=40.0),),
    capacity={"A100": 64},
    perf=(PerfParameters("llama", "A100", (10.0, 0.2, 20.0, 0.01), 32, 256),),
    classes=(ServiceClass("Premium", 1, (Target("llama", itl_ms=40.0, ttft_ms=1000.0),)),),
)

Values = Sequence[float] | Callable[[float], float] | float


@dataclass
class Bench:
    """Build a fleet, then look at it."""

    now: float = NOW
    options: CollectorOptions = CollectorOptions()
    capacity: CapacityOptions = CapacityOptions()
    workloads: dict[str, Workload] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    faults: dict[str, MetricsError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    clock: ManualClock = field(default_factory=ManualClock)
    answer_takes_s: float = 0.0
    cards: Mapping[str, int] = field(default_factory=lambda: {"A100": 8})
    nodes: tuple[NodeCards, ...] = ()
    sensor: FleetSensor | None = None

    def workload(self, name: str, *pods: Pod, server: str = "", **changes: object) -> Workload:
        """A managed Deployment with as many replicas as pods."""
        made = Workload(
            ref=WorkloadRef("prod", name),
            server=server or name,
            model="llama",
            service_class="Premium",
            accelerator="A100",
            max_batch=16,
            replicas=len(pods),
            pods=pods,
        )
        self.workloads[name] = replace(made, **changes)  # type: ignore[arg-type]
        return self.workloads[name]

    def pods(self, name: str, count: int) -> tuple[Pod, ...]:
        """Pods as a ReplicaSet names them, ready since long ago."""
        return tuple(
            Pod(f"{name}-5d8f-aaaa{i}", uid=f"{name}{i}", ready_since=NOW - 9999)
            for i in range(count)
        )

    def show(self, pod: str, metric: str, values: Values, **changes: object) -> None:
        """One series of a pod; `times=` and further labels in `changes`."""
        times = np.array(changes.pop("times", TIMES), dtype=np.float64)
        if callable(values):
            samples = np.array([values(time) for time in times])
        else:
            samples = np.broadcast_to(np.array(values, dtype=np.float64), times.shape)
        labels = {"__name__": metric, "namespace": "prod", "pod": pod, "job": "vllm"}
        labels |= {"instance": f"{pod}:8000"} | {key: str(it) for key, it in changes.items()}
        finite = np.isfinite(samples)
        shown = tuple(times[finite].tolist()), tuple(samples[finite].tolist())
        self.series.append(Series(labels, *shown))

    def engine(
        self,
        pod: str,
        rate_rps: float = 2.0,
        *,
        running: Values = 4.0,
        waiting: Values = 0.0,
        input_tokens: float = 100.0,
        output_tokens: float = 50.0,
        itl: str = "vllm:inter_token_latency_seconds",
        times: Sequence[float] = TIMES,
        begun: float = NOW - 1000.0,
    ) -> None:
        """Everything a vLLM shows that finishes `rate_rps` requests/s since it began."""

        def grows(per_s: float) -> Callable[[float], float]:
            return lambda time: per_s * (time - begun)

        done = "vllm:request_success_total"
        self.show(pod, done, grows(rate_rps), finished_reason="length", times=times)
        self.show(pod, done, 0.0, finished_reason="stop", times=times)
        self.show(pod, "vllm:num_requests_running", running, times=times)
        self.show(pod, "vllm:num_requests_waiting", waiting, times=times)
        for name, mean in {
            "vllm:request_prompt_tokens": input_tokens,
            "vllm:request_generation_tokens": output_tokens,
            "vllm:time_to_first_token_seconds": 0.2,
            itl: 0.02,
        }.items():
            self.show(pod, f"{name}_count", grows(rate_rps), times=times)
            self.show(pod, f"{name}_sum", grows(rate_rps * mean), times=times)

    def drop(self, metric: str, pod: str = "") -> None:
        """Take the series of a metric away, of all pods or of one."""
        self.series = [
            one
            for one in self.series
            if not (one.name.startswith(metric) and pod in ("", one.label("pod")))
        ]

    def change(self, metric: str, values: Values, pod: str = "") -> None:
        """Let the series of a metric show other values."""
        found = [one for one in self.series if one.name == metric and pod in ("", one.label("pod"))]
        self.drop(metric, pod)
        for one in found:
            extra = {key: it for key, it in one.labels.items() if key not in ("__name__", "pod")}
            self.show(one.label("pod"), metric, values, times=one.times, **extra)

    def observe(self) -> Observation:
        """One cycle's look; the sensor stays the same from look to look."""
        if self.sensor is None:
            self.sensor = FleetSensor(_Cluster(self), self, self.options, self.capacity)
        return self.sensor.observe(self.now, Deadline(self.clock, 45.0))

    def server(self, name: str = "llm") -> ServerObservation:
        """One server as it is seen."""
        return next(one for one in self.observe().servers if one.name == name)

    def decide(self, seen: Observation) -> dict[str, Decision]:
        """What the real stages after the collector decide on an observation."""
        forecast = LastValueForecaster().forecast(self.now, seen)
        estimate = ConfiguredEstimator().estimate(self.now, seen, SYSTEM)
        situation = assemble(self.now, 0.0, SYSTEM, seen, estimate, forecast, 120.0)
        policy = BoundsPolicy(Bounds(down_window_s=0.0))
        problem = policy.shape(situation)
        decided = policy.steady(problem, Planner(clock=self.clock).solve(problem))
        return {one.server: one for one in decided.decisions}

    def select(self, selector: str, now: float, timeout_s: float) -> tuple[Series, ...]:
        """As a Prometheus answers a range selector."""
        self.asked.append(selector)
        self.timeouts.append(timeout_s)
        self.clock.advance(min(self.answer_takes_s, timeout_s))
        for part, fault in self.faults.items():
            if part in selector:
                raise fault
        body, window_ms = re.fullmatch(r"(.*)\[(\d+)ms\]", selector, re.DOTALL).groups()  # type: ignore[union-attr]
        listed = re.search(r'__name__=~"([^"]*)"', body)
        names = listed[1].split("|") if listed else [body.split("{")[0]]
        begin = now - float(window_ms) / 1000
        found = []
        for one in self.series:
            # A window is open at its begin.
            inside = one.between(math.nextafter(begin, now), now)
            if one.name in names and (inside.times or not one.times):
                found.append(inside)
        return tuple(found)

    def workloads_of_cluster(self) -> tuple[Workload, ...]:
        """Every workload in order."""
        return tuple(self.workloads[name] for name in sorted(self.workloads))


class _Cluster:
    """The Kubernetes side of a bench."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def workloads(self, timeout_s: float) -> tuple[Workload, ...]:
        return self._bench.workloads_of_cluster()

    def workload(self, ref: WorkloadRef, timeout_s: float) -> Workload:
        raise AssertionError("the collector reads all workloads at once")

    def capacity(self, timeout_s: float) -> CountedCards:
        return CountedCards(self._bench.cards, self._bench.nodes)

    def patch(self, patch: Patch, timeout_s: float, *, dry_run: bool) -> None:
        raise AssertionError("the collector writes nothing")

    def annotate(
        self, ref: WorkloadRef, annotations: Mapping[str, str | None], timeout_s: float
    ) -> None:
        raise AssertionError("the collector writes nothing")

    def record(self, ref: WorkloadRef, reason: str, message: str, timeout_s: float) -> None:
        raise AssertionError("the collector writes nothing")


@pytest.fixture
def bench() -> Bench:
    """An empty cluster."""
    return Bench()
