"""Sizing for a percentile of a latency instead of its mean.

A percentile need not rise with the rate everywhere: at a small rate few wait, and the law that
is assumed for those is a rough one. So the rate that is found is the greatest one such that it
and every lower rate of a sample meets the target: the sample goes from the least rate to the
greatest, denser towards saturation, and what lies beyond its first miss is never considered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import numpy as np

from controlloop.api.replicas import (
    BoolArray,
    FloatArray,
    IntArray,
    Replicas,
    Sizing,
    SizingStatus,
    Targets,
)
from controlloop.protocols import PercentileModel
from controlloop.queueing.roots import find_roots

# Where the search looks between the least and the greatest rate: shares of the greatest one.
_SAMPLE: Final = (0.02, 0.08, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
_STEP: Final = 1e-6
_LEAST_MS: Final = 1e-100
# Rounding of two ways to the same number; as of the means.
_ROUNDING: Final = 1e-12


class Latency(Enum):
    """Which latency of a request."""

    ITL = "itl_ms"
    TTFT = "ttft_ms"


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Which percentile of its latencies each pair is sized for.

    Attributes:
        itl: (n,) a share below 1, 0.95 is the 95th percentile; 0 is the mean.
        ttft: (n,) the same of TTFT.

    """

    itl: FloatArray
    ttft: FloatArray

    def of(self, latency: Latency) -> FloatArray:
        """Those of one latency: (n,)."""
        return self.itl if latency is Latency.ITL else self.ttft

    @property
    def are_means(self) -> BoolArray:
        """Where neither is a percentile: (n,)."""
        return np.asarray((self.itl <= 0) & (self.ttft <= 0))

    def take(self, rows: IntArray) -> Levels:
        """Those of the pairs at `rows`."""
        return Levels(self.itl[rows], self.ttft[rows])


def percentile_of(
    model: PercentileModel,
    replicas: Replicas,
    rate_rps: FloatArray,
    latency: Latency,
    level: FloatArray,
) -> FloatArray:
    """A percentile of one latency, for each pair at its own rate and level: (n,) in ms.

    NaN where the level is 0, and where the model has no answer.
    """
    found = np.full(len(replicas), np.nan)
    for each in np.unique(level[level > 0]):
        rows = np.flatnonzero(level == each)
        tails = model.percentiles(replicas.take(rows), rate_rps[rows], (float(each),))
        found[rows] = (tails.itl_ms if latency is Latency.ITL else tails.ttft_ms)[0]
    return found


