"""Builds where reports go."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from controlloop.errors import Problem, SettingsError


def line_writer(file: str) -> Callable[[str], None] | None:
    """What appends a line to `file`, `-` for standard output; None where no file is named.

    Raises:
        SettingsError: the file cannot be written.

    """
    if not file:
        return None
    if file == "-":
        return lambda line: _write_line(sys.stdout, line)
    path = Path(file)
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise SettingsError([Problem("report.file", "must lie in a folder that exists", file)])

    def append(line: str) -> None:
        with path.open("a", encoding="utf-8") as stream:
            _write_line(stream, line)

    return append


def _write_line(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()
