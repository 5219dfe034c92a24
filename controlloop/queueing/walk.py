"""Sums over the states of many chains, one pass each, in plain arithmetic.

The weight of a state follows from the one before by a product: no exponentials, no arrays of what
is in between. Weights may span any range; each pass keeps them within 1e-150 and 1e150 of a scale
that moves.

The same function is run by Python and as machine code. It only adds, multiplies and compares
64-bit floats, which both do alike to the last bit. Machine code takes 200 times less for a state,
and 0.3 s to be there (1 s where it is not kept on disk yet), so a process starts without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.queueing.segments import Segments
from controlloop.queueing.service import Departures

BIG: Final = 1e150
TINY: Final = 1e-150
_LOG_BIG: Final = math.log(BIG)

# What Python walks in the time that machine code takes to be there.
_STATES_BY_PYTHON: Final = 500_000


def walk(
    starts: Any,
    lengths: Any,
    fixed: Any,
    scale: Any,
    basis: Any,
    table: Any,
    sums: FloatArray,
) -> None:
    """Go through the states of each row and write its sums: see `Walker`.

    Takes arrays or lists, `sums` excepted; each rate goes with a row of `starts` and `lengths`.
    """
    for row in range(len(starts)):
        start = starts[row]
        last = start + lengths[row] - 1
        least = fixed[row]
        more = scale[row]
        # The weight is `weight` * BIG^-below in the scale of the sums, which grows with it.
        weight = 1.0
        most = BIG
        below = 0
        met = 0.0
        total = 0.0
        position = 0.0
        level = 0.0
        product = 0.0
        for state in range(start, last + 1):
            if below == 0:
                total += weight
                position += weight * met
                entry = weight * table[state]
                level += entry
                product += entry * met
            if state < last:
                step = least + more * basis[state]
                if step > BIG:
                    step = BIG
                elif step < TINY:
                    step = TINY
                weight *= step
                met += 1.0
                if weight > most:
                    weight *= TINY
                    if below > 0:
                        below -= 1
                    else:
                        total *= TINY
                        position *= TINY
                        level *= TINY
                        product *= TINY
                    most = BIG if below == 0 else 1.0
                elif weight < TINY:
                    weight *= BIG
                    below += 1
                    most = 1.0
        sums[0, row] = total
        sums[1, row] = position
        sums[2, row] = level
        sums[3, row] = product
        sums[4, row] = weight
        sums[5, row] = below


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Over the states that are met, 0..N-1, each (n,).

    Attributes:
        total: of the weights, in a scale of each chain's own.
        position: of weight times state, in the same scale.
        level: of weight times table, in the same scale.
        product: of weight times state times table, in the same scale.
        log_last: logarithm of the weight of state N-1, relative to `total`.

    """

    total: FloatArray
    position: FloatArray
    level: FloatArray
    product: FloatArray
    log_last: FloatArray


class Walker:
    """Walks by Python at first, and by machine code once that pays."""

    def __init__(self, states_by_python: int = _STATES_BY_PYTHON) -> None:
        self._left = states_by_python
        self.compiled: Callable[..., None] | None = None

    def __call__(
        self, states: Segments, departures: Departures, rate_per_ms: FloatArray, table: FloatArray
    ) -> Sums:
        """The sums over the states of n chains at `rate_per_ms` (n,), with those of `table`."""
        sums = np.empty((6, len(rate_per_ms)))
        arrays = (
            states.starts,
            states.lengths,
            rate_per_ms * departures.fixed,
            rate_per_ms * departures.scale,
            departures.basis,
            table,
        )
        self._left -= int(states.lengths.sum())
        if self._left < 0:
            self._machine_code()(*arrays, sums)
        else:
            starts, lengths, fixed, scale, basis, entries = (each.tolist() for each in arrays)
            walk(starts, lengths, fixed, scale, basis, entries, sums)
        total, position, level, product, last, below = sums
        log_last = np.log(last / total) - below * _LOG_BIG
        return Sums(total, position, level, product, log_last)

    def _machine_code(self) -> Callable[..., None]:
        if self.compiled is None:
            # Imported here: it takes as long as all that a small command does.
            from controlloop.compiled import kept

            self.compiled = kept(walk)
        return self.compiled
