"""Roots of many increasing functions at once: Newton's steps, kept inside a bracket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray


class Curves(Protocol):
    """n increasing functions of one variable."""

    def at(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values and slopes of all n at x (n,)."""
        ...

    def take(self, rows: IntArray) -> Self:
        """The functions at `rows`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Roots:
    """Where each function crosses zero, each (n,).

    Attributes:
        x: the root where `converged`, else the lower end of the bracket.
        converged: whether the root is known to the tolerance asked for.

    """

    x: FloatArray
    converged: BoolArray


def find_roots(
    curves: Curves,
    low: FloatArray,
    high: FloatArray,
    start: FloatArray,
    *,
    tolerance: float = 1e-9,
    max_iterations: int = 100,
) -> Roots:
    """Find the root of each function between `low` (value <= 0) and `high` (value > 0).

    Newton's step is taken where it stays inside the bracket and the steps keep halving; else
    the bracket is halved. A root is found when the bracket, or Newton's last step, is within
    `tolerance`: the error that is left is then of the order of the step's square.

    Args:
        curves: the n functions.
        low: (n,) lower ends of the brackets.
        high: (n,) upper ends.
        start: (n,) first guesses; one outside its bracket is replaced by the middle.
        tolerance: greatest error of a root, absolute in x.
        max_iterations: evaluations of each function at most.

    """
    found = low.copy()
    converged = np.zeros(len(low), dtype=np.bool_)
    rows = np.arange(len(low))
    x = np.where((start >= low) & (start <= high), start, (low + high) / 2)
    last_step = high - low
    for _ in range(max_iterations):
        if len(rows) == 0:
            break
        value, slope = curves.at(x)
        low, high = np.where(value <= 0, x, low), np.where(value <= 0, high, x)
        step = np.divide(-value, slope, out=np.full_like(value, np.inf), where=slope > 0)
        close = np.abs(step) <= tolerance
        done = close | (high - low <= tolerance)
        converged[rows[done]] = True
        found[rows] = np.where(close, np.clip(x + step, low, high), low)

        steady = (np.abs(step) <= last_step / 2) & (x + step > low) & (x + step < high)
        following = np.where(steady, x + step, (low + high) / 2)
        last_step, x = np.abs(following - x), following
        if done.any():
            left = np.flatnonzero(~done)
            curves, rows = curves.take(left), rows[left]
            low, high, x, last_step = low[left], high[left], x[left], last_step[left]
    return Roots(found, converged)
