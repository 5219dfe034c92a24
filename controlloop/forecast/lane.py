"""Many series of one kind: their history, their predictors, and how well these do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray, IntArray
from controlloop.forecast.bounded import BoundedPredictor, Fault
from controlloop.forecast.history import Book
from controlloop.forecast.predictor import Predictor
from controlloop.forecast.tracking import Outlook, Tracker

ENSEMBLE: Final = "ensemble"
_OF_LATE_SLOTS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The outlook, and the predictors that gave nothing with the reason."""

    outlook: Outlook
    faults: Mapping[str, Fault]


class Lane:
    """Series that are predicted together.

    Args:
        predictors: the first is the last value, which the others have to beat.
        step_s: length of a slot, seconds.
        levels: the quantiles that are given and scored.
        window: over how many forecasts predictors are scored.
        budget_s: how long one call of a predictor may take, seconds.

    """

    def __init__(
        self,
        predictors: Sequence[Predictor],
        step_s: float,
        levels: Sequence[float],
        window: float,
        budget_s: float,
    ) -> None:
        self._predictors = [BoundedPredictor(one, budget_s) for one in predictors]
        self.book = Book(step_s)
        self._tracker = Tracker([one.name for one in predictors], levels, window, ENSEMBLE)

    @property
    def names(self) -> tuple[str, ...]:
        """The predictors and their mix, in the order of the outlook's columns."""
        return self._tracker.names

    def keep(self, rows: IntArray) -> None:
        """Become the series `rows` of before; -1 is a new one."""
        self.book.keep(rows)
        self._tracker.keep(rows)

    def forget(self) -> None:
        """Begin anew, with no series."""
        self.keep(np.zeros(0, dtype=np.int64))
        self.book.end = float("nan")

    def add(self, now: float, measured: FloatArray, steps: IntArray, *, long: bool = True) -> Seen:
        """Take what was measured at `now`, score what was said of it, and look ahead.

        Args:
            now: seconds since the epoch.
            measured: (m,) NaN where it is not known.
            steps: (m,) slots to the horizon.
            long: whether the long means take it in, too.

        """
        slots = (self.book.add if long else self.book.add_recent)(now, measured)
        if slots:
            self._tracker.score(slots, measured)
        history = self.book.view()
        of_late = ~np.isnan(history.values[:, -_OF_LATE_SLOTS:]).all(axis=1)
        expected = np.where(of_late, history.span_s, np.nan)
        said: dict[str, FloatArray] = {}
        faults: dict[str, Fault] = {}
        for predictor in self._predictors:
            found = predictor.predict(history, steps.astype(np.float64), expected)
            if isinstance(found, Fault):
                faults[predictor.name] = found
            else:
                said[predictor.name] = found
        return Seen(self._tracker.look(steps, said, keep=slots > 0), faults)

    @property
    def state(self) -> dict[str, FloatArray]:
        """What is to be kept over a restart."""
        return self.book.state | self._tracker.state

    def restore(self, state: Mapping[str, FloatArray], *, scores: bool) -> None:
        """Take up what was kept; without `scores`, only the history.

        Raises:
            ValueError: its parts do not fit together.

        """
        self.book.restore(state)
        if scores:
            self._tracker.restore(state)
        else:
            self._tracker.keep(np.full(len(self.book), -1))
        if len(self._tracker) != len(self.book):
            raise ValueError("history and scores are of different series")
