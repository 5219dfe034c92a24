from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controlloop.api.files import PARTS
from controlloop.cli.app import app

pytestmark = pytest.mark.slow


def run(*arguments: str, text: str = "") -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, list(arguments), input=text)


SMALL = ("generate", "--servers", "6", "--accelerators", "4", "--seed", "9")


def test_standard_output_file_and_folder_hold_one_system(tmp_path: Path) -> None:
    text = run(*SMALL).stdout
    file, folder = tmp_path / "SYSTEM.JSON", tmp_path / "new" / "folder"
    assert run(*SMALL, "-o", str(file)).stdout == ""
    assert run(*SMALL, "-o", str(folder)).stdout == ""
    assert file.read_text() == text
    assert {each.name for each in folder.iterdir()} == set(PARTS)
    answers = [
        run("optimize", str(file), "--format", "json").stdout,
        run("optimize", str(folder), "--format", "json").stdout,
        run("optimize", "-", "--format", "json", text=text).stdout,
    ]
    assert answers[0] == answers[1] == answers[2]
    assert len(json.loads(answers[0])["allocations"]) == 6


def test_equal_seeds_write_equal_bytes_and_other_seeds_do_not() -> None:
    assert run(*SMALL).stdout == run(*SMALL).stdout != run(*SMALL[:-1], "10").stdout


@pytest.mark.parametrize(
    ("arguments", "errors"),
    [
        (
            ["--servers", "-3", "--accelerators", "0"],
            ["servers: must be from 0 to 100000, got -3", "accelerators: must be from 1 to 500"],
        ),
        (["--scarcity", "-1"], ["scarcity: must be a number > 0, got -1"]),
        (["-o", "/proc/none/at.json"], ["--output: cannot be written: No such file"]),
        # As the name of a folder it would be the one where the command runs.
        (["-o", ""], ["--output: must not be empty"]),
    ],
)
def test_what_cannot_be_made_ends_with_code_2(arguments: list[str], errors: list[str]) -> None:
    command = [sys.executable, "-m", "controlloop", "generate", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == len(errors)
    assert all(error in line for error, line in zip(errors, lines, strict=True))
