"""What each exchangeable part promises; `cycle.py` speaks only to these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from controlloop.api.candidates import Candidates
from controlloop.api.decision import (
    Decisions,
    Estimate,
    Forecast,
    Outcome,
    Patch,
    Plan,
    Problem,
    Situation,
)
from controlloop.api.explanation import Explanation
from controlloop.api.node_cards import CountedCards
from controlloop.api.observation import Observation, Workload, WorkloadRef
from controlloop.api.replicas import Analysis, FloatArray, Percentiles, Replicas, Sizing, Targets
from controlloop.api.shadow import ShadowScore
from controlloop.api.solution import Solution
from controlloop.api.system import OptimizerOptions, System
from controlloop.clock import Deadline


@runtime_checkable
class QueueModel(Protocol):
    """Predicts one replica from its parameters, over arrays of pairs at once.

    Invalid input of one pair (a NaN, a negative time, a batch below 1) makes that pair's
    entries NaN or its sizing status INVALID; it never disturbs the other pairs.
    """

    @property
    def name(self) -> str:
        """The name that performance data and settings choose it by."""
        ...

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the columns of `Replicas.parameters`, with their units."""
        ...

    def rate_range_rps(self, replicas: Replicas) -> tuple[FloatArray, FloatArray]:
        """The least and greatest rate that sizing considers, each (n,)."""
        ...

    def analyze(self, replicas: Replicas, rate_rps: FloatArray) -> Analysis:
        """The stationary state at `rate_rps` (n,), below, at and beyond saturation."""
        ...

    def size(self, replicas: Replicas, targets: Targets) -> Sizing:
        """The largest rate at which every target holds."""
        ...


@runtime_checkable
class PercentileModel(QueueModel, Protocol):
    """A queue model that also knows how latencies spread over requests."""

    def percentiles(
        self, replicas: Replicas, rate_rps: FloatArray, levels: Sequence[float]
    ) -> Percentiles:
        """Percentiles at `rate_rps` (n,); each level lies between 0 and 1, both left out.

        Raises:
            ValueError: a level does not.

        """
        ...


class Source(Protocol):
    """Gives the static part of the system: accelerators, capacity, models, classes, options."""

    def load(self) -> System:
        """The data in force now; `servers` is empty.

        Raises:
            InputError: there is no good data, and never was.

        """
        ...

    @property
    def problem(self) -> str | None:
        """Why what is in force is not what is on disk; None when they agree."""
        ...


class Sensor(Protocol):
    """Sees the fleet: workloads, their load, and the cards there are."""

    def observe(self, now: float, deadline: Deadline) -> Observation:
        """Look once. Missing metrics are readings with a reason, not errors.

        Raises:
            ClusterError: the workloads themselves cannot be read.
            DeadlineError: the cycle's time is up.

        """
        ...


@runtime_checkable
class Estimator(Protocol):
    """Turns configured performance parameters and observations into those to plan with."""

    def estimate(self, now: float, observation: Observation, system: System) -> Estimate:
        """Parameters for every pair of `system.perf`, in the same order."""
        ...


@runtime_checkable
class Forecaster(Protocol):
    """Predicts each server's load at the time when a decision made now takes effect."""

    def forecast(self, now: float, observation: Observation) -> Forecast:
        """Loads by server; a server whose load is not known now is absent."""
        ...


class RateHistory(Protocol):
    """Knows what arrived before this process began to look."""

    def rates_rps(
        self, end: float, workloads: Sequence[Workload], slots: int, step_s: float
    ) -> Mapping[str, FloatArray]:
        """Arrival rates of the `slots` intervals of `step_s` up to `end`, by server: (slots,).

        NaN where nothing is known; a server of which nothing is known is absent.

        Raises:
            MetricsError: there is no whole answer.
            DeadlineError: it takes too long.

        """
        ...


@runtime_checkable
class Policy(Protocol):
    """Keeps control steady: bounds the optimizer before, holds what it may not change after."""

    def shape(self, situation: Situation) -> Problem:
        """Bounds, and all holds, for every server of the situation's system."""
        ...

    def steady(self, problem: Problem, solution: Solution) -> Decisions:
        """One decision with its reason for every server observed."""
        ...


class Optimizer(Protocol):
    """Finds the allocations of a bounded problem."""

    def solve(self, problem: Problem) -> Solution:
        """The allocations; what could not be served is named with its reason."""
        ...


