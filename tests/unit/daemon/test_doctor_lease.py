"""What the doctor says of the Lease."""

from __future__ import annotations

from typing import Any, cast

import pytest

from controlloop.clock import ManualClock
from controlloop.daemon.doctor import Doctor, Finding, Level
from controlloop.errors import UnavailableError
from controlloop.kube.access import Holder

NOW = 10_000.0


class GivenAccount:
    """Says what the test gives of the Lease; of all else the API server is silent."""

    def __init__(self, holder: Holder | Exception | None) -> None:
        self._holder = holder

    def allows(self, right: object, timeout_s: float) -> bool:
        return True

    def holder(self, namespace: str, name: str, timeout_s: float) -> Holder | None:
        if isinstance(self._holder, Exception):
            raise self._holder
        return self._holder

    def version(self, timeout_s: float) -> str:
        return "v1"

    def clock(self, timeout_s: float) -> float | None:
        return NOW


class SilentSensor:
    def observe(self, now: float, deadline: object) -> None:
        raise UnavailableError("gone")


@pytest.mark.parametrize(
    ("holder", "level", "words"),
    [
        (None, Level.OK, "no daemon has run yet"),
        (Holder("", NOW - 100.0, 15.0), Level.WARNING, "nobody holds it"),
        (Holder("one_1", NOW - 10.0, 15.0), Level.OK, "one_1 decides and writes"),
        (Holder("one_1", NOW - 90.0, 15.0), Level.WARNING, "not renewed it for 90 s"),
        (UnavailableError("cannot read it"), Level.WARNING, "cannot read it"),
    ],
)
def test_who_leads_and_whether_it_still_lives_is_told(
    holder: Holder | Exception | None, level: Level, words: str
) -> None:
    sensor = cast("Any", SilentSensor())
    clock = ManualClock(NOW)
    account = GivenAccount(holder)
    doctor = Doctor(account, (), cast("Any", None), sensor, {}, clock, lease=("inferno", "loop"))
    found: dict[str, Finding] = {each.subject: each for each in doctor.examine()}
    assert found["lease"].level is level
    assert words in found["lease"].found
