"""The mean since the last jump: for load that stays where it is until it stays elsewhere.

A jump is told as Page's test does (1954, "Continuous inspection schemes"), over the last few
slots: their mean is further from the level than its noise explains. The noise is taken from the
differences of neighbours, which one jump hardly touches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.forecast.predictors.filtering import Filter

_MOST_SLOTS: Final = 30.0
_NOISE_MEMORY: Final = 0.95
_AT_ONCE: Final = 5.0
_IN_TWO: Final = 3.0
_OF_DIFFERENCES: Final = 0.886
"""Mean absolute difference of neighbours to standard deviation, of normal noise: sqrt(pi)/2."""


@dataclass(frozen=True, slots=True, eq=False)
class ShiftState:
    """Each is (m,): mean of `count` slots, noise (0: none yet), last value, how far it was off."""

    mean: FloatArray
    count: FloatArray
    noise: FloatArray
    last: FloatArray
    off: FloatArray


class LevelShift(Filter[ShiftState]):
    """The mean since the last jump."""

    name = "shift"

    def start(self, series: int) -> ShiftState:
        """No level."""
        zero = np.zeros(series)
        return ShiftState(np.full(series, np.nan), zero, zero, np.full(series, np.nan), zero)

    def move(self, state: ShiftState, values: FloatArray, known: BoolArray) -> ShiftState:
        """One slot: part of the level, or the beginning of another one."""
        begins = np.isnan(state.mean)
        level = np.where(begins, values, state.mean)
        off = np.where(known, values - level, 0.0)
        far = np.abs(off)
        twice = (off * state.off > 0) & (np.minimum(far, np.abs(state.off)) > _IN_TWO * state.noise)
        jumps = known & (state.noise > 0) & ((far > _AT_ONCE * state.noise) | twice)
        anew = (begins | jumps) & known
        count = np.where(anew, 1.0, np.minimum(state.count + known, _MOST_SLOTS))
        mean = np.where(anew, values, level + np.where(known, off / np.maximum(count, 1.0), 0.0))
        step = np.abs(values - state.last)
        fresh = known & ~np.isnan(step) & ~jumps
        seen = _OF_DIFFERENCES * np.where(fresh, step, 0.0)
        weight = np.where(state.noise > 0, 1.0 - _NOISE_MEMORY, 1.0)
        return ShiftState(
            mean=np.where(begins & ~known, np.nan, mean),
            count=count,
            noise=np.where(fresh, state.noise + weight * (seen - state.noise), state.noise),
            last=np.where(known, values, state.last),
            off=np.where(known, np.where(anew, 0.0, off), state.off),
        )

    def ahead(self, state: ShiftState, steps: FloatArray) -> FloatArray:  # noqa: ARG002 - a level has no slope
        """The level."""
        return state.mean
