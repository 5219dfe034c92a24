from __future__ import annotations

import time

import pytest

from controlloop.clock import SystemClock


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="the system has no such clock")
def test_a_machine_that_slept_knows_that_time_went_by(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {time.CLOCK_BOOTTIME: 7.0}
    monkeypatch.setattr(time, "clock_gettime", shown.__getitem__)
    assert SystemClock().monotonic() == 7.0
