"""Rows of different lengths in one flat array, so that no row is padded to the longest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """n rows of at least one entry each in flat arrays.

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
        """Rows of the given lengths (n,), each >= 1, one after another."""
        ends = np.cumsum(lengths)
        starts = ends - lengths
        total = int(ends[-1]) if len(ends) else 0
        position = np.arange(total, dtype=np.float64) - np.repeat(starts, lengths)
        return cls(lengths, starts, position)

    @classmethod
    def shared(cls, lengths: IntArray) -> Segments:
        """The same where rows differ in length alone: each is the beginning of the longest."""
        longest = int(lengths.max()) if len(lengths) else 0
        return cls(lengths, np.zeros_like(lengths), np.arange(longest, dtype=np.float64))

    @property
    def lasts(self) -> IntArray:
        """(n,) where the last entry of each row stands."""
        return self.starts + self.lengths - 1

    @property
    def rows(self) -> IntArray:
        """(total,) the row of each entry, where rows follow one another."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def spread(self, values: FloatArray) -> FloatArray:
        """(n,) -> (total,): each row's value at all its entries, one row after another."""
        return np.repeat(values, self.lengths)

    def take(self, rows: IntArray) -> Segments:
        """The rows at `rows`, which stay where they stand; one may be taken more than once."""
        return Segments(self.lengths[rows], self.starts[rows], self.position)
