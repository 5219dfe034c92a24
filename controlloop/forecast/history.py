"""What was seen of many series: the last hours slot by slot, the last weeks in longer means.

A slot is one control period. Nothing is invented: a slot without a measurement is NaN, and so is
a longer one of which less than half is known, or that has not ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray

RECENT_SLOTS: Final = 120
LONG_SLOT_S: Final = 900.0
LONG_SLOTS: Final = 15 * 96
"""Fifteen days: the same hour of two weeks ago, and a day to spare."""

_MOST_DRIFT: Final = 0.25
_LEAST_COVERAGE: Final = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What predictors see of m series.

    Attributes:
        step_s: length of a slot, seconds.
        end: the end of the newest slot, seconds since the epoch.
        values: (m, `RECENT_SLOTS`) the slots up to `end`; NaN where nothing is known.
        long_values: (m, `LONG_SLOTS`) means over `LONG_SLOT_S`, aligned with the epoch.
        long_end: the end of the newest of them.
        slot: number of the newest slot: a history of the same `series` that is one higher has
            one more.
        series: changes whenever the rows are no longer the same series.

    """

    step_s: float
    end: float
    values: FloatArray
    long_values: FloatArray
    long_end: float
    slot: int = 0
    series: int = 0

    @property
    def width(self) -> int:
        """Slots of `values`."""
        return int(self.values.shape[1])

    @property
    def span_s(self) -> FloatArray:
        """(m,) the time since the first long slot that is known, 0 without one."""
        known = ~np.isnan(self.long_values)
        first = np.argmax(known, axis=1)
        age = (known.shape[1] - first) * LONG_SLOT_S
        return np.where(known.any(axis=1), age, 0.0)

    def long_at(self, times: FloatArray) -> FloatArray:
        """(m, S) the long means at `times` (m, S), between the middles of their slots."""
        place = (times - self.long_end) / LONG_SLOT_S + self.long_values.shape[1] - 0.5
        before = np.floor(place).astype(np.int64)
        share = place - before
        low, high = self._long(before), self._long(before + 1)
        mixed = low * (1.0 - share) + high * share
        return np.where(np.isnan(mixed), np.where(share < 0.5, low, high), mixed)

    def _long(self, columns: IntArray) -> FloatArray:
        width = self.long_values.shape[1]
        inside = (columns >= 0) & (columns < width)
        rows = np.arange(len(columns))[:, None]
        return np.where(inside, self.long_values[rows, np.clip(columns, 0, width - 1)], np.nan)


