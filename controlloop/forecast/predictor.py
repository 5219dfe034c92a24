"""What a predictor promises."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from controlloop.api.replicas import FloatArray
from controlloop.forecast.history import History


@runtime_checkable
class Predictor(Protocol):
    """Says what each of many series will be, from nothing but their history.

    Its spread and its score are taken from its own errors: a mean is all it gives.
    """

    @property
    def name(self) -> str:
        """The name that settings and reports use."""
        ...

    @property
    def needs_s(self) -> float:
        """The span of history without which it has nothing to say, seconds; 0: a value is enough.

        NaN for a series that has so much, and was seen of late, is a failure.
        """
        ...

    def predict(self, history: History, steps: FloatArray) -> FloatArray:
        """The mean expected in the slot `steps` (m,) slots after the newest: (m,), NaN for none."""
        ...
