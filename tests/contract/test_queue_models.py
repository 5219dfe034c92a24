from __future__ import annotations

import pytest

from controlloop.protocols import QueueModel
from controlloop.queueing.models import queue_models
from controlloop.testing.queue_models import QueueModelContract

pytestmark = pytest.mark.slow


class TestStateDependent(QueueModelContract):
    def model(self) -> QueueModel:
        return queue_models().create("state-dependent")


class TestIterationTime(QueueModelContract):
    def model(self) -> QueueModel:
        return queue_models().create("iteration-time")


class TestSingleServer(QueueModelContract):
    def model(self) -> QueueModel:
        return queue_models().create("mm1k")


class TestRoofline(QueueModelContract):
    def model(self) -> QueueModel:
        return queue_models().create("roofline")


def test_every_registered_model_is_under_contract() -> None:
    here = [each for each in QueueModelContract.__subclasses__() if each.__module__ == __name__]
    assert {each().model().name for each in here} == set(queue_models().names)
