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
from typing import Final

import numpy as np
from scipy import special

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.queueing import geometric
from controlloop.queueing.segments import Segments
from controlloop.queueing.service import Departures
from controlloop.queueing.walk import Walker

# Loads beyond e^-276 and e^276 differ in nothing that states below N can tell.
_LARGEST_LOG: Final = 276.0

_walk = Walker()


@dataclass(frozen=True, slots=True, eq=False)
class Met:
    """What an accepted arrival meets, each (n,).

    Attributes:
        level: mean of the chain's table at min(j, N - 1); without a table that number itself,
            those in service beside it once it is in service.
        waits: share of accepted arrivals that wait.
        log_waits: logarithm of `waits`, which may be too small for `waits` to hold.
        queue_mean: mean departures that one that waits, waits for.
        queue_variance: their variance.
        present: mean of j.
        product: mean of j times the table's entry.
        queue_at: mean of j where it waits.
        log_room: logarithm of the weight of all states that are met, over that of the full one.

    """

    level: FloatArray
    waits: FloatArray
    log_waits: FloatArray
    queue_mean: FloatArray
    queue_variance: FloatArray
    present: FloatArray
    product: FloatArray
    queue_at: FloatArray
    log_room: FloatArray

    @property
    def awaited(self) -> FloatArray:
        """Mean of max(j - N + 1, 0): departures that it waits for."""
        return self.waits * self.queue_mean

    @property
    def log_level(self) -> FloatArray:
        """Logarithm of `level`, -inf where it is 0."""
        level = self.level
        return np.log(level, out=np.full(level.shape, -np.inf), where=level > 0)

    @property
    def log_awaited(self) -> FloatArray:
        """Logarithm of `awaited`, also where that is too small to be held."""
        return self.log_waits + np.log(self.queue_mean)

    @property
    def accepted(self) -> FloatArray:
        """Share of all arrivals that find room."""
        accepted: FloatArray = special.expit(self.log_room)
        return accepted

    @property
    def level_slope(self) -> FloatArray:
        """Derivative of `log_level` by the logarithm of the rate."""
        level = self.level
        covariance = np.maximum(self.product - level * self.present, 0.0)
        return np.divide(covariance, level, out=np.ones_like(level), where=level > 0)

    @property
    def awaited_slope(self) -> FloatArray:
        """Derivative of `log_awaited` by the logarithm of the rate."""
        return self.queue_at + self.queue_variance / self.queue_mean - self.present


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Chains of n replicas.

    Attributes:
        states: where the states 0..N-1 of each replica stand in tables.
        departures: 1/mu(j + 1) in ms, by the state j that is met.
        max_queue: (n,) Q.
        table: (total,) what `met` takes the mean of, by the state that is met: rising from 0;
            None is the position of the state.

    """

    states: Segments
    departures: Departures
    max_queue: FloatArray
    table: FloatArray | None = None

    def reading(self, table: FloatArray | None) -> Chain:
        """The same chains with another table."""
        return replace(self, table=table)

    def take(self, rows: IntArray) -> Chain:
        """The chains at `rows`; one may be taken more than once."""
        return Chain(
            self.states.take(rows), self.departures.take(rows), self.max_queue[rows], self.table
        )

    @property
    def full_ms(self) -> FloatArray:
        """(n,) 1/mu(N)."""
        return self.departures.at(self.states.lasts)

    @property
    def top(self) -> FloatArray:
        """(n,) the table's last entry: what an arrival meets that finds all slots taken."""
        table = self.states.position if self.table is None else self.table
        top: FloatArray = table[self.states.lasts]
        return top

    def position_of(self, level: FloatArray) -> FloatArray:
        """Where the table reaches `level` (n,), between its entries on a line; at most N - 1."""
        states, table = self.states, self.table
        most = states.lengths.astype(np.float64) - 1
        if table is None:
            return np.minimum(level, most)
        # The last entry that is not above `level`, by halving: the first one always counts.
        below, beyond = states.starts, np.maximum(states.lasts, states.starts + 1)
        while np.any(beyond - below > 1):
            middle = (below + beyond) // 2
            reached = table[middle] <= level
            below, beyond = np.where(reached, middle, below), np.where(reached, beyond, middle)
        above = np.minimum(below + 1, states.lasts)
        rise = table[above] - table[below]
        share = np.divide(level - table[below], rise, out=np.zeros_like(level), where=rise > 0)
        position: FloatArray = below - states.starts + np.clip(share, 0.0, 1.0)
        return np.minimum(position, most)

    def met(self, log_load: FloatArray) -> Met:
        """What accepted arrivals meet at log(lambda/mu(N)) (n,), of any sign."""
        states, departures = self.states, self.departures
        table = states.position if self.table is None else self.table
        rate_per_ms = np.exp(np.clip(log_load, -_LARGEST_LOG, _LARGEST_LOG)) / self.full_ms
        sums = _walk(states, departures, rate_per_ms, table)
        # Logarithms relative to the states below N. Between N - 1 and N stands mu(N) itself.
        log_full = sums.log_last + log_load
        log_tail = log_full + geometric.log_sum(self.max_queue, log_load)
        behind, variance = geometric.mean_and_variance(np.maximum(self.max_queue, 1.0), log_load)
        wait = behind + 1
        tail = special.expit(log_tail)
        head = special.expit(-log_tail) / sums.total
        top, queue_at = self.top, states.lengths - 1 + wait
        return Met(
            level=head * sums.level + tail * top,
            waits=tail,
            log_waits=special.log_expit(log_tail),
            queue_mean=wait,
            queue_variance=variance,
            present=head * sums.position + tail * queue_at,
            product=head * sums.product + tail * top * queue_at,
            queue_at=queue_at,
            log_room=-special.log_expit(-log_tail) - log_full - self.max_queue * log_load,
        )
