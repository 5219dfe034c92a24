from __future__ import annotations

import io
import json
import logging

import structlog

from controlloop.settings.tree import LogSettings
from controlloop.telemetry import set_up_logs


def logged(settings: LogSettings) -> str:
    out = io.StringIO()
    set_up_logs(settings, out)
    header = ["s3cret", "not a number"]
    try:
        int(header[1])
    except ValueError:
        structlog.get_logger("x").exception("stage-defect")
    structlog.get_logger("x").info("decision", server="a")
    logging.getLogger("a.library").warning("it is late")
    return out.getvalue()


def test_a_defect_is_told_with_its_place_and_without_the_variables_there() -> None:
    for settings in (LogSettings(format="console"), LogSettings(format="json")):
        text = logged(settings)
        assert "ValueError: invalid literal" in text
        assert "test_telemetry.py" in text
        assert "s3cret" not in text


def test_in_json_every_line_is_one_event_those_of_libraries_too() -> None:
    events = [json.loads(line) for line in logged(LogSettings(format="json")).splitlines()]
    assert [event["event"] for event in events] == ["stage-defect", "decision", "it is late"]
    assert [event["level"] for event in events] == ["error", "info", "warning"]


def test_less_than_the_level_is_not_shown() -> None:
    text = logged(LogSettings(format="json", level="warning"))
    assert "decision" not in text
    assert "it is late" in text
