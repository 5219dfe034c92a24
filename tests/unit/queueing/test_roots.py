from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.queueing.roots import find_roots

Function = Callable[[FloatArray], FloatArray]


@dataclass
class Shifted:
    """function(x - root) for each root."""

    function: Function
    slope: Function
    root: FloatArray

    def at(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.function(x - self.root), self.slope(x - self.root)

    def take(self, rows: IntArray) -> Shifted:
        return Shifted(self.function, self.slope, self.root[rows])


ROOTS = np.array([-3.9, -1.0, 0.0, 0.123456789, 3.999])
LOW, HIGH = np.full(5, -4.0), np.full(5, 4.0)


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (lambda x: 5 * x, lambda x: np.full_like(x, 5)),
        (np.sinh, np.cosh),
        # Newton's steps overshoot ever further here.
        (np.arctan, lambda x: 1 / (1 + x * x)),
        (np.cbrt, lambda x: 1 / (3 * np.cbrt(x) ** 2 + 1e-30)),
        # A slope that says nothing leaves halving.
        (np.sign, np.zeros_like),
    ],
)
@pytest.mark.parametrize("start", [-4.0, 0.1, 4.0, 99.0])
def test_finds_every_root(function: Function, slope: Function, start: float) -> None:
    found = find_roots(Shifted(function, slope, ROOTS), LOW, HIGH, np.full(5, start))
    assert found.converged.all()
    assert found.x == pytest.approx(ROOTS, abs=1e-9)


def test_says_which_did_not_converge_and_stays_below_the_root() -> None:
    curves = Shifted(np.arctan, lambda x: 1 / (1 + x * x), ROOTS)
    start = np.array([-4.0, -4.0, 0.0, -4.0, -4.0])
    found = find_roots(curves, LOW, HIGH, start, max_iterations=2)
    assert list(found.converged) == [False, False, True, False, False]
    assert np.all(found.x <= ROOTS)


def test_no_curves_have_no_roots() -> None:
    none = np.zeros(0)
    found = find_roots(Shifted(np.sinh, np.cosh, none), none, none, none)
    assert len(found.x) == 0
