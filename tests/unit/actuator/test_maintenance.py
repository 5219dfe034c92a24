from __future__ import annotations

from pathlib import Path

from controlloop.actuator.maintenance import MaintenanceSwitch


def test_writing_is_allowed_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    assert MaintenanceSwitch().reason() == ""
    assert MaintenanceSwitch(lambda: None, tmp_path / "none").reason() == ""


def test_it_is_read_each_time_and_its_text_is_fit_for_a_line(tmp_path: Path) -> None:
    file = tmp_path / "stop"
    switch = MaintenanceSwitch(file=file)
    file.write_text(f"new\ncables\x1b[31m {'x' * 500}")
    assert switch.reason().startswith("stop: new cables [31m xxx")
    assert len(switch.reason()) < 250
    file.write_text("")
    assert switch.reason() == "stop: no reason is given"
    file.unlink()
    assert switch.reason() == ""


def test_what_cannot_be_read_counts_as_thrown(tmp_path: Path) -> None:
    assert "cannot be read" in MaintenanceSwitch(file=tmp_path).reason()


def test_the_annotation_comes_first(tmp_path: Path) -> None:
    assert MaintenanceSwitch(lambda: "cables", tmp_path / "none").reason() == "Lease: cables"
