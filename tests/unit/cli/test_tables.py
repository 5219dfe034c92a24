from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from pathlib import Path

import pytest

from controlloop.api.decision import Action, Decision
from controlloop.api.system import Allocation
from controlloop.cli.tables import decisions_table, print_tables

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_a_narrow_terminal_costs_no_digit_and_no_name(columns: int, root: Path) -> None:
    command = [sys.executable, "-m", "controlloop", "optimize", str(root / "config" / "sample")]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = os.posix_spawn(
        sys.executable,
        command,
        {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(columns)},
        file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 1)],
    )
    os.close(theirs)
    shown = _read_all(ours)
    os.close(ours)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for whole in ("chat-8b", "Standard", "1180.00", "487 / 1500"):
        assert whole in shown


def _read_all(terminal: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


def test_what_looks_like_a_style_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    name, reason = "chat[/b]", "keeps [red] what it has :smile:"
    runs = Allocation("A100", 2, 64)
    print_tables(decisions_table([Decision(name, Action.KEEP, runs, runs, reason)], {name}))
    shown = capsys.readouterr().out
    assert name in shown
    assert reason in shown


def test_a_load_that_is_not_known_is_not_shown_as_zero(capsys: pytest.CaptureFixture[str]) -> None:
    runs = Allocation("A100", 2, 64)
    both = [Decision(name, Action.HOLD, runs, runs, "holds") for name in ("idle", "unseen")]
    print_tables(decisions_table(both, {"idle"}))
    rows = {
        line.split()[0]: line.split()
        for line in capsys.readouterr().out.splitlines()
        if line.strip()
    }
    assert rows["idle"][4] == "0.0"
    assert rows["unseen"][4] == "?"
