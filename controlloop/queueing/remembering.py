"""Queue models that remember: a pair that was sized in the cycle before is not sized again.

A pair's answer depends on nothing but its own numbers, so the same numbers to the last bit have
the same answer: to the last bit of our own models, and within the rounding that
`controlloop.testing` allows of others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from controlloop.api.replicas import (
    Analysis,
    FloatArray,
    IntArray,
    Percentiles,
    Replicas,
    Sizing,
    Targets,
)
from controlloop.protocols import PercentileModel, QueueModel

_ODD: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """Answers by question: `questions` (n, k) in the order of `marks` (n,), ascending."""

    marks: IntArray
    questions: FloatArray
    answers: Sizing

    def find(self, questions: FloatArray, marks: IntArray) -> IntArray:
        """Where each question stands, -1 where it does not."""
        if not len(self.marks) or questions.shape[1] != self.questions.shape[1]:
            return np.full(len(questions), -1)
        at = np.minimum(np.searchsorted(self.marks, marks), len(self.marks) - 1)
        # Different questions may have one mark; what counts is every bit of the question.
        same = np.all(self.questions[at].view(np.int64) == questions.view(np.int64), axis=1)
        return np.where(same, at, -1)


class Remembering:
    """Implements `QueueModel` over another one; only sizing is remembered, for one call.

    Each call replaces what is remembered by its own pairs, so it grows with the fleet alone.
    """

    def __init__(self, model: QueueModel) -> None:
        self._model = model
        self._known: _Known | None = None

    @property
    def name(self) -> str:
        """The name of the model itself."""
        return self._model.name

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Those of the model itself."""
        return self._model.parameter_names

    def rate_range_rps(self, replicas: Replicas) -> tuple[FloatArray, FloatArray]:
        """As the model itself."""
        return self._model.rate_range_rps(replicas)

    def analyze(self, replicas: Replicas, rate_rps: FloatArray) -> Analysis:
        """As the model itself."""
        return self._model.analyze(replicas, rate_rps)

    def size(self, replicas: Replicas, targets: Targets) -> Sizing:
        """As the model itself; it is asked only for the pairs that the last call had not."""
        questions = _questions(replicas, targets)
        marks = _marks(questions)
        known = self._known
        place = np.full(len(questions), -1) if known is None else known.find(questions, marks)
        new = np.flatnonzero(place < 0)
        if known is None or len(new) == len(place):
            answers = self._model.size(replicas, targets)
        else:
            old = np.flatnonzero(place >= 0)
            fresh = self._model.size(replicas.take(new), targets.take(new)) if len(new) else None
            answers = _joined(len(place), old, _take(known.answers, place[old]), new, fresh)
        order = np.argsort(marks, kind="stable")
        self._known = _Known(marks[order], questions[order], _take(answers, order))
        return answers


class RememberingPercentiles(Remembering):
    """The same over a model that knows percentiles."""

    def __init__(self, model: PercentileModel) -> None:
        super().__init__(model)
        self._percentiles = model.percentiles

    def percentiles(
        self, replicas: Replicas, rate_rps: FloatArray, levels: Sequence[float]
    ) -> Percentiles:
        """As the model itself."""
        return self._percentiles(replicas, rate_rps, levels)


def remembering(model_of: Callable[[str], QueueModel]) -> Callable[[str], QueueModel]:
    """A source of queue models that remember, each made once."""
    made: dict[str, QueueModel] = {}

    def of(name: str) -> QueueModel:
        if name not in made:
            model = model_of(name)
            made[name] = (
                RememberingPercentiles(model)
                if isinstance(model, PercentileModel)
                else Remembering(model)
            )
        return made[name]

    return of


def _questions(replicas: Replicas, targets: Targets) -> FloatArray:
    """All that an answer depends on: (n, 7 + parameters)."""
    columns = (
        replicas.max_batch,
        replicas.max_queue,
        replicas.input_tokens,
        replicas.output_tokens,
        targets.itl_ms,
        targets.ttft_ms,
        targets.tps,
    )
    stacked = np.column_stack([*columns, replicas.parameters]).astype(np.float64)
    return np.ascontiguousarray(stacked)


def _marks(questions: FloatArray) -> IntArray:
    """One number a question, the same for the same bits."""
    marks = np.zeros(len(questions), dtype=np.uint64)
    for column in questions.view(np.uint64).T:
        marks = (marks ^ column) * _ODD
        marks ^= marks >> np.uint64(29)
    return marks.view(np.int64)


def _take(sizing: Sizing, rows: IntArray) -> Sizing:
    taken = {
        each.name: getattr(sizing, each.name)[rows] for each in fields(sizing) if each.name != "at"
    }
    at = {each.name: getattr(sizing.at, each.name)[rows] for each in fields(sizing.at)}
    return replace(sizing, **taken, at=Analysis(**at))


def _joined(n: int, old: IntArray, before: Sizing, new: IntArray, fresh: Sizing | None) -> Sizing:
    """Both in their places."""
    if fresh is None:
        return before

    def put(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[Any]:
        both = np.empty(n, dtype=first.dtype)
        both[old], both[new] = first, second
        return both

    at = {
        each.name: put(getattr(before.at, each.name), getattr(fresh.at, each.name))
        for each in fields(before.at)
    }
    rest = {
        each.name: put(getattr(before, each.name), getattr(fresh, each.name))
        for each in fields(before)
        if each.name != "at"
    }
    return replace(before, **rest, at=Analysis(**at))
