"""What is remembered is exact, and spares the work."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlloop.api.replicas import Analysis, FloatArray, Replicas, Sizing, Targets
from controlloop.protocols import PercentileModel
from controlloop.queueing.models import queue_models
from controlloop.queueing.remembering import Remembering, remembering
from controlloop.queueing.state_dependent import StateDependent

pytestmark = pytest.mark.slow

N = 40


class Counting(Remembering):
    """Remembers nothing, and counts the pairs that it sizes."""

    def __init__(self) -> None:
        super().__init__(StateDependent())
        self.sized = 0

    def size(self, replicas: Replicas, targets: Targets) -> Sizing:
        self.sized += len(replicas)
        return self._model.size(replicas, targets)


def pairs(seed: int) -> tuple[Replicas, Targets]:
    rng = np.random.default_rng(seed)
    batch = rng.integers(1, 64, N)
    parameters = np.exp(rng.normal(0, 0.5, (N, 4))) * np.array([5.0, 0.2, 3.0, 0.01])
    # One that is invalid, whose answer is NaN, is remembered too.
    parameters[0, 0] = np.nan
    replicas = Replicas(
        batch,
        10 * batch,
        rng.integers(0, 900, N).astype(float),
        rng.integers(1, 300, N).astype(float),
        parameters,
    )
    targets = Targets(rng.uniform(3, 40, N), rng.uniform(20, 900, N), np.zeros(N))
    return replicas, targets


def same(one: Sizing, other: Sizing) -> None:
    for each in fields(Sizing):
        if each.name != "at":
            assert np.array_equal(
                getattr(one, each.name), getattr(other, each.name), equal_nan=True
            )
    for each in fields(Analysis):
        first: FloatArray = getattr(one.at, each.name)
        assert np.array_equal(first, getattr(other.at, each.name), equal_nan=True)


@given(st.lists(st.integers(0, N - 1), max_size=60), st.lists(st.integers(0, N - 1), max_size=60))
def test_answers_are_the_models_own_to_the_last_bit(before: list[int], now: list[int]) -> None:
    replicas, targets = pairs(1)
    model = Remembering(StateDependent())
    for rows in (before, now, now):
        at = np.array(rows, dtype=np.int64)
        asked = replicas.take(at), targets.take(at)
        same(model.size(*asked), StateDependent().size(*asked))


def test_only_what_changed_is_sized() -> None:
    counting = Counting()
    model = Remembering(counting)
    replicas, targets = pairs(2)
    model.size(replicas, targets)
    assert counting.sized == N
    model.size(replicas, targets)
    assert counting.sized == N
    changed = replicas.parameters.copy()
    changed[3, 1] = np.nextafter(changed[3, 1], 1.0)
    other = Replicas(
        replicas.max_batch,
        replicas.max_queue,
        replicas.input_tokens,
        replicas.output_tokens,
        changed,
    )
    model.size(other, targets)
    assert counting.sized == N + 1
    # What the last call had not is forgotten.
    some = np.arange(5)
    model.size(other.take(some), targets.take(some))
    model.size(other, targets)
    assert counting.sized == N + 1 + N - 5


@pytest.mark.parametrize("name", ["state-dependent", "iteration-time", "mm1k", "roofline"])
def test_each_model_is_made_once_and_keeps_what_it_can(name: str) -> None:
    of = remembering(queue_models().create)
    model, plain = of(name), queue_models().create(name)
    assert of(name) is model
    assert (model.name, model.parameter_names) == (plain.name, plain.parameter_names)
    assert isinstance(model, PercentileModel) == isinstance(plain, PercentileModel)
