"""Filters that go through each series slot by slot, and need not begin again every time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np

from controlloop.api.replicas import BoolArray, FloatArray
from controlloop.forecast.history import History

S = TypeVar("S")


class Filter(ABC, Generic[S]):
    """A predictor whose forecast follows from a state that each slot moves on.

    It remembers the state before the newest slot, so that a history that went on by a slot
    costs a slot. What it says is the same as if it had gone through all of it.
    """

    name: str
    needs_s = 0.0

    def __init__(self) -> None:
        self._state: S | None = None
        self._series = -1
        self._slot = -1

    def predict(self, history: History, steps: FloatArray) -> FloatArray:
        """The forecast `steps` (m,) slots on: (m,), NaN where nothing is known."""
        behind = history.slot - self._slot
        state = self._state
        if state is None or history.series != self._series or not 1 <= behind < history.width:
            state, behind = self.start(len(history.values)), history.width
        columns = history.values[:, history.width - behind :]
        for column in columns.T[:-1]:
            state = self._moved(state, column)
        self._state, self._series, self._slot = state, history.series, history.slot - 1
        return self.ahead(self._moved(state, columns[:, -1]), steps)

    def _moved(self, state: S, column: FloatArray) -> S:
        known = ~np.isnan(column)
        return self.move(state, np.where(known, column, 0.0), known)

    @abstractmethod
    def start(self, series: int) -> S:
        """The state of `series` series of which nothing is known."""

    @abstractmethod
    def move(self, state: S, values: FloatArray, known: BoolArray) -> S:
        """A new state after one slot: `values` (m,) where `known` (m,)."""

    @abstractmethod
    def ahead(self, state: S, steps: FloatArray) -> FloatArray:
        """The forecast `steps` (m,) slots on: (m,)."""