def size_tails(
    model: PercentileModel, replicas: Replicas, targets: Targets, levels: Levels
) -> Sizing:
    """The largest rate at which every target holds, each for its percentile or mean.

    As `QueueModel.size`; the floors of percentiles are percentiles at the least rate. Where a
    percentile cannot be evaluated the status is NOT_CONVERGED.
    """
    plain = Targets(
        np.where(levels.itl > 0, 0.0, targets.itl_ms),
        np.where(levels.ttft > 0, 0.0, targets.ttft_ms),
        targets.tps,
    )
    sizing = model.size(replicas, plain)
    low, high = model.rate_range_rps(replicas)
    # A negative or NaN target makes a pair invalid, whatever it is the target of.
    asked = (targets.itl_ms >= 0) & (targets.ttft_ms >= 0)
    invalid = (sizing.status == SizingStatus.INVALID) | ~asked
    status = np.where(invalid, SizingStatus.INVALID, sizing.status)
    rates, floors = {}, {}
    for latency, rate, floor, target_ms, unreachable in (
        (
            Latency.ITL,
            sizing.rate_itl_rps,
            sizing.floor_itl_ms,
            targets.itl_ms,
            SizingStatus.ITL_UNREACHABLE,
        ),
        (
            Latency.TTFT,
            sizing.rate_ttft_rps,
            sizing.floor_ttft_ms,
            targets.ttft_ms,
            SizingStatus.TTFT_UNREACHABLE,
        ),
    ):
        rows = np.flatnonzero((levels.of(latency) > 0) & (target_ms > 0) & ~invalid)
        found = _limits(
            _Curves(model, replicas.take(rows), latency, levels.of(latency)[rows], target_ms[rows]),
            low[rows],
            high[rows],
        )
        rates[latency], floors[latency] = rate.copy(), floor.copy()
        rates[latency][rows], floors[latency][rows] = found.rate_rps, found.floor_ms
        lost = rows[~found.known]
        status[lost[status[lost] == SizingStatus.OK]] = SizingStatus.NOT_CONVERGED
        out = rows[found.known & (found.rate_rps == 0)]
        # Of several reasons the one about TTFT is told, as of means.
        status[out[status[out] != SizingStatus.TTFT_UNREACHABLE]] = unreachable
    done = status == SizingStatus.OK
    least = np.minimum(np.minimum(rates[Latency.ITL], rates[Latency.TTFT]), sizing.rate_tps_rps)
    rate_rps = np.where(done, least, 0.0)
    return replace(
        sizing,
        status=status,
        rate_rps=rate_rps,
        rate_ttft_rps=rates[Latency.TTFT],
        rate_itl_rps=rates[Latency.ITL],
        floor_ttft_ms=floors[Latency.TTFT],
        floor_itl_ms=floors[Latency.ITL],
        at=model.analyze(replicas, np.where(done, rate_rps, np.nan)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Limits:
    """Up to where a percentile is within its target, (n,) each.

    `rate_rps` is 0 where it never is; `known` is whether there was an answer.
    """

    rate_rps: FloatArray
    floor_ms: FloatArray
    known: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class _Curves:
    """log(percentile/target) over log(rate) of n pairs."""

    model: PercentileModel
    replicas: Replicas
    latency: Latency
    level: FloatArray
    target_ms: FloatArray

    def at(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        both = np.concatenate([x, x + _STEP])
        twice = self.take(np.tile(np.arange(len(x)), 2))
        # Without a prompt those who do not wait see no time at all.
        tails_ms = np.maximum(twice.percentile_ms(np.exp(both)), _LEAST_MS)
        value, beyond = np.split(np.log(tails_ms / twice.target_ms), 2)
        return value, (beyond - value) / _STEP

    def percentile_ms(self, rate_rps: FloatArray) -> FloatArray:
        return percentile_of(self.model, self.replicas, rate_rps, self.latency, self.level)

    def take(self, rows: IntArray) -> _Curves:
        return _Curves(
            self.model,
            self.replicas.take(rows),
            self.latency,
            self.level[rows],
            self.target_ms[rows],
        )


def _limits(curves: _Curves, low: FloatArray, high: FloatArray) -> _Limits:
    count = len(low)
    if not count:
        return _Limits(low, low, np.ones(0, dtype=np.bool_))
    inner = np.maximum(np.multiply.outer(_SAMPLE, high), low)
    rates = np.vstack([low, inner, high])
    every = curves.take(np.tile(np.arange(count), len(rates)))
    tails_ms = every.percentile_ms(rates.reshape(-1)).reshape(rates.shape)
    held = tails_ms <= curves.target_ms * (1 + _ROUNDING)
    # The sampled rates that hold with all below them; a number that is none does not hold.
    upto = np.logical_and.accumulate(held).sum(axis=0)
    known = np.isfinite(tails_ms[0])
    rate_rps = np.where(upto == len(rates), high, 0.0)
    rows = np.flatnonzero((upto > 0) & (upto < len(rates)))
    if len(rows):
        left, right = rates[upto[rows] - 1, rows], rates[upto[rows], rows]
        start = np.log(left)
        roots = find_roots(curves.take(rows), start, np.log(right), start)
        rate_rps[rows] = np.exp(roots.x)
        known[rows] &= roots.converged
    return _Limits(rate_rps, tails_ms[0], known)
