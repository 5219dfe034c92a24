"""What a plant is: inference servers on finite cards that can be watched and scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from controlloop.api.observation import Workload, WorkloadRef
from controlloop.api.replicas import FloatArray, IntArray

NAMESPACE: Final = "simulation"


@dataclass(frozen=True, slots=True)
class PlantServer:
    """One inference server of a plant, as it stands at the start.

    `startup_s` passes between the cards and the first request of a new replica.
    `max_replicas` None is no bound of the server's own.
    """

    name: str
    model: str
    service_class: str
    accelerator: str
    max_batch: int
    replicas: int
    input_tokens: float
    output_tokens: float
    startup_s: float = 0.0
    min_replicas: int = 1
    max_replicas: int | None = None


@dataclass(frozen=True, slots=True)
class TokenMeter:
    """What engines count token by token, since the start of the plant.

    `ttft_ms_sum` is over `first_tokens`, when each came; `gaps_ms_sum` over the `gaps` between
    two tokens of a request; `input_tokens` and `output_tokens` are of completed requests.
    """

    first_tokens: float
    ttft_ms_sum: float
    gaps: float
    gaps_ms_sum: float
    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class Meter:
    """What the engines of one server count, since the start of the plant.

    `ttft_ms_sum` and `itl_ms_sum` are over `served` requests; `running` and `waiting` are
    requests now; `completed` counts those of draining replicas too. A plant of requests and
    tokens counts those as well.
    """

    time: float
    arrived: float
    completed: float
    served: float
    ttft_ms_sum: float
    itl_ms_sum: float
    running: float
    waiting: float
    tokens: TokenMeter | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StepSample:
    """What happened in one step that ended at `time`; arrays are (servers,), in the plant's order.

    `ttft_ms` and `itl_ms` are those of the requests that arrived: infinite where no replica
    was ready. `ready` replicas serve, `held` ones hold cards (starting and draining ones too).
    `cards` are (types,), in the order of the plant's capacity.
    """

    time: float
    arrived: FloatArray
    completed: FloatArray
    in_system: FloatArray
    ttft_ms: FloatArray
    itl_ms: FloatArray
    ready: IntArray
    held: IntArray
    cards: IntArray


class Plant(Protocol):
    """A fleet under a simulated clock; what watches and scales it knows no more than this."""

    @property
    def time(self) -> float:
        """The end of the last step, in seconds of the simulated clock."""
        ...

    def advance_to(self, time: float) -> tuple[StepSample, ...]:
        """Make every whole step that ends by `time`, and say what happened in each."""
        ...

    def workloads(self) -> tuple[Workload, ...]:
        """Every server as a workload, in order of name."""
        ...

    def meters(self) -> Mapping[str, Meter]:
        """What the engines of each server count."""
        ...

    def scale(self, ref: WorkloadRef, replicas: int) -> None:
        """Ask for `replicas` of one workload.

        Raises:
            NotFoundError: no such workload.
            ConflictError: the workload changed since `ref` was read.

        """
        ...
