"""Exponentially weighted averages: the level of a series whose ups and downs are noise."""

from __future__ import annotations

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.forecast.history import History


class Average:
    """The average of the past, each slot weighing less than the one after it by a fixed share.

    What is missing has no weight.

    Args:
        name: what it is called.
        memory_slots: slots after which the weight has fallen to 1/e.

    """

    needs_s = 0.0

    def __init__(self, name: str, memory_slots: float) -> None:
        self.name = name
        self._memory_slots = memory_slots

    def predict(self, history: History, steps: FloatArray) -> FloatArray:  # noqa: ARG002 - the protocol's arguments
        """The weighted average: (m,), NaN where nothing is known."""
        values = history.values
        age = np.arange(values.shape[1])[::-1]
        weights = np.exp(-age / self._memory_slots)
        known = ~np.isnan(values)
        total = np.where(known, values, 0.0) @ weights
        weight = known @ weights
        return np.asarray(
            np.divide(total, weight, out=np.full(len(values), np.nan), where=weight > 0),
            dtype=np.float64,
        )
