"""One step of the extended Kalman filter for many pairs: damped, and repeated where it bends.

The algebra of a step is filterpy's. What it is given for all pairs at once is the model: its
values and slopes are the costly part. Where a step is long, the model is linearised anew at its
end (the iterated filter, Gauss-Newton on the posterior); where the posterior would get worse,
the step is halved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.protocols import QueueModel
from controlloop.tuner.expectation import Expectation, Table, expect, expected_values

MOST_STEPS: Final = 4
LONG_STEP: Final = 0.05
"""Change of what is expected, in logarithms, beyond which the slopes are taken anew."""
FAR_STEP: Final = 0.3
"""Change of a logarithm of a parameter beyond which they are."""
WELL_KNOWN: Final = 0.15
"""Standard error of a logarithm up to which a parameter's own mean is where slopes are taken."""
FAR_FROM_REFERENCE: Final = 0.35
"""Distance of a logarithm from its reference beyond which slopes there say nothing any more."""
LONGEST_STEP: Final = 0.7
"""A factor of two at once is the most that a slope is trusted for."""


@dataclass(frozen=True, slots=True, eq=False)
class Gaussians:
    """Logarithms of the parameters of m pairs: `mean` (m, k), `covariance` (m, k, k).

    `free` (m, k): a parameter that is configured as 0 is none: it stays 0, and its mean here.

    `reference` (m, k) is where slopes are taken for parameters that are not known well. Two
    latencies at one operating point leave some directions open. Slopes taken at a mean that
    noise moves to and fro would turn with it, and so seem to close those directions, measurement
    by measurement: the filter would grow sure of what nothing told it. Slopes at one place do
    not (known as first-estimates Jacobians).
    """

    mean: FloatArray
    covariance: FloatArray
    free: BoolArray
    reference: FloatArray

    @property
    def log_parameters(self) -> FloatArray:
        """(m, k), -inf for parameters that are 0."""
        return at(self.mean, self.free)

    def take(self, rows: IntArray | BoolArray) -> Gaussians:
        """The pairs at `rows`."""
        return Gaussians(
            self.mean[rows], self.covariance[rows], self.free[rows], self.reference[rows]
        )

    def slopes_at(self, mean: FloatArray) -> FloatArray:
        """Logarithms of the parameters (m, k) at which slopes are taken for values at `mean`."""
        error = np.sqrt(np.einsum("mkk->mk", self.covariance))
        return at(np.where(error <= WELL_KNOWN, mean, self.reference), self.free)


@dataclass(frozen=True, slots=True, eq=False)
class Innovation:
    """How far measurements lie from what was expected of them.

    Attributes:
        residual: (m, 3) measured less expected, 0 where it does not count.
        slopes: (m, 3, k) of what is expected, 0 where it does not count.
        noise: (m, 3, 3) covariance of the measurements.
        covariance: (m, 3, 3) of the residual: of the parameters and of the noise.
        counts: (m, 3) which channels count.

    """

    residual: FloatArray
    slopes: FloatArray
    noise: FloatArray
    covariance: FloatArray
    counts: BoolArray

    @property
    def normalised_squared(self) -> FloatArray:
        """(m,) chi-squared distributed, with `counts.sum(axis=1)` degrees of freedom."""
        solved = np.linalg.solve(self.covariance, self.residual[:, :, np.newaxis])[:, :, 0]
        squared: FloatArray = np.einsum("mc,mc->m", self.residual, solved)
        return squared

    def take(self, rows: IntArray | BoolArray) -> Innovation:
        """The measurements at `rows`."""
        return Innovation(
            self.residual[rows],
            self.slopes[rows],
            self.noise[rows],
            self.covariance[rows],
            self.counts[rows],
        )


def at(mean: FloatArray, free: BoolArray) -> FloatArray:
    """Logarithms of the parameters: -inf where they are 0."""
    return np.where(free, mean, -np.inf)


def innovation(
    prior: Gaussians, table: Table, expected: Expectation, noise: FloatArray, counts: BoolArray
) -> Innovation:
    """Compare `table` with what was `expected` at the mean of `prior`."""
    residual = np.where(counts, table.log_values - expected.log_values, 0.0)
    slopes = np.where(counts[:, :, np.newaxis], expected.slopes, 0.0)
    spread = slopes @ prior.covariance @ np.swapaxes(slopes, 1, 2)
    return Innovation(residual, slopes, noise, spread + noise, counts)


def update(model: QueueModel, prior: Gaussians, table: Table, first: Innovation) -> Gaussians:
    """The posterior of each pair after one measurement of each.

    Args:
        model: the queue model of all pairs.
        prior: what is known before.
        table: one measurement a pair.
        first: the innovation at the mean of `prior`.

    """
    mean, covariance = _kalman_step(prior, first.residual, first)
    moved = mean - prior.mean
    shown = np.abs(np.einsum("mck,mk->mc", first.slopes, moved)).max(axis=1, initial=0.0)
    long = np.flatnonzero((shown > LONG_STEP) | (np.abs(moved).max(axis=1) > FAR_STEP))
    if len(long):
        some = _iterated(model, prior.take(long), table.take(long), first.take(long), moved[long])
        mean[long], covariance[long] = some.mean, some.covariance
    left = np.abs(mean - prior.reference) > FAR_FROM_REFERENCE
    return Gaussians(mean, covariance, prior.free, np.where(left, mean, prior.reference))


