"""What one replica of a server truly can do within its objectives: what baselines are scaled by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import Replicas, SizingStatus, Targets
from controlloop.api.system import DEFAULT_QUEUE_MODEL, System, Target
from controlloop.backtest.errors import BacktestError
from controlloop.protocols import QueueModel
from controlloop.queueing.models import default_max_queue
from controlloop.simulator.plant import PlantServer


@dataclass(frozen=True, slots=True)
class Capability:
    """One replica at the greatest rate within its objectives.

    `rate_rps` requests/s, at which `in_flight` requests are in it and `waiting` of them wait;
    `most_rps` is what it completes when saturated.
    """

    rate_rps: float
    in_flight: float
    waiting: float
    most_rps: float

    def replicas(self, rate_rps: float) -> int:
        """Replicas that serve `rate_rps` within the objectives, at least 1."""
        return max(math.ceil(rate_rps / self.rate_rps - 1e-9), 1)


def capabilities(
    servers: Sequence[PlantServer], truth: System, model_of: Callable[[str], QueueModel]
) -> Mapping[str, Capability]:
    """By server, from the parameters that its engines truly have.

    Raises:
        BacktestError: a server's objectives cannot be met by any number of replicas.

    """
    return {one.name: _capability(one, truth, model_of) for one in servers}


def _capability(
    server: PlantServer, truth: System, model_of: Callable[[str], QueueModel]
) -> Capability:
    pair = (server.model, server.accelerator)
    perf = next((one for one in truth.perf if (one.model, one.accelerator) == pair), None)
    service = next((one for one in truth.classes if one.name == server.service_class), None)
    if perf is None:
        raise BacktestError(f"server {server.name}: no performance data of {pair}")
    target = (service and service.target(server.model)) or Target(server.model)
    max_batch = np.array([server.max_batch])
    replica = Replicas(
        max_batch=max_batch,
        max_queue=default_max_queue(max_batch),
        input_tokens=np.array([server.input_tokens]),
        output_tokens=np.array([server.output_tokens]),
        parameters=np.array([perf.parameters]),
    )
    aims = Targets(np.array([target.itl_ms]), np.array([target.ttft_ms]), np.array([target.tps]))
    sized = model_of(perf.queue_model or DEFAULT_QUEUE_MODEL).size(replica, aims)
    if sized.status[0] != SizingStatus.OK:
        status = SizingStatus(int(sized.status[0])).name.lower().replace("_", " ")
        raise BacktestError(
            f"server {server.name}: its objectives cannot be met on {server.accelerator}: {status}"
        )
    return Capability(
        rate_rps=float(sized.rate_rps[0]),
        in_flight=float(sized.at.in_system[0]),
        waiting=float(sized.at.waiting[0]),
        most_rps=float(sized.at.max_rate_rps[0]),
    )
