"""Rows of different lengths in one flat array, so that no row is padded to the longest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray, IntArray

# Running totals are 64-bit integers: a sign, five bits for a mean entry up to 32, the bits of
# the row's length, and the rest behind the point.
_BITS = 63
_BITS_OF_MEAN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """n rows of at least one entry each; their entries follow one another in flat arrays.

    Attributes:
        lengths: (n,) entries of each row, >= 1.
        starts: (n,) where each row begins.
        position: (total,) 0, 1, ... within each row.

    """

    lengths: IntArray
    starts: IntArray
    position: FloatArray

    @classmethod
    def of(cls, lengths: IntArray) -> Segments:
        """Rows of the given lengths (n,), each >= 1."""
        ends = np.cumsum(lengths)
        starts = ends - lengths
        total = int(ends[-1]) if len(ends) else 0
        position = np.arange(total, dtype=np.float64) - np.repeat(starts, lengths)
        return cls(lengths, starts, position)

    def __len__(self) -> int:
        return len(self.lengths)

    def spread(self, values: FloatArray) -> FloatArray:
        """(n,) -> (total,): each row's value at all its entries."""
        return np.repeat(values, self.lengths)

    @property
    def rows(self) -> IntArray:
        """(total,) the row of each entry."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def last(self, entries: FloatArray) -> FloatArray:
        """(total,) -> (n,): the last entry of each row."""
        last: FloatArray = entries[self.starts + self.lengths - 1]
        return last

    def first(self, entries: FloatArray) -> FloatArray:
        """(total,) -> (n,): the first entry of each row."""
        first: FloatArray = entries[self.starts]
        return first

    def total(self, entries: FloatArray) -> FloatArray:
        """(total,) -> (n,): the sum of each row."""
        return np.add.reduceat(entries, self.starts)

    def greatest(self, entries: FloatArray) -> FloatArray:
        """(total,) -> (n,): the greatest entry of each row."""
        return np.maximum.reduceat(entries, self.starts)

    def total_before(self, entries: FloatArray) -> FloatArray:
        """(total,) -> (total,): the sum of the entries of the row that stand before each one.

        Summed in fixed point: integer sums are exact and wrap around, so a row's totals do not
        depend on the rows before it, not even in the last bit. The entries of a row must lie
        within +-32 on average, which logarithms of a row's ratios do.
        """
        length_bits = np.frexp(self.lengths.astype(np.float64))[1]
        scale = self.spread(np.ldexp(1.0, _BITS - _BITS_OF_MEAN - length_bits))
        fixed = np.rint(entries * scale).astype(np.int64)
        running = np.cumsum(fixed) - fixed
        running -= np.repeat(running[self.starts], self.lengths)
        return running / scale

    def take(self, rows: IntArray | BoolArray) -> tuple[Segments, IntArray]:
        """The rows at `rows`, and the flat indices of their entries in the old arrays."""
        taken = Segments.of(self.lengths[rows])
        shift = np.repeat(self.starts[rows] - taken.starts, taken.lengths)
        return taken, np.arange(len(shift)) + shift
