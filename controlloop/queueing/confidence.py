"""Sizing for what the parameters may be, instead of for what they most likely are.

The logarithms of a pair's parameters are taken as normal, with the estimate as mean and a
covariance. A latency is sized at the parameters that make it longest among those at z standard
deviations, z the normal quantile of the confidence: the estimate moved by z C g / sqrt(g' C g),
where C is the covariance and g the slope of log latency. This is inverse first-order reliability
(Der Kiureghian, Zhang and Li, 1994): where log latency is straight in the logarithms it is the
bound of the delta method, and the slope is taken anew at the point found, so that the knee of
saturation counts. A latency may become too long in more than one way (slow steps, or a replica
that fills up): slopes are taken at the least rate, at the estimate's and at those found, and the
least rate counts. Each latency has parameters of its own; so has the greatest rate, for what no
latency limits. The rate is the least of theirs, and never above that of the estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final, TypeAlias, TypeVar

import numpy as np
from scipy import special

from controlloop.api.replicas import FloatArray, IntArray, Replicas, Sizing, SizingStatus, Targets
from controlloop.protocols import PercentileModel, QueueModel
from controlloop.queueing.tails import Latency, Levels, percentile_of, size_tails

_ROUNDS: Final = 4
_STEP: Final = 1e-4
_LEAST_MS: Final = 1e-100

_Values = TypeVar("_Values", FloatArray, IntArray)

Curve: TypeAlias = Callable[[Replicas, FloatArray], FloatArray]
"""Logarithm of what limits the rate, of replicas at rates: (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """How sure the parameters of n pairs are.

    Attributes:
        covariance: (n, k, k) of the logarithms of the parameters; zeros are sure, and so is
            every parameter that is 0.
        confidence: probability, from 0.5 to 1, with which a target is to hold.

    """

    covariance: FloatArray
    confidence: float

    def take(self, rows: IntArray) -> Uncertainty:
        """That of the pairs at `rows`."""
        return Uncertainty(self.covariance[rows], self.confidence)


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """What n pairs are sized for: `levels` None is means, `uncertainty` None is the estimate."""

    targets: Targets
    levels: Levels | None = None
    uncertainty: Uncertainty | None = None

    def take(self, rows: IntArray) -> Ask:
        """What the pairs at `rows` are sized for."""
        return Ask(
            self.targets.take(rows),
            None if self.levels is None else self.levels.take(rows),
            None if self.uncertainty is None else self.uncertainty.take(rows),
        )


def size_asked(model: QueueModel, replicas: Replicas, ask: Ask) -> Sizing:
    """The largest rate at which every target holds, as it is asked for.

    As `QueueModel.size`. With uncertainty `at` is still what the estimate predicts, and where a
    target is out of reach for what the parameters may be, its floor is the one of those.

    Raises:
        TypeError: percentiles are asked of a model that knows none.

    """
    if ask.levels is not None and not isinstance(model, PercentileModel):
        raise TypeError(f'queue model "{model.name}" knows means only, no percentiles')
    sized = _Sizer(model, ask.levels)
    sizing = sized.size(replicas, ask.targets)
    unsure = ask.uncertainty
    if unsure is None:
        return sizing
    rows = np.flatnonzero(
        np.any(unsure.covariance != 0, axis=(1, 2)) & (sizing.status == SizingStatus.OK)
    )
    if not len(rows):
        return sizing
    some = _Bounds(
        sized.take(rows),
        replicas.take(rows),
        ask.targets.take(rows),
        unsure.covariance[rows],
        float(special.ndtri(unsure.confidence)),
    )
    return some.into(sizing, rows, replicas)


@dataclass(frozen=True, slots=True, eq=False)
class _Sizer:
    """A queue model, asked for means or percentiles."""

    model: QueueModel
    levels: Levels | None

    def take(self, rows: IntArray) -> _Sizer:
        return _Sizer(self.model, None if self.levels is None else self.levels.take(rows))

    def size(self, replicas: Replicas, targets: Targets) -> Sizing:
        if self.levels is None or not isinstance(self.model, PercentileModel):
            return self.model.size(replicas, targets)
        return size_tails(self.model, replicas, targets, self.levels)

    def log_latency(self, latency: Latency) -> Curve:
        """The logarithm of a latency, or of the percentile that is asked for."""

        def curve(replicas: Replicas, rate_rps: FloatArray) -> FloatArray:
            copies = len(replicas) // len(self.levels.itl) if self.levels is not None else 1
            means: FloatArray = getattr(self.model.analyze(replicas, rate_rps), latency.value)
            if self.levels is not None and isinstance(self.model, PercentileModel):
                level = np.tile(self.levels.of(latency), copies)
                tails = percentile_of(self.model, replicas, rate_rps, latency, level)
                means = np.where(level > 0, tails, means)
            return np.asarray(np.log(np.maximum(means, _LEAST_MS)))

        return curve

    def log_slowness(self, replicas: Replicas, _rate_rps: FloatArray) -> FloatArray:
        """The logarithm of the time between departures at the greatest rate."""
        return np.asarray(-np.log(self.model.rate_range_rps(replicas)[1]))


@dataclass(frozen=True, slots=True, eq=False)
class _Bounds:
    """Pairs whose estimate meets the targets, to be sized for what their parameters may be."""

    sized: _Sizer
    replicas: Replicas
    targets: Targets
    covariance: FloatArray
    z: float

    def into(self, sizing: Sizing, rows: IntArray, whole: Replicas) -> Sizing:
        """`sizing` with the rates of `rows` bounded."""
        none = np.zeros(len(rows))
        targets = self.targets
        slow = self._worst(self.sized.log_slowness, Targets(none, none, targets.tps))
        ttft = self._worst(
            self.sized.log_latency(Latency.TTFT), Targets(none, targets.ttft_ms, none)
        )
        itl = self._worst(self.sized.log_latency(Latency.ITL), Targets(targets.itl_ms, none, none))
        rate_tps = np.minimum(sizing.rate_tps_rps[rows], slow.rate_tps_rps)
        rate_ttft = np.minimum(sizing.rate_ttft_rps[rows], ttft.rate_ttft_rps)
        rate_itl = np.minimum(sizing.rate_itl_rps[rows], itl.rate_itl_rps)
        status = slow.status.copy()
        for one in (itl, ttft):
            status = np.where(one.status == SizingStatus.OK, status, one.status)
        done = status == SizingStatus.OK
        rate = np.where(done, np.minimum(np.minimum(rate_ttft, rate_itl), rate_tps), 0.0)
        found = replace(
            sizing,
            status=_with(sizing.status, rows, status),
            rate_rps=_with(sizing.rate_rps, rows, rate),
            rate_tps_rps=_with(sizing.rate_tps_rps, rows, rate_tps),
            rate_ttft_rps=_with(sizing.rate_ttft_rps, rows, rate_ttft),
            rate_itl_rps=_with(sizing.rate_itl_rps, rows, rate_itl),
            floor_ttft_ms=_with(sizing.floor_ttft_ms, rows, ttft.floor_ttft_ms),
            floor_itl_ms=_with(sizing.floor_itl_ms, rows, itl.floor_itl_ms),
        )
        asked = np.where(found.status == SizingStatus.OK, found.rate_rps, np.nan)
        return replace(found, at=self.sized.model.analyze(whole, asked))

    def _worst(self, curve: Curve, targets: Targets) -> Sizing:
        """The sizing at the parameters that make `curve` greatest, found round by round."""
        sizing = self.sized.size(self.replicas, targets)
        low = self.sized.model.rate_range_rps(self.replicas)[0]
        # The slopes at the least rate and at the estimate's are those of other ways to fail.
        starts = [(self.replicas, low), (self.replicas, np.maximum(sizing.rate_rps, low))]
        worst: Sizing | None = None
        for number in range(_ROUNDS):
            replicas, rate_rps = starts[min(number, len(starts) - 1)]
            moved = self._moved(self._direction(curve, replicas, rate_rps))
            sizing = self.sized.size(moved, targets)
            # Where a target is out of reach, the slope at the least rate goes on counting.
            starts.append((moved, np.maximum(sizing.rate_rps, low)))
            worst = sizing if worst is None else _slower(worst, sizing)
        return sizing if worst is None else worst

    def _moved(self, direction: FloatArray) -> Replicas:
        """The estimate, z standard deviations in `direction` (n, k)."""
        moved = self.replicas.parameters * np.exp(self.z * direction)
        return replace(self.replicas, parameters=moved)

    def _direction(self, curve: Curve, replicas: Replicas, rate_rps: FloatArray) -> FloatArray:
        """C g / sqrt(g' C g), (n, k), with g by differences at `replicas`; 0 where that is flat."""
        count, width = replicas.parameters.shape
        shifts = np.exp(_STEP * np.concatenate([np.eye(width), -np.eye(width)]))
        copies = replicas.take(np.tile(np.arange(count), len(shifts)))
        parameters = replicas.parameters[np.newaxis] * shifts[:, np.newaxis]
        copies = replace(copies, parameters=parameters.reshape(-1, width))
        values = curve(copies, np.tile(rate_rps, len(shifts))).reshape(2, width, count)
        slope = ((values[0] - values[1]) / (2 * _STEP)).T
        slope = np.where(np.isfinite(slope), slope, 0.0)
        along = np.einsum("nij,nj->ni", self.covariance, slope)
        length = np.sqrt(np.maximum(np.einsum("ni,ni->n", along, slope), 0.0))[:, np.newaxis]
        return np.asarray(np.divide(along, length, out=np.zeros_like(along), where=length > 0))


def _slower(one: Sizing, other: Sizing) -> Sizing:
    """Pair by pair the sizing with the smaller rate; it is 0 where a target is out of reach."""
    rows = np.flatnonzero(other.rate_rps < one.rate_rps)
    merged = {
        field.name: _with(getattr(one, field.name), rows, getattr(other, field.name)[rows])
        for field in fields(one)
        if field.name != "at"
    }
    return replace(one, **merged)


def _with(whole: _Values, rows: IntArray, part: _Values) -> _Values:
    found = whole.copy()
    found[rows] = part
    return found
