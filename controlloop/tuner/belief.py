"""What is known of one pair of model and accelerator, and how that came about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.api.system import PerfParameters
from controlloop.tuner.expectation import CHANNELS
from controlloop.tuner.measurement import Measurement

WINDOW: Final = 12
"""Measurements that are kept for a fit."""
HISTORY: Final = 10
"""Judgements of measurements that are kept."""
BIAS_WEIGHT: Final = 0.15
"""Weight of the last innovation in their running mean."""
# Of independent innovations the running mean has this standard deviation, three times.
_BIAS_LIMIT: Final = 3.0 * (BIAS_WEIGHT / (2 - BIAS_WEIGHT)) ** 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """What the configuration says of one pair.

    Attributes:
        mean: (k,) logarithms of the configured parameters, 0 where one is configured as 0.
        covariance: (k, k) of them.
        free: (k,) which are learned; what is configured as 0 stays 0.

    """

    mean: FloatArray
    covariance: FloatArray
    free: BoolArray


@dataclass(frozen=True, slots=True)
class Doubt:
    """How wrong configured parameters may be: standard deviations of their logarithms.

    `common` is that of all times together, since a faster or slower machine changes them all;
    `own` is that of each parameter by itself.
    """

    common: float = 1.0
    own: float = 0.7


def prior_of(perf: PerfParameters, doubt: Doubt) -> Prior:
    """The prior of a configured pair; its parameters must be finite and not negative."""
    values = np.array(perf.parameters, dtype=np.float64)
    free = values > 0
    times = np.array([name.endswith("_ms") for name in perf.parameter_names])
    covariance = doubt.own**2 * np.eye(len(values)) + doubt.common**2 * np.outer(times, times)
    return Prior(
        mean=np.log(np.where(free, values, 1.0)),
        covariance=covariance * np.outer(free, free),
        free=free,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """The last measurement of a pair beside what was expected of it, before it was learned.

    Values of the channels TTFT (ms), ITL (ms), throughput (requests/s), NaN where not compared.
    `uncertainty` is the standard deviation of the logarithm of each that the parameters'
    uncertainty makes; `nis` the normalised innovation squared per channel compared.
    """

    time: float
    measured: tuple[float, ...]
    expected: tuple[float, ...]
    uncertainty: tuple[float, ...]
    nis: float


def _ones() -> FloatArray:
    return np.ones(len(CHANNELS))


def _zeros() -> FloatArray:
    return np.zeros(len(CHANNELS))


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """What is known of one pair. A new one for every measurement; none is ever changed.

    Attributes:
        mean: (k,) logarithms of the parameters.
        covariance: (k, k) of them.
        reference: (k,) where slopes are taken, while a parameter is not known well.
        fitted: whether a first fit was made; before it the mean is the prior's.
        since_fit: measurements learned since the last fit.
        noise: (3,) variance of each channel's own noise, in units of what is assumed.
        seen: (3,) measurements behind `noise`.
        bias: (3,) running mean of the normalised innovation with its sign.
        drift: share of its distance to the prior that the covariance regains in an hour.
        heard_at: time of the last measurement of any kind, seconds since the epoch.
        recent: the last measurements without a flaw, learned or not.
        judged: of the last of them, whether each was learned.
        accepted: measurements learned in all.
        rejected: measurements not learned in all, by reason.
        refits: how often the parameters were learned anew.
        trusted: (k,) the last mean that was trusted; None before the first.
        proven: what was known when it was last trusted after many measurements: the mean and
            covariance to come back to after a disturbance; None before.
        compared: the last comparison; None before the first.

    """

    mean: FloatArray
    covariance: FloatArray
    reference: FloatArray
    fitted: bool = False
    since_fit: int = 0
    noise: FloatArray = field(default_factory=_ones)
    seen: FloatArray = field(default_factory=_zeros)
    bias: FloatArray = field(default_factory=_zeros)
    drift: float = 0.0
    heard_at: float = -math.inf
    recent: tuple[Measurement, ...] = ()
    judged: tuple[bool, ...] = ()
    accepted: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    refits: int = 0
    trusted: FloatArray | None = None
    proven: tuple[FloatArray, FloatArray] | None = None
    compared: Compared | None = None

    @classmethod
    def of(cls, prior: Prior) -> Belief:
        """What is known before any measurement: the configuration."""
        return cls(mean=prior.mean, covariance=prior.covariance, reference=prior.mean)

    @property
    def wanders(self) -> bool:
        """Whether innovations keep to one side: what is learned changes, or is wrong."""
        return bool(np.abs(self.bias).max() > _BIAS_LIMIT)
