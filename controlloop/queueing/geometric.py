"""Closed forms of a truncated geometric distribution: weights r^i, i = 0..count-1, r = e^u.

With g(a) = 1/(e^a - 1) and a = -u > 0, the mean of i is g(a) - count g(count a) and its
variance g(1 + g)(a) - count^2 g(1 + g)(count a): derivatives of the logarithm of the sum. Each
term has a pole at r = 1 that cancels; there the Bernoulli series of what remains takes over.
Increasing weights are the decreasing ones read backwards: i -> count - 1 - i.
"""

from __future__ import annotations

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray

# Below this count*|u| the series is exact to double precision, above it the poles cancel
# less than two digits.
_SERIES_BELOW = 0.25
# e^-700 is the least that double precision holds with room to spare.
_FAR = 700.0
_LEAST = 1e-300


def log_sum(count: FloatArray, u: FloatArray) -> FloatArray:
    """The logarithm of the sum of the weights, -inf where count is 0: (n,)."""
    step = np.maximum(np.abs(u), _LEAST)
    ratio = np.expm1(-np.minimum(count * step, _FAR)) / np.expm1(-np.minimum(step, _FAR))
    logarithm = np.log(ratio, out=np.full(ratio.shape, -np.inf), where=ratio > 0)
    growth: FloatArray = np.maximum(u, 0.0) * np.maximum(count - 1, 0.0)
    return logarithm + growth


def mean_and_variance(count: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of i, each (n,); count must be >= 1."""
    step = np.abs(u)
    span = count * step
    near = span < _SERIES_BELOW
    mean, variance = _far(count, step, near)
    if near.any():
        some = np.flatnonzero(near)
        mean[some], variance[some] = _near(count[some], step[some])
    return np.where(u > 0, count - 1 - mean, mean), variance


def _far(count: FloatArray, step: FloatArray, near: BoolArray) -> tuple[FloatArray, FloatArray]:
    safe = np.where(near, 1.0, step)
    span = count * safe
    one = 1 / np.expm1(np.minimum(safe, _FAR))
    whole = (span < _FAR) / np.expm1(np.minimum(span, _FAR))
    return one - count * whole, one * (1 + one) - count * count * whole * (1 + whole)


def _near(count: FloatArray, step: FloatArray) -> tuple[FloatArray, FloatArray]:
    span = count * step
    mean = (count - 1) / 2 - (count * _odd(span) - _odd(step))
    return mean, count * count * _even(span) - _even(step)


def _odd(t: FloatArray) -> FloatArray:
    """1/(1 - e^-t) - 1/t - 1/2."""
    t2 = t * t
    tail = 1 / 1209600 - t2 / 47900160
    return t * (1 / 12 - t2 * (1 / 720 - t2 * (1 / 30240 - t2 * tail)))


def _even(t: FloatArray) -> FloatArray:
    """1/t^2 - e^t/(e^t - 1)^2, the derivative of `_odd`."""
    t2 = t * t
    tail = 1 / 172800 - t2 / 5322240
    return 1 / 12 - t2 * (1 / 240 - t2 * (1 / 6048 - t2 * tail))
