"""Reads a recording, a cycle at a time: it may be longer than memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from controlloop.errors import InputError, Problem
from controlloop.replay.document import Header, Recorded, read_cycle, read_header


class Recording:
    """The recording that ends at `path`, with the parts before it that moved aside.

    Attributes:
        header: that of the oldest part.
        notes: remarks for people; they grow while it is read.

    Args:
        path: a file that `RecordingFile` wrote.

    Raises:
        InputError: a file cannot be read, or does not begin as a recording does.

    """

    def __init__(self, path: Path) -> None:
        self.notes: list[str] = []
        self._files = [path]
        self.header = _header(path)
        while self.header.part > 1:
            older = path.with_name(f"{path.name}.{len(self._files)}")
            if not older.exists() or (found := _header(older)).part != self.header.part - 1:
                self.notes.append(
                    f"{self._files[0].name} is part {self.header.part}, and the one before it is"
                    " not there: what was learned before is known only as far as it was kept"
                )
                break
            self._files.insert(0, older)
            self.header = found

    def cycles(self) -> Iterator[Recorded]:
        """Every cycle in order, each with its system; those that came to none have none.

        Raises:
            InputError: a line is none; the last one of a file may be torn, which is a note.

        """
        for path in self._files:
            yield from self._cycles(path)

    def _cycles(self, path: Path) -> Iterator[Recorded]:
        system = None
        for number, line in _lines(path):
            if number == 1:
                continue
            try:
                cycle = read_cycle(line)
            except InputError as error:
                if line.endswith("\n"):
                    raise _at(path, number, error) from None
                self.notes.append(f"line {number} is torn: the writer was stopped in it")
                return
            system = cycle.system or system
            yield replace(cycle, system=system)


def _header(path: Path) -> Header:
    first = next(_lines(path), (1, ""))[1]
    if not first.strip():
        raise InputError([Problem("", "is empty: a recording begins with a header")], str(path))
    try:
        return read_header(first)
    except InputError as error:
        raise _at(path, 1, error) from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line, with its end where it has one."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.decode("utf-8", errors="replace")
    except OSError as error:
        problem = Problem("", f"cannot be read: {error.strerror}")
        raise InputError([problem], str(path)) from error


def _at(path: Path, number: int, error: InputError) -> InputError:
    # Each line is a document of its own, which knows itself as line 1.
    placed = (each.path.removeprefix("line 1").lstrip(", ") for each in error.problems)
    problems = [
        replace(each, path=", ".join(filter(None, (f"line {number}", where))))
        for each, where in zip(error.problems, placed, strict=True)
    ]
    return InputError(problems, str(path))
