from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from controlloop.api.decision import Action
from controlloop.cli.demo_live import Board
from controlloop.cli.demo_report import highlights
from controlloop.composition.loop import demo_engine
from controlloop.settings.tree import Settings
from controlloop.simulator.demo import Demo, DemoOptions, DemoResult
from controlloop.simulator.fleet import read_fleet
from controlloop.simulator.simulation import CycleRecord

pytestmark = pytest.mark.slow


def controlloop(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controlloop", "demo", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_json_is_one_document_and_progress_goes_elsewhere(tmp_path: Path) -> None:
    done = controlloop(
        "--hours", "1.5", "--pace", "6", "--format", "json", "--plot", "day.png", cwd=tmp_path
    )

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["cycles"] == 15
    assert document["failedCycles"] == 0
    ours, fixed = document["controlled"], document["fixedAtPeak"]
    assert document["saving"] == pytest.approx(1 - ours["cost"] / fixed["cost"])
    assert [one["name"] for one in ours["classes"]] == ["Premium", "Standard", "Free"]
    assert all(one["reason"] for one in document["decisions"])
    assert (tmp_path / "day.png").read_bytes().startswith(b"\x89PNG")
    assert [line[:5] for line in done.stderr.splitlines()][:2] == ["01:00", "01:30"]


def test_tables_tell_cost_attainment_and_decisions(tmp_path: Path) -> None:
    done = controlloop("--hours", "0.5", "--pace", "3", "--plot", "day.svg", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    for words in ("fleet fixed at its peak", "Premium", "search-8b", "H100", "hold"):
        assert words in done.stdout
    assert "<svg" in (tmp_path / "day.svg").read_text()


def test_every_bad_option_is_named_before_anything_runs(tmp_path: Path) -> None:
    done = controlloop("--hours", "0.1", "--period", "600", "--plot", "no/day.gif", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["--hours", "--plot", "--plot"]
    assert "got no/day.gif" in lines[1]


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "day.png").mkdir()

    done = controlloop("--hours", "0.1", "--pace", "1", "--plot", "day.png", cwd=tmp_path)

    assert done.returncode == 1
    assert "day.png" in done.stderr
    assert "Objectives" in done.stdout


@pytest.fixture(scope="module")
def simulation() -> Demo:
    return Demo(read_fleet(), DemoOptions(hours=1.0), demo_engine(Settings()))


@pytest.fixture(scope="module")
def moments() -> list[CycleRecord]:
    return []


@pytest.fixture(scope="module")
def result(simulation: Demo, moments: list[CycleRecord]) -> DemoResult:
    return simulation.run(moments.append)


def draw(board: Board, encoding: str = "utf-8", width: int = 140) -> str:
    class Screen(StringIO):
        @property
        def encoding(self) -> str:  # type: ignore[override]
            return encoding

    screen = Screen()
    Console(file=screen, width=width).print(board)
    return screen.getvalue()


def test_the_live_table_shows_every_server_against_its_objectives(
    simulation: Demo, result: DemoResult, moments: list[CycleRecord]
) -> None:
    board = Board(simulation)
    assert "starting" in draw(board)
    for moment in moments[:10]:
        board.see(moment)

    lines = draw(board).splitlines()

    assert lines[0].startswith("00:10")
    (chat,) = [line for line in lines if "chat-8b" in line]
    assert "/ 500 " in chat
    assert "/ 25 " in chat
    assert "█" in chat
    last = moments[9].samples[-1]
    shown = {line.split()[0]: line for line in lines if line.strip()}
    for at, server in enumerate(result.controlled.history.servers):
        assert f" {last.ready[at]}" in shown[server.name]


@pytest.mark.parametrize(("width", "absent"), [(80, 2), (100, 1), (120, 0), (200, 0)])
def test_the_live_table_keeps_one_line_a_server_however_narrow_the_screen_is(
    simulation: Demo, moments: list[CycleRecord], result: DemoResult, width: int, absent: int
) -> None:
    board = Board(simulation)
    for moment in moments:
        board.see(moment)

    drawn = draw(board, width=width)

    table = [line for line in drawn.splitlines()[2:] if line.strip()]
    rows = table[-len(result.controlled.history.servers) :]
    assert [row.split()[0] for row in rows] == [
        server.name for server in result.controlled.history.servers
    ]
    assert all(len(line) <= width for line in drawn.splitlines())
    assert ["Class" in drawn, "change" in drawn].count(False) == absent


def test_the_live_table_shows_replicas_on_their_way(
    simulation: Demo, moments: list[CycleRecord]
) -> None:
    board = Board(simulation)

    def shows_a_change(moment: CycleRecord) -> bool:
        board.see(moment)
        return "-> " in draw(board)

    assert any(shows_a_change(moment) for moment in moments)


def test_a_screen_without_unicode_gets_plain_signs(
    simulation: Demo, result: DemoResult, moments: list[CycleRecord]
) -> None:
    board = Board(simulation)
    for moment in moments:
        board.see(moment)

    (line,) = [line for line in draw(board, "ascii").splitlines() if "chat-8b" in line]

    assert line.isascii()


def test_highlights_are_changes_and_holds_in_order_of_time(result: DemoResult) -> None:
    chosen = highlights(result)

    assert [one.time for one in chosen] == sorted(one.time for one in chosen)
    assert {one.decision.action for one in chosen} >= {Action.SCALE_DOWN, Action.HOLD}
    assert len(chosen) <= 8


def test_replicas_given_up_for_another_server_are_a_highlight(result: DemoResult) -> None:
    last = result.changes[-1]
    least = replace(last, decision=replace(last.decision, desired=last.decision.current))
    assert least not in highlights(replace(result, changes=(*result.changes, least)))
    given_up = replace(least, decision=replace(least.decision, makes_room_for=("chat-8b",)))
    assert given_up in highlights(replace(result, changes=(*result.changes, given_up)))
