"""What a queue model expects of measurements, and how that changes with its parameters.

The three quantities that are compared, in logarithms: TTFT, ITL and throughput. A replica in
steady state shows TTFT and ITL. While a queue stands, grows or drains, TTFT tells of the past
and the arrival rate says nothing of what is served: then ITL and throughput are those of a
replica that is never out of work, whatever arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray, Replicas
from controlloop.protocols import QueueModel
from controlloop.queueing.models import default_max_queue
from controlloop.tuner.measurement import Measurement

CHANNELS: Final = ("ttft", "itl", "throughput")
TTFT, ITL, THROUGHPUT = range(3)
OVERLOAD: Final = 2.0
"""Arrivals per greatest rate at which a replica is certainly never out of work."""
NEAR_SATURATION: Final = 0.98
"""Share of the greatest rate from which on the mean wait is that of a queue that never settles."""

# Central differences: the error of h^2/6 and that of rounding, 1e-16/h, are both below 1e-8.
_STEP: Final = 1e-4
_MOST_LOG: Final = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Measurements as arrays, one row each.

    Attributes:
        rate_rps: (m,) arrivals.
        input_tokens: (m,) mean input tokens.
        output_tokens: (m,) mean output tokens.
        in_service: (m,) most requests in service at once.
        queued: (m,) whether a queue stood; see `Measurement`.
        log_values: (m, 3) logarithms of the channels, 0 where not known.
        known: (m, 3) which of them count.
        requests: (m,) requests behind the means, infinite where they are not known.

    """

    rate_rps: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    in_service: IntArray
    queued: BoolArray
    log_values: FloatArray
    known: BoolArray
    requests: FloatArray

    def __len__(self) -> int:
        return len(self.rate_rps)

    @classmethod
    def of(cls, measurements: Sequence[Measurement]) -> Table:
        """The table of `measurements`, which have no flaw."""
        rows = np.array(
            [
                (one.rate_rps, one.input_tokens, one.output_tokens, _or(one.requests, np.inf))
                for one in measurements
            ],
            dtype=np.float64,
        ).reshape(-1, 4)
        values = np.array(
            [
                (_or(one.ttft_ms, np.nan), one.itl_ms, _or(one.throughput_rps, np.nan))
                for one in measurements
            ],
            dtype=np.float64,
        ).reshape(-1, 3)
        queued = np.array([one.queued for one in measurements], dtype=np.bool_)
        # A steady replica's throughput is its arrivals: that says nothing of its parameters.
        used = np.column_stack([~queued, np.ones_like(queued), queued])
        known = used & np.isfinite(values)
        return cls(
            rate_rps=rows[:, 0],
            input_tokens=rows[:, 1],
            output_tokens=rows[:, 2],
            in_service=np.array([one.in_service for one in measurements], dtype=np.int64),
            queued=queued,
            log_values=np.log(np.where(known, values, 1.0)),
            known=known,
            requests=rows[:, 3],
        )

    def take(self, rows: IntArray | BoolArray) -> Table:
        """The measurements at `rows`."""
        return Table(
            self.rate_rps[rows],
            self.input_tokens[rows],
            self.output_tokens[rows],
            self.in_service[rows],
            self.queued[rows],
            self.log_values[rows],
            self.known[rows],
            self.requests[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Expectation:
    """What the model expects of each row of a table.

    Attributes:
        log_values: (m, 3) logarithms of the channels, NaN where the model has no answer.
        slopes: (m, 3, k) their derivatives by the logarithms of the parameters.
        by_rate: (m, 3) their derivatives by the logarithm of the arrival rate.
        saturated: (m,) whether the model holds the arrivals to be more than can be served.

    """

    log_values: FloatArray
    slopes: FloatArray
    by_rate: FloatArray
    saturated: BoolArray


def expect(
    model: QueueModel,
    log_parameters: FloatArray,
    table: Table,
    slopes_at: FloatArray | None = None,
) -> Expectation:
    """Values at `log_parameters` (m, k), -inf for a parameter that is 0, and slopes.

    The slopes are those at `slopes_at` (m, k), where that is given.
    """
    around = log_parameters if slopes_at is None else slopes_at
    count, width = log_parameters.shape
    steps = np.concatenate([np.eye(width), -np.eye(width)]) * _STEP
    moved = around + steps[:, np.newaxis, :]
    still = np.broadcast_to(log_parameters, (3, count, width))
    rates = np.ones(2 * width + 3)
    rates[-2:] = np.exp([_STEP, -_STEP])
    values, most = _evaluate(
        model, np.concatenate([moved, still]).reshape(-1, width), _tiled(table, rates)
    )
    values = values.reshape(-1, count, len(CHANNELS))
    with np.errstate(invalid="ignore"):
        slopes = np.moveaxis((values[:width] - values[width:-3]) / (2 * _STEP), 0, -1)
        by_rate = (values[-2] - values[-1]) / (2 * _STEP)
    return Expectation(
        log_values=values[-3],
        slopes=np.where(np.isfinite(slopes), slopes, 0.0),
        by_rate=np.where(np.isfinite(by_rate), by_rate, 0.0),
        saturated=~table.queued & (table.rate_rps >= NEAR_SATURATION * most.reshape(-1, count)[-3]),
    )


def expected_values(model: QueueModel, log_parameters: FloatArray, table: Table) -> FloatArray:
    """The values alone, (m, 3) in logarithms."""
    return _evaluate(model, log_parameters, table)[0]


def _or(value: float | None, unknown: float) -> float:
    return unknown if value is None else value


def _tiled(table: Table, rate_factors: FloatArray) -> Table:
    """The table once for each of `rate_factors`."""
    rows = np.tile(np.arange(len(table)), len(rate_factors))
    tiled = table.take(rows)
    np.multiply(tiled.rate_rps, np.repeat(rate_factors, len(table)), out=tiled.rate_rps)
    return tiled


def _evaluate(
    model: QueueModel, log_parameters: FloatArray, table: Table
) -> tuple[FloatArray, FloatArray]:
    """Logarithms of the channels (m, 3) and the greatest rate (m,)."""
    replicas = Replicas(
        max_batch=table.in_service,
        max_queue=default_max_queue(table.in_service),
        input_tokens=table.input_tokens,
        output_tokens=table.output_tokens,
        parameters=np.exp(np.minimum(log_parameters, _MOST_LOG)),
    )
    most = model.rate_range_rps(replicas)[1]
    analysis = model.analyze(replicas, np.where(table.queued, OVERLOAD * most, table.rate_rps))
    values = np.column_stack([analysis.ttft_ms, analysis.itl_ms, analysis.throughput_rps])
    known = np.isfinite(values) & (values > 0)
    return np.log(values, out=np.full(values.shape, np.nan), where=known), most
