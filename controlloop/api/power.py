"""Predicted power of accelerators by their utilization.

Linear from idle to the power at `mid_utilization`, and on from there to full power:

    idle + (mid - idle) / mid_utilization * u                      up to mid_utilization
    mid + (full - mid) / (1 - mid_utilization) * (u - mid_utilization)   above it

Without a bend (`mid_utilization` 0) it is linear from idle to full.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray
from controlloop.api.system import Accelerator


@dataclass(frozen=True, slots=True, eq=False)
class PowerCurves:
    """Power of one unit of each of A accelerators; arrays are (A,), powers in W.

    `multiplicity` is the cards of one unit. `known` is whether there is any power data: where
    there is none, power is not known, which is not the same as 0.
    """

    idle_w: FloatArray
    mid_w: FloatArray
    full_w: FloatArray
    mid_utilization: FloatArray
    multiplicity: IntArray
    known: BoolArray

    @classmethod
    def of(cls, accelerators: Iterable[Accelerator]) -> PowerCurves:
        """The curves of `accelerators`, in their order."""
        each = tuple(accelerators)
        powers = [one.power for one in each]
        return cls(
            idle_w=np.array([power.idle_w for power in powers], dtype=np.float64),
            mid_w=np.array([power.mid_w for power in powers], dtype=np.float64),
            full_w=np.array([power.full_w for power in powers], dtype=np.float64),
            mid_utilization=np.array([power.mid_utilization for power in powers], dtype=np.float64),
            multiplicity=np.array([one.multiplicity for one in each], dtype=np.int64),
            known=np.array([power.is_known for power in powers], dtype=np.bool_),
        )

    def at(self, accelerator: IntArray, utilization: FloatArray) -> FloatArray:
        """Power (k,) in W of one unit of each `accelerator` (k,) at `utilization` (k,) of 0..1.

        NaN where the accelerator has no power data.
        """
        idle, full = self.idle_w[accelerator], self.full_w[accelerator]
        bend = self.mid_utilization[accelerator]
        mid = np.where(bend > 0, self.mid_w[accelerator], idle)
        to_bend, beyond = np.minimum(utilization, bend), np.maximum(utilization - bend, 0.0)
        below = np.divide(to_bend, bend, out=np.zeros_like(bend), where=bend > 0)
        above = np.divide(beyond, 1 - bend, out=np.zeros_like(bend), where=bend < 1)
        power = idle + (mid - idle) * below + (full - mid) * above
        return np.where(self.known[accelerator], power, np.nan)
