"""The birth-death chain of a replica whose departure rate depends on the requests present.

With j requests present they depart at mu(min(j, N)); at most N are in service and Q wait. The
weight of state j at arrival rate lambda is the product of lambda/mu(i), i = 1..j. Beyond N the
weights are geometric with ratio r = lambda/mu(N), so their sums are closed forms and the work
is O(N), whatever Q is.

Everything is expressed by what an accepted arrival meets, which is the stationary state cut to
0..N+Q-1 (arrivals see time averages). That keeps full precision where differences of the
stationary sums would cancel: far above saturation, and where service hardly depends on j.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.queueing import geometric
from controlloop.queueing.segments import Segments

# Weights less than e^-700 of the greatest add nothing and would underflow.
_NEGLIGIBLE = -700.0


@dataclass(frozen=True, slots=True, eq=False)
class Met:
    """What an accepted arrival meets, each (n,).

    Attributes:
        level: mean of the chain's table at min(j, N - 1); without a table that number itself,
            those in service beside it once it is in service.
        awaited: mean of max(j - N + 1, 0): departures that it waits for.
        log_level: logarithm of `level`, -inf where it is 0.
        log_awaited: logarithm of `awaited`, which may be too small for `awaited` to hold.
        accepted: share of all arrivals that find room.
        level_slope: derivative of `log_level` by the logarithm of the rate.
        awaited_slope: derivative of `log_awaited` by the logarithm of the rate.
        waits: share of accepted arrivals that wait.
        queue_mean: mean departures that one that waits, waits for.
        queue_variance: their variance.

    """

    level: FloatArray
    awaited: FloatArray
    log_level: FloatArray
    log_awaited: FloatArray
    accepted: FloatArray
    level_slope: FloatArray
    awaited_slope: FloatArray
    waits: FloatArray
    queue_mean: FloatArray
    queue_variance: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Chains of n replicas.

    Attributes:
        states: rows of the states 0..N-1 of each replica.
        log_weight: (total,) logarithm of each state's weight at lambda = mu(N).
        log_full: (n,) the same of state N.
        max_batch: (n,) N.
        max_queue: (n,) Q.
        table: (total,) what `met` takes the mean of, by the state that is met: rising from 0;
            None is the position of the state.

    """

    states: Segments
    log_weight: FloatArray
    log_full: FloatArray
    max_batch: FloatArray
    max_queue: FloatArray
    table: FloatArray | None = None

    @classmethod
    def of(cls, states: Segments, departure_rate: FloatArray, max_queue: IntArray) -> Chain:
        """Chains from mu(1)..mu(N) of each row (total,), in any unit, and Q (n,)."""
        ratio = states.spread(states.last(departure_rate)) / departure_rate
        log_weight = states.total_before(np.log(ratio))
        batch = states.lengths.astype(np.float64)
        # Between N - 1 and N stands mu(N), whose ratio to itself is 1.
        log_full = states.last(log_weight)
        return cls(states, log_weight, log_full, batch, max_queue.astype(np.float64))

    def reading(self, table: FloatArray | None) -> Chain:
        """The same chains with another table."""
        return replace(self, table=table)

    def take(self, rows: IntArray | BoolArray) -> Chain:
        """The chains at `rows`."""
        states, entries = self.states.take(rows)
        return Chain(
            states,
            self.log_weight[entries],
            self.log_full[rows],
            self.max_batch[rows],
            self.max_queue[rows],
            None if self.table is None else self.table[entries],
        )

    @property
    def top(self) -> FloatArray:
        """(n,) the table's last entry: what an arrival meets that finds all slots taken."""
        return self.max_batch - 1 if self.table is None else self.states.last(self.table)

    def position_of(self, level: FloatArray) -> FloatArray:
        """Where the table reaches `level` (n,), between its entries on a line; at most N - 1."""
        if self.table is None:
            return np.minimum(level, self.max_batch - 1)
        states = self.states
        reached = states.total((self.table <= states.spread(level)).astype(np.float64))
        reached = np.clip(reached, 1, np.maximum(self.max_batch - 1, 1))
        below = states.starts + reached.astype(np.int64) - 1
        above = np.minimum(below + 1, states.starts + states.lengths - 1)
        rise = self.table[above] - self.table[below]
        share = np.divide(level - self.table[below], rise, out=np.zeros_like(level), where=rise > 0)
        position: FloatArray = reached - 1 + np.clip(share, 0.0, 1.0)
        return np.minimum(position, self.max_batch - 1)

    def met(self, log_load: FloatArray) -> Met:
        """What accepted arrivals meet at log(lambda/mu(N)) (n,), of any sign."""
        states, position = self.states, self.states.position
        ready, top = self.max_batch - 1, self.top
        log_full = self.log_full + self.max_batch * log_load
        log_tail = log_full + geometric.log_sum(self.max_queue, log_load)
        log_weight = position * states.spread(log_load) + self.log_weight
        greatest = np.maximum(states.greatest(log_weight), log_tail)
        log_weight -= states.spread(greatest)
        weight = np.maximum(log_weight, _NEGLIGIBLE, out=log_weight)
        np.exp(weight, out=weight)
        head = states.total(weight)
        if self.table is None:
            weight *= position
            head_position = head_level = states.total(weight)
        else:
            head_position = states.total(weight * position)
            weight *= self.table
            head_level = states.total(weight)
        weight *= position
        head_product = states.total(weight)

        log_tail -= greatest
        tail = np.exp(np.maximum(log_tail, _NEGLIGIBLE)) * (log_tail > _NEGLIGIBLE)
        total = head + tail
        log_total = np.log(total)
        tail /= total
        behind, variance = geometric.mean_and_variance(np.maximum(self.max_queue, 1.0), log_load)
        wait = behind + 1
        level = head_level / total + tail * top
        present = head_position / total + tail * (ready + wait)
        product = head_product / total + tail * top * (ready + wait)
        covariance = np.maximum(product - level * present, 0.0)
        log_last = log_full + self.max_queue * log_load - greatest
        return Met(
            level=level,
            awaited=tail * wait,
            log_level=_log(level),
            log_awaited=log_tail - log_total + np.log(wait),
            accepted=special.expit(log_total - log_last),
            level_slope=np.divide(covariance, level, out=np.ones_like(level), where=level > 0),
            awaited_slope=ready + wait + variance / wait - present,
            waits=tail,
            queue_mean=wait,
            queue_variance=variance,
        )


def _log(values: FloatArray) -> FloatArray:
    return np.log(values, out=np.full(values.shape, -np.inf), where=values > 0)
