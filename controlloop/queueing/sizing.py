"""The largest rate at which the latency targets of each pair hold.

A latency is that of a request alone, plus what the state that it meets adds, plus `per_awaited`
ms for each departure that it waits for. What an arrival meets grows with the rate, so a target
holds on an interval of rates whose upper end is a root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.queueing.chain import Chain, Met
from controlloop.queueing.roots import find_roots
from controlloop.queueing.service import Reading, ServiceTimes

# A latency this much above its target, relative to the target, still counts as equal: a flat
# curve then meets a target that was worked out from the same numbers in another order.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Latency:
    """A latency of n pairs as a function of what an arrival meets.

    Attributes:
        chain: the chains, whose table `per_level` goes with.
        alone: (n,) for a request alone, in ms.
        per_level: (n,) ms for each unit of the chain's table.
        per_awaited: (n,) ms for each departure awaited.

    """

    chain: Chain
    alone: FloatArray
    per_level: FloatArray
    per_awaited: FloatArray

    @classmethod
    def of(cls, chain: Chain, parts: Sequence[Reading], per_awaited: FloatArray) -> Latency:
        """The sum of `parts`, and of the departures awaited at `per_awaited` ms (n,) each."""
        alone = sum((part.alone for part in parts), np.zeros(len(per_awaited)))
        if all(part.table is None for part in parts):
            scale = sum((part.scale for part in parts), np.zeros(len(per_awaited)))
            return cls(chain.reading(None), alone, scale, per_awaited)
        states = chain.states
        table = np.zeros(len(states.position))
        for part in parts:
            own = states.position if part.table is None else part.table
            table += states.spread(part.scale) * own
        return cls(chain.reading(table), alone, np.ones(len(alone)), per_awaited)

    def at(self, met: Met) -> FloatArray:
        """The latency of an arrival that meets `met`: (n,)."""
        return self.alone + self.per_level * met.level + self.per_awaited * met.awaited

    def take(self, rows: IntArray) -> Latency:
        """The latencies of the pairs at `rows`."""
        return Latency(
            self.chain.take(rows), self.alone[rows], self.per_level[rows], self.per_awaited[rows]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """Up to where one target of each pair holds, each (n,).

    Attributes:
        log_load: the greatest log(lambda/mu(N)) at which it holds; the least one considered
            where it holds nowhere, a lower bound where the search did not converge.
        reachable: whether it holds at the least load.
        converged: whether `log_load` is within 1e-9 of the limit.

    """

    log_load: FloatArray
    reachable: BoolArray
    converged: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class LoadRange:
    """Least and greatest log(lambda/mu(N)) of each pair, and what arrivals meet there."""

    low: FloatArray
    high: FloatArray
    met_low: Met
    met_high: Met

    @classmethod
    def of(cls, chain: Chain, low: FloatArray, high: FloatArray) -> LoadRange:
        """The range from `low` to `high`, each (n,)."""
        return cls(low, high, chain.met(low), chain.met(high))


def limits(
    latency: Latency, times: ServiceTimes, loads: LoadRange, target_ms: FloatArray
) -> Limits:
    """Find the greatest load at which `latency` is within `target_ms` (n,); 0 is no target."""
    bound = np.where(target_ms > 0, target_ms * (1 + _ROUNDING), np.inf)
    reachable = latency.at(loads.met_low) <= bound
    everywhere = latency.at(loads.met_high) <= bound
    log_load = np.where(everywhere, loads.high, loads.low)
    converged = np.ones(len(bound), dtype=np.bool_)
    rising = latency.at(loads.met_low) < target_ms
    rows = np.flatnonzero(rising & ~everywhere)
    if len(rows):
        low, high = loads.low[rows], loads.high[rows]
        curves = _Excess.of(latency.take(rows), target_ms[rows])
        guess = curves.guess(times.take(rows))
        roots = find_roots(curves, low, high, np.clip(guess, low, high))
        log_load[rows], converged[rows] = roots.x, roots.converged
    return Limits(log_load, reachable, converged)


@dataclass(frozen=True, slots=True, eq=False)
class _Excess:
    """How far the excess of a latency over that of a request alone is from the target's.

    With e the excess, the curve is log(e/(e + knee)) less its value at the target. In log load
    that is nearly straight: e is proportional to the load at first and has a pole near
    saturation, as in M/M/1, where this is the exact inverse.
    """

    chain: Chain
    log_per_level: FloatArray
    log_per_awaited: FloatArray
    log_knee: FloatArray
    log_allowed: FloatArray
    goal: FloatArray

    @classmethod
    def of(cls, latency: Latency, target_ms: FloatArray) -> _Excess:
        chain = latency.chain
        with np.errstate(divide="ignore"):
            log_knee = np.log(latency.per_awaited + latency.per_level * chain.top)
            log_allowed = np.log(target_ms - latency.alone)
            return cls(
                chain,
                np.log(latency.per_level),
                np.log(latency.per_awaited),
                log_knee,
                log_allowed,
                special.log_expit(log_allowed - log_knee),
            )

    def at(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        met = self.chain.met(x)
        at_level = self.log_per_level + met.log_level
        waiting = self.log_per_awaited + met.log_awaited
        excess = np.logaddexp(at_level, waiting)
        share = np.exp(waiting - excess)
        slope = met.level_slope * (1 - share) + met.awaited_slope * share
        beyond = excess - self.log_knee
        return special.log_expit(beyond) - self.goal, slope * special.expit(-beyond)

    def take(self, rows: IntArray) -> _Excess:
        return _Excess(
            self.chain.take(rows),
            self.log_per_level[rows],
            self.log_per_awaited[rows],
            self.log_knee[rows],
            self.log_allowed[rows],
            self.goal[rows],
        )

    def guess(self, times: ServiceTimes) -> FloatArray:
        """A load near the root: the least of those that either part of the excess allows.

        Without a limit to the batch, n - 1 = lambda s(n) holds for the mean batch n, exactly
        where s is affine. For the wait, r = w/(1 + w) with w departures awaited in M/M/1; with
        more servers the distance of log r from 0 shrinks as their square root, as in heavy
        traffic.
        """
        top, batch = self.chain.top, self.chain.states.lengths
        allowed = np.exp(np.minimum(self.log_allowed - self.log_per_level, np.log(top + 1)))
        beside = self.chain.position_of(allowed)
        in_service = np.minimum(1 + beside, times.slots)
        speed = times.departure_ms(times.slots) / times.departure_ms(in_service)
        by_batch = np.zeros(len(batch))
        np.log(beside / (1 + beside) * speed, out=by_batch, where=(allowed < top) & (beside > 0))
        by_wait = special.log_expit(self.log_allowed - self.log_per_awaited)
        return np.minimum(by_batch, by_wait / np.sqrt(batch))