class Explainer(Protocol):
    """Says why a solution is what it is; it changes nothing."""

    def explain(
        self, problem: Problem, solution: Solution, servers: Collection[str]
    ) -> Mapping[str, Explanation]:
        """Why each of `servers` got what it got; servers that were not optimized are absent."""
        ...


class Scorer(Protocol):
    """Compares what was predicted and decided with what happened; it changes nothing."""

    def score(self, situation: Situation, forecast: Forecast, decisions: Decisions) -> ShadowScore:
        """The comparison of this cycle, and of all that came before it."""
        ...


@runtime_checkable
class Solver(Protocol):
    """Chooses among candidates. Deterministic: equal inputs give equal outputs.

    Ties between accelerators break by their order, between servers by name.
    """

    @property
    def name(self) -> str:
        """The name that options choose it by."""
        ...

    def solve(
        self, candidates: Candidates, capacity: Mapping[str, int], options: OptimizerOptions
    ) -> Solution:
        """Allocations within `capacity` (cards by type; a type not named has none).

        Every server of `candidates` is in the solution's allocations, in its unserved, or, with
        less than its load needs, in both; `candidates.unserved` is part of its unserved.
        `seconds` may be left 0: who calls measures.
        """
        ...


class Actuator(Protocol):
    """Makes decisions real."""

    def plan(self, decisions: Decisions, observation: Observation) -> Plan:
        """The pure difference between what is decided and what is: no patch, no change."""
        ...

    def apply(self, plan: Plan, deadline: Deadline) -> Outcome:
        """Send the plan. One workload's failure is in the outcome and harms no other."""
        ...


class WriteGuard(Protocol):
    """Says whether this process may still write to the cluster."""

    def remaining_s(self) -> float:
        """Seconds for which no other process can become the writer; 0 without the lease."""
        ...


class Cluster(Protocol):
    """What the loop needs of Kubernetes. Every call takes its own time-out in seconds.

    Raises (all of them): ClusterError and its kinds.
    """

    def workloads(self, timeout_s: float) -> tuple[Workload, ...]:
        """Every managed workload with its pods, in order of namespace and name."""
        ...

    def workload(self, ref: WorkloadRef, timeout_s: float) -> Workload:
        """One workload as it is now (NotFoundError when it is gone or was made anew)."""
        ...

    def capacity(self, timeout_s: float) -> CountedCards:
        """Cards by accelerator type that managed workloads may use, from the nodes."""
        ...

    def patch(self, patch: Patch, timeout_s: float, *, dry_run: bool) -> None:
        """Send one patch, conditional on the resource version it rests on.

        Raises:
            ConflictError: the object changed since it was read.

        """
        ...

    def annotate(
        self, ref: WorkloadRef, annotations: Mapping[str, str | None], timeout_s: float
    ) -> None:
        """Set annotations of a Deployment at the version that was read; None removes one.

        Raises:
            ConflictError: the object changed since it was read.

        """
        ...

    def record(self, ref: WorkloadRef, reason: str, message: str, timeout_s: float) -> None:
        """Write an event on the workload, so that its owner sees what happened."""
        ...


class Lease(WriteGuard, Protocol):
    """The right to write, held by one process at a time."""

    def held_for_s(self) -> float:
        """Seconds since this process got it, without a break; 0 without it."""
        ...

    @property
    def holder(self) -> str:
        """Who held it when it was last looked at; "" where that is nobody or unknown."""
        ...

    @property
    def problem(self) -> str | None:
        """Why it could not be looked at or written last; None where it could."""
        ...


class Keeper(Protocol):
    """What keeps a lease from a thread of its own."""

    def start(self) -> None:
        """Begin to take and keep it."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Stop renewing and release it, within `timeout_s`."""
        ...

    def overdue_s(self) -> float:
        """By how much its thread is silent beyond what a step may take; 0 while it moves."""
        ...


class StateStore(Protocol):
    """Keeps one document over restarts: whole, as it was before or after the last save.

    Raises (all of them): StateStoreError.
    """

    def load(self) -> bytes | None:
        """What was saved last; None where nothing ever was."""
        ...

    def save(self, state: bytes) -> None:
        """Replace what is kept; on return it is safe."""
        ...

    def set_aside(self) -> str:
        """Move what is kept out of the way without losing it; says where it is now."""
        ...
