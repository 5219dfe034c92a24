from __future__ import annotations

import json

import pytest

from controlloop.api.report import CycleReport
from controlloop.daemon.recorder import Recorder
from controlloop.settings.tree import LogSettings
from controlloop.telemetry import Metrics, set_up_logs


def test_a_report_that_cannot_be_written_is_logged_and_harms_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logs(LogSettings(format="json"))

    def full(line: str) -> None:
        raise OSError(28, "No space left on device")

    metrics = Metrics()
    Recorder(metrics, full).record(CycleReport(12.0, ()), "schedule")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (told,) = [event for event in events if event["event"] == "report-not-written"]
    assert "No space left" in told["error"]
    assert metrics.last_cycle._value.get() == 12.0