def _iterated(
    model: QueueModel, prior: Gaussians, table: Table, first: Innovation, moved: FloatArray
) -> Gaussians:
    step = _limited(moved)
    mean, here = prior.mean, first
    cost = _cost(prior, mean, first.residual, first.noise)
    covariance = prior.covariance.copy()
    for _ in range(MOST_STEPS):
        mean, residual, cost, step = _descend(model, prior, table, first, mean, step, cost)
        expected = expect(model, at(mean, prior.free), table, prior.slopes_at(mean))
        usable = np.isfinite(expected.log_values) & first.counts
        slopes = np.where(usable[:, :, np.newaxis], expected.slopes, 0.0)
        here = Innovation(residual, slopes, first.noise, first.covariance, first.counts)
        # The iterated filter: the residual that the prior's mean would show on these slopes.
        virtual = residual - np.einsum("mck,mk->mc", slopes, prior.mean - mean)
        target, covariance = _kalman_step(prior, virtual, here)
        step = _limited(target - mean)
        if np.abs(step).max(initial=0.0) < LONG_STEP / 10:
            break
    return Gaussians(mean, covariance, prior.free, prior.reference)


def _descend(
    model: QueueModel,
    prior: Gaussians,
    table: Table,
    first: Innovation,
    mean: FloatArray,
    step: FloatArray,
    cost: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Take each pair's step, or a half or a quarter of it, or none where all are worse."""
    best_mean, best_cost = mean.copy(), cost.copy()
    best_residual = _residual(model, prior, table, first, mean)
    pending = np.ones(len(mean), dtype=np.bool_)
    for _ in range(3):
        trial = mean + step
        residual = _residual(model, prior, table, first, trial)
        trial_cost = _cost(prior, trial, residual, first.noise)
        better = pending & (trial_cost <= best_cost)
        best_mean[better], best_residual[better] = trial[better], residual[better]
        best_cost[better] = trial_cost[better]
        pending &= ~better
        if not pending.any():
            break
        step = np.where(pending[:, np.newaxis], step / 2, step)
    return best_mean, best_residual, best_cost, step


def _residual(
    model: QueueModel, prior: Gaussians, table: Table, first: Innovation, mean: FloatArray
) -> FloatArray:
    values = expected_values(model, at(mean, prior.free), table)
    return np.where(first.counts, table.log_values - values, 0.0)


def _cost(
    prior: Gaussians, mean: FloatArray, residual: FloatArray, noise: FloatArray
) -> FloatArray:
    """Minus twice the logarithm of the posterior, but for a constant; infinite where unknown."""
    away = np.where(prior.free, mean - prior.mean, 0.0)
    usual = np.einsum("mk,mk->m", away, _solve(_regular(prior), away))
    misfit = np.einsum("mc,mc->m", residual, _solve(noise, residual))
    return np.where(np.isfinite(misfit), usual + misfit, np.inf)


def _regular(prior: Gaussians) -> FloatArray:
    """The covariance with variance 1 where it is 0 because the parameter is not free."""
    fixed: FloatArray = ~prior.free[:, :, np.newaxis] * np.eye(prior.mean.shape[1])
    regular: FloatArray = prior.covariance + fixed
    return regular


def _solve(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    solved = np.linalg.solve(matrices, vectors[:, :, np.newaxis])[:, :, 0]
    return solved.astype(np.float64)


def _limited(step: FloatArray) -> FloatArray:
    longest = np.abs(step).max(axis=1, initial=0.0)
    limited: FloatArray = (
        step * np.minimum(1.0, LONGEST_STEP / np.maximum(longest, 1e-300))[:, np.newaxis]
    )
    return limited


def _kalman_step(
    prior: Gaussians, residual: FloatArray, linear: Innovation
) -> tuple[FloatArray, FloatArray]:
    """The update of each pair, by filterpy, with the slopes and noise of `linear`."""
    # It brings half a second of statistics with it, which who does not tune need not wait for.
    from filterpy.kalman import ExtendedKalmanFilter

    mean, covariance = np.empty_like(prior.mean), np.empty_like(prior.covariance)
    engine = ExtendedKalmanFilter(dim_x=mean.shape[1], dim_z=residual.shape[1])
    expected = np.zeros(residual.shape[1])
    for row in range(len(mean)):
        engine.x, engine.P = prior.mean[row], prior.covariance[row]
        slopes = linear.slopes[row]
        engine.update(
            residual[row], lambda _, held=slopes: held, lambda _: expected, R=linear.noise[row]
        )
        mean[row], covariance[row] = engine.x, engine.P
    return mean, (covariance + np.swapaxes(covariance, 1, 2)) / 2
