"""Percentiles of a latency from the means and variances of its parts.

A latency without a wait follows a gamma law of its mean and variance, which is positive, and
normal where it is narrow. A wait for a slot is 0 for those who find one; for the others it is
a sum of as many departures as stand before them, again a gamma law: of an M/M/1 queue, whose
wait is exponential, it is the exact one. The parts are added level by level, as though the
longest waits met the slowest prefills: no percentile comes out too small for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from controlloop.api.replicas import FloatArray

# A law narrower than this share of its mean is its mean.
_NARROW = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Mean in ms and variance in ms^2 of a part of a latency, each (n,), not negative."""

    mean: FloatArray
    variance: FloatArray

    def percentile(self, level: FloatArray) -> FloatArray:
        """The percentile at `level` (n,), in 0..1, of the gamma law: (n,)."""
        narrow = self.variance <= (_NARROW * self.mean) ** 2
        safe_mean = np.where(narrow, 1.0, self.mean)
        safe_variance = np.where(narrow, 1.0, self.variance)
        shape = safe_mean**2 / safe_variance
        found = special.gammaincinv(shape, level) * safe_variance / safe_mean
        return np.where(narrow, self.mean, found)


def left_after_averaging(restoring: FloatArray) -> FloatArray:
    """The share of a variance that is left in a mean over a request's stay: (n,).

    Of a process that returns to its mean exponentially, `restoring` times in a stay: the
    variance of its average, 2 (e^-t - 1 + t)/t^2.
    """
    left: FloatArray = 2 * (np.expm1(-restoring) + restoring) / restoring**2
    return left


def latency_percentile(
    latency: Spread, level: float, wait: Spread | None = None, waits: FloatArray | None = None
) -> FloatArray:
    """A percentile of a latency: (n,).

    Args:
        latency: the latency without the wait.
        level: between 0 and 1.
        wait: the wait of those that wait; None is no wait.
        waits: (n,) the share that waits.

    """
    everywhere = np.full(len(latency.mean), level)
    found = latency.percentile(everywhere)
    if wait is None or waits is None:
        return found
    # The part of those that wait which lies below the level.
    below = (level - (1 - waits)) / np.maximum(waits, np.finfo(np.float64).tiny)
    waited = wait.percentile(np.clip(below, 0.0, level))
    return found + np.where(below > 0, waited, 0.0)
