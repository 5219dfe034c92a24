from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from controlloop.clock import ManualClock
from controlloop.errors import UnavailableError
from controlloop.kube.connection import Listed
from controlloop.kube.informers import MOST_AGE_S, Informers
from controlloop.kube.resources import PODS

WITHIN_S = 5.0


def a_pod(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"uid": name, "name": name, "resourceVersion": str(version)}}


class Api:
    """An API server whose lists are counted and whose one watch says what it is told to."""

    def __init__(self) -> None:
        self.lists = 0
        self.version = 10
        self.pods = [a_pod("a", 9)]
        self.gone = False
        self.events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.watching = threading.Event()

    def listed(self, *_: object) -> Listed:
        if self.gone:
            raise UnavailableError("connection refused")
        self.lists += 1
        return Listed([dict(pod) for pod in self.pods], str(self.version))

    def watch(self, *_: object) -> Iterator[dict[str, Any]]:
        self.watching.set()
        while (event := self.events.get()) is not None:
            yield event

    def tell(self, kind: str, name: str, version: int) -> None:
        self.events.put({"type": kind, "object": a_pod(name, version)})


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.events.put(None)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


def versions(informers: Informers) -> dict[str, str]:
    found = informers.items(PODS, 1.0)
    return {pod["metadata"]["name"]: pod["metadata"]["resourceVersion"] for pod in found}


def followed(api: Api, clock: ManualClock) -> Informers:
    informers = Informers(api, clock)  # type: ignore[arg-type]  # it lists and watches
    versions(informers)
    assert api.watching.wait(WITHIN_S)
    return informers


def shows(informers: Informers, name: str) -> None:
    given_up = threading.Event()
    timer = threading.Timer(WITHIN_S, given_up.set)
    timer.start()
    while name not in versions(informers):
        assert not given_up.is_set(), f"{name} was never shown"
    timer.cancel()


def test_a_watch_that_hangs_is_not_believed_for_long(api: Api, clock: ManualClock) -> None:
    informers = followed(api, clock)
    clock.advance(MOST_AGE_S)
    assert versions(informers) == {"a": "9"}
    assert api.lists == 1
    api.pods, api.version = [a_pod("b", 20)], 20
    clock.advance(0.1)
    assert versions(informers) == {"b": "20"}
    assert api.lists == 2
    clock.advance(MOST_AGE_S + 0.1)
    api.gone = True
    with pytest.raises(UnavailableError):
        versions(informers)


def test_what_a_watch_tells_of_the_time_before_the_list_is_passed_over(
    api: Api, clock: ManualClock
) -> None:
    informers = followed(api, clock)
    api.tell("DELETED", "a", 8)
    api.tell("ADDED", "b", 12)
    shows(informers, "b")
    assert versions(informers) == {"a": "9", "b": "12"}
    assert api.lists == 1


def test_what_a_watch_tells_keeps_it_believed(api: Api, clock: ManualClock) -> None:
    informers = followed(api, clock)
    clock.advance(MOST_AGE_S)
    api.tell("MODIFIED", "a", 11)
    api.tell("ADDED", "b", 12)
    shows(informers, "b")
    clock.advance(MOST_AGE_S)
    assert versions(informers) == {"a": "11", "b": "12"}
    assert api.lists == 1
