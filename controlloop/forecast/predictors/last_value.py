"""What was last seen goes on: the predictor that every other one has to beat."""

from __future__ import annotations

from typing import Final

import numpy as np

from controlloop.api.replicas import FloatArray
from controlloop.forecast.history import History

LAST_VALUE: Final = "last-value"
_MOST_SLOTS: Final = 5


class LastValue:
    """The newest value of the last few slots."""

    name = LAST_VALUE
    needs_s = 0.0

    def predict(self, history: History, steps: FloatArray) -> FloatArray:  # noqa: ARG002 - the protocol's arguments
        """The newest value that is known: (m,)."""
        newest = history.values[:, : -_MOST_SLOTS - 1 : -1]
        known = ~np.isnan(newest)
        first = np.argmax(known, axis=1)
        return np.asarray(newest[np.arange(len(newest)), first], dtype=np.float64)
