"""The system that is optimized: accelerators, performance parameters, classes, servers.

Inside, rates are requests/second and times are milliseconds (see `controlloop.units`);
costs are cents/hour. Every value is frozen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

DEFAULT_CLASS: Final = "Free"
LOWEST_PRIORITY: Final = 100
HIGHEST_PRIORITY: Final = 1
NO_ACCELERATOR: Final = ""
DEFAULT_QUEUE_MODEL: Final = "state-dependent"
LEAST_CONFIDENCE: Final = 0.5
DEFAULT_PARAMETER_NAMES: Final = ("alpha_ms", "beta_ms", "gamma_ms", "delta_ms")


class SaturationPolicy(StrEnum):
    """What a server gets for which no candidate fits whole."""

    NONE = "None"
    PRIORITY_EXHAUSTIVE = "PriorityExhaustive"
    PRIORITY_ROUND_ROBIN = "PriorityRoundRobin"
    ROUND_ROBIN = "RoundRobin"


class Objective(StrEnum):
    """What is made least.

    COST in cents/hour; POWER in W; WEIGHTED is the cost and the price of the energy that the
    predicted power uses, in cents/hour.
    """

    COST = "cost"
    POWER = "power"
    WEIGHTED = "weighted"


@dataclass(frozen=True, slots=True)
class Power:
    """Power of one accelerator unit at idle, at `mid_utilization` and at full use, in W."""

    idle_w: float = 0.0
    full_w: float = 0.0
    mid_w: float = 0.0
    mid_utilization: float = 0.0

    @property
    def is_known(self) -> bool:
        """Whether there is data that can be used; nothing that runs takes 0 W throughout."""
        watts = (self.idle_w, self.mid_w, self.full_w)
        return any(watts) and all(math.isfinite(each) and each >= 0 for each in watts)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A named unit of allocation: `multiplicity` cards of one `type`, at a cost in cents/h."""

    name: str
    type: str
    multiplicity: int = 1
    cost_per_hour: float = 0.0
    memory_gb: float = 0.0
    bandwidth_gb_s: float = 0.0
    power: Power = Power()


@dataclass(frozen=True, slots=True)
class PerfParameters:
    """How one model performs on one accelerator.

    `parameters` are the numbers of the queue model that the pair uses, in the order of that
    model's `parameter_names`; for `state-dependent` they are alpha, beta, gamma, delta in ms.
    `parameter_names` are their names as the data gave them: who looks the model up checks that
    they are the model's own, in its order. `queue_model` "" is not named: the data leaves it to
    the settings (`System.with_queue_model`), and without them it is `DEFAULT_QUEUE_MODEL`.
    `log_covariance` says how sure the parameters are: the covariance of their logarithms, one row
    a parameter, in their order; () is not known.
    """

    model: str
    accelerator: str
    parameters: tuple[float, ...]
    max_batch: int
    at_tokens: int
    accelerators_per_replica: int = 1
    queue_model: str = ""
    parameter_names: tuple[str, ...] = DEFAULT_PARAMETER_NAMES
    log_covariance: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Latency objectives of one model within a class; 0 is no target.

    A latency is the mean over requests, or where its percentile is not 0 that percentile: with 95
    the latency that 95 of 100 requests stay within.
    """

    model: str
    itl_ms: float = 0.0
    ttft_ms: float = 0.0
    tps: float = 0.0
    itl_percentile: float = 0.0
    ttft_percentile: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for at all."""
        return self.itl_ms <= 0 and self.ttft_ms <= 0 and self.tps <= 0


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """A class of service; priority 1 is the highest, 100 the lowest and the default."""

    name: str
    priority: int = LOWEST_PRIORITY
    targets: tuple[Target, ...] = ()

    def target(self, model: str) -> Target | None:
        """The objectives for `model`, or None where the class does not name it."""
        return next((target for target in self.targets if target.model == model), None)


@dataclass(frozen=True, slots=True)
class Load:
    """What a server is asked to do: requests/s and mean tokens of a request."""

    rate_rps: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0

    @property
    def is_empty(self) -> bool:
        """No load: nothing arrives, or what arrives asks for no output."""
        return self.rate_rps <= 0 or self.output_tokens <= 0


