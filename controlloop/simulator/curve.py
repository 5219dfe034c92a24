"""One replica as a fluid: what flows out of it when so much is in it.

The pointwise stationary fluid flow approximation (Wang, Tipper, Banerjee 1996): with L requests
in a replica, requests leave at the rate whose stationary state holds L,

    dL/dt = arrivals - X(L),

so that the steady state is the queue model's own, a queue is carried over from one step to the
next, and beyond saturation it grows by what the replica cannot serve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import FloatArray, Replicas
from controlloop.protocols import QueueModel
from controlloop.units import ms_from_s

POINTS = 257


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica at one moment: requests in it and their latencies, in ms."""

    in_system: float
    throughput_rps: float
    waiting: float
    wait_ms: float
    prefill_ms: float
    itl_ms: float

    @property
    def in_service(self) -> float:
        """Requests in the running batch."""
        return self.in_system - self.waiting

    @property
    def ttft_ms(self) -> float:
        """Time to first token of a request that arrives now."""
        return self.wait_ms + self.prefill_ms


class ReplicaCurve:
    """The stationary states of one replica, from idle to saturation.

    Args:
        model: the queue model that the replica truly follows.
        replica: that one replica (length 1).

    Raises:
        ValueError: the model cannot evaluate the replica.

    """

    def __init__(self, model: QueueModel, replica: Replicas) -> None:
        rates = _rates(model, replica)
        states = model.analyze(replica.take(np.zeros(len(rates), dtype=np.int64)), rates)
        # Little's law makes the columns agree: in_system = throughput * response time.
        table = np.column_stack(
            [
                states.in_system,
                states.throughput_rps,
                states.waiting,
                states.wait_ms,
                states.prefill_ms,
                states.itl_ms,
            ]
        )
        idle = np.array([0.0, 0.0, 0.0, 0.0, table[0, 4], table[0, 5]])
        self._table: FloatArray = np.vstack([idle, table])
        if not np.all(np.isfinite(self._table)) or np.any(np.diff(self._table[:, 0]) <= 0):
            raise ValueError("the queue model cannot evaluate this replica")

    @property
    def max_throughput_rps(self) -> float:
        """Requests/s that leave a saturated replica."""
        return float(self._table[-1, 1])

    def at(self, in_system: float) -> ReplicaState:
        """The state with `in_system` (>= 0) requests in the replica."""
        table = self._table
        beyond = in_system - float(table[-1, 0])
        if beyond > 0:
            return self._saturated(in_system, beyond)
        upper = min(max(int(np.searchsorted(table[:, 0], in_system)), 1), len(table) - 1)
        below, above = table[upper - 1], table[upper]
        share = (in_system - below[0]) / (above[0] - below[0])
        _, rate, waiting, wait, prefill, itl = (below + share * (above - below)).tolist()
        return ReplicaState(in_system, rate, waiting, wait, prefill, itl)

    def after(self, in_system: float, arrivals: float, seconds: float) -> float:
        """Requests in the replica `seconds` later, with `arrivals` requests in between.

        One implicit Euler step, solved exactly on the table: stable for any length of step,
        and what left, in_system + arrivals - result, is never negative.
        """
        table = self._table
        level = in_system + arrivals
        levels = table[:, 0] + seconds * table[:, 1]
        if level > levels[-1]:
            return level - seconds * self.max_throughput_rps
        return min(float(np.interp(level, levels, table[:, 0])), level)

    def _saturated(self, in_system: float, beyond: float) -> ReplicaState:
        _, rate, waiting, _, prefill, itl = self._table[-1].tolist()
        waiting += beyond
        return ReplicaState(in_system, rate, waiting, ms_from_s(waiting / rate), prefill, itl)


def _rates(model: QueueModel, replica: Replicas) -> FloatArray:
    least, most = (float(rates[0]) for rates in model.rate_range_rps(replica))
    # Dense towards saturation, where queues grow fastest with the rate.
    steps = 1.0 - (1.0 - np.linspace(0.0, 1.0, POINTS)) ** 2
    return np.asarray(least + (most - least) * steps, dtype=np.float64)
