"""Parameters of any model from measurements of latencies, with their uncertainty.

Least squares of log(predicted/measured), so that an error of 5 % counts alike at 10 ms and at
10 s, over the logarithms of the parameters, so that these stay positive. A soft L1 loss keeps
single runs that went wrong from bending the fit, and a weak anchor to the prior keeps directions
that the data does not excite where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import least_squares

from controlloop.api.replicas import BoolArray, FloatArray

# From residuals of this size on, twice the error counts little more than twice as much.
ROBUST_FROM: Final = 0.02
# A factor e away from the prior weighs as much as an error of 2 % in one measurement.
ANCHOR: Final = 0.02
# Beyond a factor of 20 a prediction is wrong enough.
_MOST_LOG: Final = 3.0
_MOST_EVALUATIONS: Final = 100

Predict = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """What is known before any measurement; k parameters.

    Attributes:
        names: of the parameters.
        values: (k,) likely values; one that is 0 stays 0.
        anchor: (k,) or one weight of a factor e away from the value.

    """

    names: tuple[str, ...]
    values: FloatArray
    anchor: FloatArray | float = ANCHOR


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Fitted parameters.

    Attributes:
        names: k names.
        values: (k,) the parameters.
        log_covariance: (k, k) of their logarithms; 0 for those that stay 0.
        log_residuals: (m,) log(predicted/measured).
        converged: whether the search ended by itself.
        message: how it ended.

    """

    names: tuple[str, ...]
    values: FloatArray
    log_covariance: FloatArray
    log_residuals: FloatArray
    converged: bool
    message: str

    @property
    def relative_errors(self) -> FloatArray:
        """(k,) standard errors of the logarithms: relative errors while they are small."""
        return np.sqrt(np.maximum(np.diag(self.log_covariance), 0.0))


def fit(
    predict: Predict,
    measured: FloatArray,
    prior: Prior,
    weight: FloatArray | float = 1.0,
    *,
    robust_from: float = ROBUST_FROM,
) -> Fit:
    """The parameters under which `predict` comes closest to `measured`.

    Args:
        predict: predictions (m,) of parameters (k,); NaN where there is none counts as far off.
        measured: (m,) positive numbers; NaN is not measured.
        prior: where to start from, and to stay near.
        weight: (m,) or one, how much each measurement counts; 0 not at all.
        robust_from: see `ROBUST_FROM`.

    Raises:
        ValueError: a prior or measured value is not positive, or nothing is measured.

    """
    measured, weights = np.broadcast_arrays(measured, np.asarray(weight, dtype=np.float64))
    counts = (weights > 0) & ~np.isnan(measured)
    _check(measured[counts], prior)
    free = prior.values > 0
    start = np.log(prior.values[free])
    anchor = np.broadcast_to(prior.anchor, prior.values.shape)[free]

    def expanded(x: FloatArray) -> FloatArray:
        values = np.zeros(len(free))
        values[free] = np.exp(x)
        return values

    def log_ratio(values: FloatArray) -> FloatArray:
        predicted = predict(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(predicted / measured)
        return np.nan_to_num(ratio, nan=_MOST_LOG, posinf=_MOST_LOG, neginf=-_MOST_LOG)

    def residuals(x: FloatArray) -> FloatArray:
        ratio = np.clip(log_ratio(expanded(x))[counts], -_MOST_LOG, _MOST_LOG)
        return np.concatenate([weights[counts] * ratio, anchor * (x - start)])

    found = least_squares(
        residuals, start, loss="soft_l1", f_scale=robust_from, max_nfev=_MOST_EVALUATIONS
    )
    values = expanded(found.x)
    return Fit(
        names=prior.names,
        values=values,
        log_covariance=_covariance(
            np.asarray(found.jac, dtype=np.float64), float(found.cost), free
        ),
        log_residuals=np.where(np.isnan(measured), np.nan, log_ratio(values)),
        converged=bool(found.status > 0),
        message=str(found.message),
    )


def _check(measured: FloatArray, prior: Prior) -> None:
    if len(prior.names) != len(prior.values):
        raise ValueError(f"{len(prior.names)} names for {len(prior.values)} prior values")
    if not np.all(np.isfinite(prior.values) & (prior.values >= 0)):
        raise ValueError(f"prior values must be >= 0, got {prior.values.tolist()}")
    if not len(measured):
        raise ValueError("nothing is measured")
    if not np.all(np.isfinite(measured) & (measured > 0)):
        raise ValueError("measured values must be > 0")


def _covariance(jacobian: FloatArray, cost: float, free: BoolArray) -> FloatArray:
    """Gauss-Newton's covariance of the logarithms, with the scatter that the fit left."""
    count, used = jacobian.shape
    scatter = 2 * cost / max(count - used, 1)
    covariance = np.zeros((len(free), len(free)))
    covariance[np.ix_(free, free)] = scatter * np.linalg.pinv(jacobian.T @ jacobian)
    return covariance


def weighted_error(predicted: FloatArray, measured: Sequence[float] | FloatArray) -> float:
    """Weighted absolute percentage error: the sum of |error| by the sum of what was measured."""
    truth = np.asarray(measured, dtype=np.float64)
    return float(np.abs(predicted - truth).sum() / truth.sum())
