"""Arrays that queue models work on: one entry a (server, accelerator) pair.

All arrays of one value have the same length n. Rates in requests/s, times in ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Replicas:
    """One replica of each pair.

    Attributes:
        max_batch: (n,) requests in service at most, >= 1.
        max_queue: (n,) requests waiting at most, >= 0.
        input_tokens: (n,) mean input tokens of a request, >= 0.
        output_tokens: (n,) mean output tokens of a request, >= 1.
        parameters: (n, k) the queue model's parameters in the order of its `parameter_names`.

    """

    max_batch: IntArray
    max_queue: IntArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    parameters: FloatArray

    def __len__(self) -> int:
        return len(self.max_batch)

    def take(self, indices: IntArray | BoolArray) -> Replicas:
        """The pairs at `indices` (positions or a mask)."""
        return Replicas(
            self.max_batch[indices],
            self.max_queue[indices],
            self.input_tokens[indices],
            self.output_tokens[indices],
            self.parameters[indices],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Objectives of each pair; 0 is no target. ITL and TTFT in ms, TPS in tokens/s."""

    itl_ms: FloatArray
    ttft_ms: FloatArray
    tps: FloatArray

    def take(self, indices: IntArray | BoolArray) -> Targets:
        """The pairs at `indices` (positions or a mask)."""
        return Targets(self.itl_ms[indices], self.ttft_ms[indices], self.tps[indices])


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """One replica of each pair at a given arrival rate; every array is (n,).

    `ttft_ms` = `wait_ms` + `prefill_ms`. `response_ms` is the mean time from arrival to the
    last token. `utilization` is `in_service` / max batch. Entries of a pair that a model
    cannot evaluate are NaN.
    """

    throughput_rps: FloatArray
    response_ms: FloatArray
    wait_ms: FloatArray
    in_service: FloatArray
    waiting: FloatArray
    prefill_ms: FloatArray
    itl_ms: FloatArray
    utilization: FloatArray
    max_rate_rps: FloatArray

    @property
    def ttft_ms(self) -> FloatArray:
        """Time to first token, queueing included: (n,)."""
        return self.wait_ms + self.prefill_ms

    @property
    def in_system(self) -> FloatArray:
        """Requests in service and waiting: (n,)."""
        return self.in_service + self.waiting


@dataclass(frozen=True, slots=True, eq=False)
class Percentiles:
    """Percentiles of one replica's latencies over its requests, at a given arrival rate.

    Attributes:
        levels: L shares, 0.95 is the 95th percentile.
        ttft_ms: (L, n) time to first token, queueing included.
        itl_ms: (L, n) a request's own mean time between tokens.

    """

    levels: tuple[float, ...]
    ttft_ms: FloatArray
    itl_ms: FloatArray


class SizingStatus(IntEnum):
    """How the sizing of one pair ended."""

    OK = 0
    TTFT_UNREACHABLE = 1
    ITL_UNREACHABLE = 2
    NOT_CONVERGED = 3
    INVALID = 4


@dataclass(frozen=True, slots=True, eq=False)
class Sizing:
    """The largest rate of each pair within its targets; every array is (n,).

    `rate_rps` is the least of the three rates, 0 where `status` is not OK. `at` is the
    analysis at `rate_rps` (NaN where there is none). `floor_ttft_ms` and `floor_itl_ms` are
    the latencies at the least rate: what a target must be at least.
    """

    status: IntArray
    rate_rps: FloatArray
    rate_ttft_rps: FloatArray
    rate_itl_rps: FloatArray
    rate_tps_rps: FloatArray
    floor_ttft_ms: FloatArray
    floor_itl_ms: FloatArray
    at: Analysis
