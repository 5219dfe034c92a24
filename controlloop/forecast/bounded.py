"""Calls what may fail, hang or say nonsense, so that it harms nothing but itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np

from controlloop.api.predictions import AsideReason
from controlloop.api.replicas import FloatArray
from controlloop.forecast.history import History
from controlloop.forecast.predictor import Predictor

T = TypeVar("T")
FIRST_REST: Final = 5
LONGEST_REST: Final = 360


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a call gave nothing that can be used."""

    reason: AsideReason
    detail: str


class NotFiniteError(ArithmeticError):
    """A forecast that is no number."""


class Worker(Generic[T]):
    """Makes one call at a time, each with a time limit.

    A thread cannot be killed: a call that does not end is left to itself, and no other one is
    made while it lasts. One that keeps Python's global lock stops the process, and is the
    daemon's watchdog's to end.

    Args:
        budget_s: how long a call may take; infinite: it is made directly.

    """

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._thread: threading.Thread | None = None

    def call(self, work: Callable[[], T]) -> T | Fault:
        """What `work` gives, or why there is nothing."""
        if self._thread is not None and self._thread.is_alive():
            return Fault(AsideReason.SLOW, "an earlier call has not ended yet")
        found: list[T | Fault] = []

        def run() -> None:
            try:
                found.append(work())
            except NotFiniteError as error:
                found.append(Fault(AsideReason.NOT_FINITE, str(error)))
            except Exception as error:  # noqa: BLE001 - whatever goes wrong in a plug-in, the loop goes on
                found.append(Fault(AsideReason.FAILED, f"{type(error).__name__}: {error}"))

        if np.isinf(self._budget_s):
            run()
            return found[0]
        # A daemon thread: one that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=run, name="forecast", daemon=True)
        self._thread.start()
        self._thread.join(self._budget_s)
        if not found:
            return Fault(AsideReason.SLOW, f"no answer within {self._budget_s:g} s")
        return found[0]


class BoundedPredictor:
    """A predictor that is checked and, after a fault, left alone for a while.

    Args:
        predictor: what is called.
        budget_s: how long a call may take.

    """

    def __init__(self, predictor: Predictor, budget_s: float) -> None:
        self.name = predictor.name
        self._predictor = predictor
        self._worker: Worker[FloatArray] = Worker(budget_s)
        self._fault: Fault | None = None
        self._rest = FIRST_REST
        self._again_at = 0

    def predict(
        self, history: History, steps: FloatArray, expected: FloatArray
    ) -> FloatArray | Fault:
        """What it says, never negative, NaN for nothing; or why it is set aside.

        Args:
            history: what was seen.
            steps: (m,) slots to the horizon.
            expected: (m,) span of history of each series that was seen of late, seconds, NaN of
                the others: where it suffices, there has to be an answer.

        """
        if self._fault is not None and history.slot < self._again_at:
            return self._fault
        said = self._worker.call(lambda: self._checked(history, steps, expected))
        if isinstance(said, Fault):
            self._fault = said
            self._again_at = history.slot + self._rest
            self._rest = min(2 * self._rest, LONGEST_REST)
        else:
            self._fault, self._rest = None, FIRST_REST
        return said

    def _checked(self, history: History, steps: FloatArray, expected: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            said = np.asarray(self._predictor.predict(history, steps), dtype=np.float64)
        if said.shape != steps.shape:
            raise ValueError(f"gave an array of shape {said.shape} for {len(steps)} series")
        finite = np.isfinite(said)
        # A span that is not known compares as False.
        missing = ~finite & (expected >= self._predictor.needs_s)
        if missing.any():
            raise NotFiniteError(f"{int(missing.sum())} of {len(steps)} forecasts are not finite")
        return np.where(finite, np.maximum(said, 0.0), np.nan)
