"""Parameters from a handful of measurements at once, anchored to a prior, outliers set aside.

The minimum of sum log(1 + d^2/c^2) c^2 + |x - prior|^2, d the Mahalanobis distance of a
measurement: Cauchy's loss. It starts wide (c of a factor of e) and narrows to c of the noise
(graduated non-convexity), so that a start that is wrong by orders finds its way, and ends with
outliers of no weight. The start is the best of the prior with all times multiplied by a common
factor. Levenberg-Marquardt, all windows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.protocols import QueueModel
from controlloop.tuner.expectation import Table, expect, expected_values
from controlloop.tuner.kalman import Gaussians, at
from controlloop.tuner.measurement import Measurement

START_LOGS: Final = np.linspace(-4.0, 4.0, 17)
WIDTHS: Final = (1.0, 0.3, 0.1)
"""Relative misfits beyond which a measurement loses its weight, from wide to narrow."""
STEPS_A_WIDTH: Final = 12
LIKELY_ERROR: Final = 0.05
"""Relative error of a measurement while nothing better is known."""
_ENOUGH: Final = 1e-5
_MOST_DAMPING: Final = 1e5
NO_ANSWER: Final = 10.0
"""Misfit, as a logarithm, where the model has no answer: as wrong as can be."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Fits of w windows.

    Attributes:
        mean: (w, k) logarithms of the parameters.
        covariance: (w, k, k) of them, given the misfit that remains.
        misfit: one array a window: relative misfit of each of its measurements.

    """

    mean: FloatArray
    covariance: FloatArray
    misfit: tuple[FloatArray, ...]


def fit_windows(
    model: QueueModel, prior: Gaussians, windows: Sequence[Sequence[Measurement]]
) -> Fit:
    """Fit each of `windows` (none empty) with its own prior."""
    problem = _Problem.of(model, prior, windows)
    mean = problem.start()
    for width in WIDTHS:
        mean = problem.descend(mean, width)
    misfit = problem.distance(mean)
    return Fit(mean, problem.covariance(mean, misfit), problem.by_window(misfit))


def misfits(
    model: QueueModel, beliefs: Gaussians, windows: Sequence[Sequence[Measurement]]
) -> tuple[FloatArray, ...]:
    """For each of `windows` the relative misfit of its measurements at the mean of a belief."""
    problem = _Problem.of(model, beliefs, windows)
    return problem.by_window(problem.distance(beliefs.mean))


def linear_gain(
    model: QueueModel, beliefs: Gaussians, windows: Sequence[Sequence[Measurement]]
) -> FloatArray:
    """Share of the misfit that one linear step from the mean of each belief would leave: (w,).

    Root mean squares over the window. A tenth of the cost of a fit: it says whether one is worth
    while.
    """
    problem = _Problem.of(model, beliefs, windows)
    return problem.linear_gain(beliefs.mean)


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    model: QueueModel
    prior: Gaussians
    table: Table
    owner: IntArray

    @classmethod
    def of(
        cls, model: QueueModel, prior: Gaussians, windows: Sequence[Sequence[Measurement]]
    ) -> _Problem:
        owner = np.repeat(np.arange(len(windows)), [len(window) for window in windows])
        table = Table.of([one for window in windows for one in window])
        return cls(model, prior, table, owner)

    def by_window(self, values: FloatArray) -> tuple[FloatArray, ...]:
        """The entries of `values` that are of each window."""
        return tuple(values[self.owner == window] for window in range(len(self.prior.mean)))

    def start(self) -> FloatArray:
        """The prior, or it times a factor, whichever fits best with the widest loss.

        What the prior holds to err together is multiplied together.
        """
        together = self.prior.covariance.sum(axis=2)
        together /= np.maximum(together.max(axis=1, keepdims=True), 1e-300)
        moves = START_LOGS[:, np.newaxis, np.newaxis] * together
        costs = np.stack([self.cost(self.prior.mean + move, WIDTHS[0]) for move in moves])
        best = np.argmin(costs, axis=0)
        start: FloatArray = self.prior.mean + moves[best, np.arange(len(best))]
        return start

    def distance(self, mean: FloatArray) -> FloatArray:
        """Relative misfit of each measurement: root mean square of its channels."""
        values = expected_values(self.model, at(mean, self.prior.free)[self.owner], self.table)
        return self._distance(values)

    def cost(self, mean: FloatArray, width: float) -> FloatArray:
        """The objective of each window, infinite where the model has no answer."""
        squared = np.square(self.distance(mean) / width)
        loss = self._channels * np.log1p(squared) * (width / LIKELY_ERROR) ** 2
        total = np.bincount(self.owner, loss, minlength=len(mean))
        away = mean - self.prior.mean
        total += np.einsum("wk,wkl,wl->w", away, self._precision, away)
        return np.where(np.isfinite(total), total, np.inf)

    def descend(self, mean: FloatArray, width: float) -> FloatArray:
        """A few steps of Levenberg-Marquardt from `mean`."""
        damping = np.full(len(mean), 1e-3)
        cost = self.cost(mean, width)
        settled = np.zeros(len(mean), dtype=np.bool_)
        for _ in range(STEPS_A_WIDTH):
            curvature, gradient = self._normal(mean, width)
            diagonal = (
                np.eye(mean.shape[1])
                * np.maximum(np.einsum("wkk->wk", curvature), 1e-12)[:, :, np.newaxis]
            )
            damped = curvature + damping[:, np.newaxis, np.newaxis] * diagonal
            step = np.linalg.solve(damped, gradient[:, :, np.newaxis])[:, :, 0]
            trial = mean + np.clip(step, -1.0, 1.0)
            trial_cost = self.cost(trial, width)
            better = trial_cost < cost
            mean = np.where(better[:, np.newaxis], trial, mean)
            gained = np.where(better, cost - trial_cost, 0.0)
            cost = np.where(better, trial_cost, cost)
            damping = np.where(better, damping / 10, damping * 10)
            # A step that was too long says nothing: only one that gains little is the end.
            settled |= (better & (gained <= _ENOUGH * cost)) | (damping > _MOST_DAMPING)
            if settled.all():
                break
        return mean

    def linear_gain(self, mean: FloatArray) -> FloatArray:
        """What a step to the minimum of the linear problem leaves of the misfit: (w,)."""
        before, slopes = self._linear(mean)
        curvature, gradient = self._normal(mean, WIDTHS[0])
        step = np.linalg.solve(curvature, gradient[:, :, np.newaxis])[:, :, 0]
        after = before - np.einsum("mck,mk->mc", slopes, step[self.owner])
        sums = [
            np.bincount(self.owner, np.square(each).sum(axis=1), minlength=len(mean))
            for each in (after, before)
        ]
        share: FloatArray = np.sqrt(sums[0] / np.maximum(sums[1], 1e-300))
        return share

    def covariance(self, mean: FloatArray, misfit: FloatArray) -> FloatArray:
        """The inverse curvature, with the noise that the misfit of the inliers shows."""
        curvature, _ = self._normal(mean, WIDTHS[-1])
        typical = np.array([np.median(misfit[self.owner == window]) for window in range(len(mean))])
        error = np.clip(1.5 * typical, LIKELY_ERROR / 5, 2 * WIDTHS[-1])
        data = curvature - self._precision
        scaled = data * np.square(LIKELY_ERROR / error)[:, np.newaxis, np.newaxis]
        covariance = _inverse(scaled + self._precision)
        both = self.prior.free[:, :, np.newaxis] & self.prior.free[:, np.newaxis, :]
        return np.where(both, covariance, 0.0)

    def _normal(self, mean: FloatArray, width: float) -> tuple[FloatArray, FloatArray]:
        """Curvature (w, k, k) and downhill gradient (w, k) of half the objective."""
        residual, slopes = self._linear(mean)
        squared = np.square(residual).sum(axis=1) / self._channels / width**2
        weight = 1 / (1 + squared) / LIKELY_ERROR**2
        square = np.einsum("m,mck,mcl->mkl", weight, slopes, slopes)
        pull = np.einsum("m,mck,mc->mk", weight, slopes, residual)
        curvature = self._precision.copy()
        np.add.at(curvature, self.owner, square)
        gradient = -np.einsum("wkl,wl->wk", self._precision, mean - self.prior.mean)
        np.add.at(gradient, self.owner, pull)
        return curvature, gradient

    def _linear(self, mean: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Residuals (m, 3) and slopes (m, 3, k) at `mean`."""
        expected = expect(self.model, at(mean, self.prior.free)[self.owner], self.table)
        counts = self.table.known & np.isfinite(expected.log_values)
        residual = np.where(counts, self.table.log_values - expected.log_values, 0.0)
        return residual, np.where(counts[:, :, np.newaxis], expected.slopes, 0.0)

    def _distance(self, log_values: FloatArray) -> FloatArray:
        known = self.table.known
        residual = np.where(known, self.table.log_values - log_values, 0.0)
        squared = np.square(np.where(np.isnan(residual), NO_ANSWER, residual)).sum(axis=1)
        distance: FloatArray = np.sqrt(squared / self._channels)
        return distance

    @property
    def _channels(self) -> FloatArray:
        channels: FloatArray = np.maximum(self.table.known.sum(axis=1), 1).astype(np.float64)
        return channels

    @property
    def _precision(self) -> FloatArray:
        fixed = ~self.prior.free[:, :, np.newaxis] * np.eye(self.prior.mean.shape[1])
        both = self.prior.free[:, :, np.newaxis] & self.prior.free[:, np.newaxis, :]
        precision: FloatArray = np.where(both, _inverse(self.prior.covariance + fixed), 0.0)
        precision += fixed
        return precision


def _inverse(matrices: FloatArray) -> FloatArray:
    return np.linalg.inv(matrices).astype(np.float64)
