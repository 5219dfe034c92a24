from __future__ import annotations

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
