"""What the tests of baselines share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controlloop.api.observation import WorkloadRef
from controlloop.backtest.view import ServerView

ViewMaker = Callable[..., ServerView]


@pytest.fixture
def view() -> ViewMaker:
    """A server whose replicas are all ready, unless told otherwise."""

    def make(wanted: int, **others: float) -> ServerView:
        given = {"ready": wanted, "starting": 0, "pending": 0, "in_flight": 0.0} | others
        given = {"waiting": 0.0, "arrived": 0.0} | given
        return ServerView(ref=WorkloadRef("simulation", "chat"), wanted=wanted, **given)  # type: ignore[arg-type]

    return make
