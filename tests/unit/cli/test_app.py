from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controlloop import __version__
from controlloop.cli.app import app


def test_the_version_needs_no_command() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"{__version__}\n")


def test_no_command_is_bad_input_and_shows_them_all() -> None:
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 2
    assert "optimize" in done.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_in_one_line(root: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "controlloop", "optimize", str(root / "config" / "sample")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("controlloop: could not go on: ")
    assert "No space left" in line