class Book:
    """Keeps the history of series that come and go.

    Args:
        step_s: length of a slot, seconds.

    """

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.end = float("nan")
        self.values: FloatArray = np.full((0, RECENT_SLOTS), np.nan)
        self.long_values: FloatArray = np.full((0, LONG_SLOTS), np.nan)
        self.long_index = 0
        self.slot = 0
        self.series = 0
        self._sums: FloatArray = np.zeros(0)
        self._counts: FloatArray = np.zeros(0)

    def __len__(self) -> int:
        return len(self.values)

    def keep(self, rows: IntArray) -> None:
        """Become the series `rows` of before; -1 is a new one of which nothing is known."""
        self.series += 1
        self.values = taken(self.values, rows, np.nan)
        self.long_values = taken(self.long_values, rows, np.nan)
        self._sums = taken(self._sums, rows, 0.0)
        self._counts = taken(self._counts, rows, 0.0)

    def slots_to(self, now: float) -> int:
        """How many slots later than the newest `now` is; 0: within it."""
        if np.isnan(self.end):
            return 1
        slots = round((now - self.end) / self.step_s)
        # A clock that was set back: what comes is later all the same.
        return 1 if slots < 0 else slots

    def add(self, now: float, measured: FloatArray) -> int:
        """Take what was measured at `now`: (m,), NaN where it is not known.

        Returns:
            By how many slots time went on; 0: the newest slot was measured once more.

        """
        slots = self.add_recent(now, measured)
        self._add_long(now, measured)
        return slots

    def add_recent(self, now: float, measured: FloatArray) -> int:
        """The same for the slots alone: the long means are known already."""
        slots = self.slots_to(now)
        if slots:
            self._advance(now, slots)
        newest = self.values[:, -1]
        self.values[:, -1] = np.where(np.isnan(measured), newest, measured)
        return slots

    def view(self) -> History:
        """What predictors see; it changes with the next `add`."""
        long_end = self.long_index * LONG_SLOT_S
        return History(
            self.step_s,
            self.end,
            _read_only(self.values),
            _read_only(self.long_values),
            long_end,
            self.slot,
            self.series,
        )

    def fill_long(self, end: float, means: FloatArray) -> None:
        """Put long means that were measured by others before: (m, k), the newest ends by `end`."""
        if self.long_index != int(end // LONG_SLOT_S):
            # What was added up belongs to a slot that has ended meanwhile.
            self._sums[:] = 0.0
            self._counts[:] = 0.0
        self.long_index = int(end // LONG_SLOT_S)
        width = min(means.shape[1], LONG_SLOTS)
        self.long_values[:, LONG_SLOTS - width :] = means[:, means.shape[1] - width :]

    @property
    def state(self) -> dict[str, FloatArray]:
        """What is to be kept over a restart."""
        return {
            "clock": np.array([self.step_s, self.end, float(self.long_index)]),
            "values": self.values.astype(np.float32),
            "long_values": self.long_values.astype(np.float32),
            "open": np.stack([self._sums, self._counts]),
        }

    def restore(self, state: Mapping[str, FloatArray]) -> None:
        """Take up what was kept.

        Raises:
            ValueError: its parts do not fit together.

        """
        step_s, end, long_index = state["clock"].tolist()
        series = len(state["values"])
        shapes = (state["values"].shape, state["long_values"].shape, state["open"].shape)
        if shapes != ((series, RECENT_SLOTS), (series, LONG_SLOTS), (2, series)):
            raise ValueError(f"arrays of shapes {shapes} are no history")
        self.series += 1
        self.end, self.long_index = end, int(long_index)
        self.values = state["values"].astype(np.float64)
        if step_s != self.step_s:
            # Of slots of another length only the long means are still true.
            self.values[:] = np.nan
        self.long_values = state["long_values"].astype(np.float64)
        self._sums, self._counts = state["open"].astype(np.float64)

    def _advance(self, now: float, slots: int) -> None:
        expected = self.end + slots * self.step_s
        off = now - expected
        # The grid follows the cycles, whose beat may have another phase than its first one.
        on_grid = abs(off) <= self.step_s
        self.end = expected + _MOST_DRIFT * off if on_grid else now
        self.slot += slots
        shift = min(slots, RECENT_SLOTS)
        gap = np.full((len(self.values), shift), np.nan)
        self.values = np.concatenate([self.values[:, shift:], gap], axis=1)

    def _add_long(self, now: float, measured: FloatArray) -> None:
        index = int(now // LONG_SLOT_S)
        if index != self.long_index:
            self._close_long(index)
        known = ~np.isnan(measured)
        self._sums[known] += measured[known]
        self._counts[known] += 1

    def _close_long(self, index: int) -> None:
        """Put the long slot that ended away and begin that of `index`."""
        if index < self.long_index:
            # A clock that was set back: the same hours come again.
            self.long_index = index
        else:
            least = _LEAST_COVERAGE * LONG_SLOT_S / self.step_s
            enough = self._counts >= max(least, 1.0)
            mean = np.divide(self._sums, self._counts, out=np.full(len(self), np.nan), where=enough)
            shift = min(index - self.long_index, LONG_SLOTS)
            gap = np.full((len(self), shift), np.nan)
            if self.long_index:
                gap[:, 0] = mean
            self.long_values = np.concatenate([self.long_values[:, shift:], gap], axis=1)
            self.long_index = index
        self._sums[:] = 0.0
        self._counts[:] = 0.0


def taken(array: FloatArray, rows: IntArray, missing: float) -> FloatArray:
    """The rows of `array` (first axis) at `rows`; `missing` where that is -1."""
    found = np.full((len(rows), *array.shape[1:]), missing, dtype=array.dtype)
    known = rows >= 0
    found[known] = array[rows[known]]
    return found


def _read_only(array: FloatArray) -> FloatArray:
    shown = array.view()
    shown.flags.writeable = False
    return shown