@dataclass(frozen=True, slots=True)
class Tail:
    """A percentile of a latency: `percentile` of 100 requests stay within `ms`."""

    percentile: float
    ms: float


@dataclass(frozen=True, slots=True)
class Variant:
    """The part of a server that runs on one accelerator, where it runs on several.

    `share` of its load, from 0 to 1, is what the latencies are predicted for.
    """

    accelerator: str
    replicas: int
    max_batch: int = 0
    cost_per_hour: float = 0.0
    itl_ms: float = 0.0
    ttft_ms: float = 0.0
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a server runs on, and what is predicted for its load there.

    Where it runs on several accelerators, `variants` are all of them, the one with the largest
    share first, and the other fields are that one's alone. Latencies are means; tails stand
    beside them where the server's targets are percentiles.
    """

    accelerator: str = NO_ACCELERATOR
    replicas: int = 0
    max_batch: int = 0
    cost_per_hour: float = 0.0
    itl_ms: float = 0.0
    ttft_ms: float = 0.0
    load: Load = Load()
    variants: tuple[Variant, ...] = ()
    itl_tail: Tail | None = None
    ttft_tail: Tail | None = None

    @property
    def total_replicas(self) -> int:
        """Replicas on all accelerators."""
        return sum(each.replicas for each in self.variants) if self.variants else self.replicas

    @property
    def total_cost_per_hour(self) -> float:
        """Cost of all replicas on all accelerators."""
        if not self.variants:
            return self.cost_per_hour
        return sum(each.cost_per_hour for each in self.variants)


@dataclass(frozen=True, slots=True)
class Server:
    """One inference server: one model in one service class.

    `max_batch` 0 leaves the batch to the performance data. `backlog_rps` is the extra rate
    that drains what waits now within the set time; it adds to demand.
    """

    name: str
    model: str
    service_class: str = DEFAULT_CLASS
    keep_accelerator: bool = False
    min_replicas: int = 0
    max_batch: int = 0
    current: Allocation = Allocation()
    desired: Allocation | None = None
    backlog_rps: float = 0.0


@dataclass(frozen=True, slots=True)
class OptimizerOptions:
    """How to solve. `solver` "" lets the documented flags choose (`solver_name`).

    `energy_price` in cents/kWh counts where the objective is WEIGHTED. `time_limit_s` and `gap`
    (relative, 0 asks for proof) bound exact solvers; None leaves them to the solver. `confidence`,
    from 0.5 to below 1, is the probability with which latency targets are to hold whatever the
    parameters are, where their uncertainty is known; 0 plans with the parameters as they are.
    """

    unlimited: bool = False
    heterogeneous: bool = False
    milp_solver: bool = False
    use_cplex: bool = False
    delayed_best_effort: bool = False
    saturation_policy: SaturationPolicy = SaturationPolicy.NONE
    solver: str = ""
    objective: Objective = Objective.COST
    energy_price: float = 0.0
    time_limit_s: float | None = None
    gap: float | None = None
    confidence: float = 0.0

    @property
    def solver_name(self) -> str:
        """The solver plug-in that these options ask for."""
        by_flags = "unlimited" if self.unlimited else "milp" if self.milp_solver else "greedy"
        name = self.solver or by_flags
        return "milp-cplex" if name == "milp" and self.use_cplex else name

    def limited_by(self, time_limit_s: float | None, gap: float | None) -> OptimizerOptions:
        """The same with these limits where it has none of its own."""
        return replace(
            self,
            time_limit_s=time_limit_s if self.time_limit_s is None else self.time_limit_s,
            gap=gap if self.gap is None else self.gap,
        )


@dataclass(frozen=True, slots=True)
class System:
    """Everything the optimizer is told.

    `capacity` maps accelerator type -> cards; a type that is not named has none. The order of
    `accelerators` breaks ties between them.
    """

    accelerators: tuple[Accelerator, ...] = ()
    capacity: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    perf: tuple[PerfParameters, ...] = ()
    classes: tuple[ServiceClass, ...] = ()
    servers: tuple[Server, ...] = ()
    options: OptimizerOptions = OptimizerOptions()

    def with_queue_model(self, name: str) -> System:
        """The same system; performance data that names no queue model now names this one."""
        perf = tuple(replace(each, queue_model=each.queue_model or name) for each in self.perf)
        return replace(self, perf=perf)
