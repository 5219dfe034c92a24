"""Writes each cycle's inputs to a file as it runs, within a bound of bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import structlog

from controlloop.api.report import CycleReport
from controlloop.api.system import System
from controlloop.clock import Clock, Deadline
from controlloop.cycle import Cycle, Parts
from controlloop.protocols import Source
from controlloop.replay.document import Header, cycle_line, header_line, recorded_of


class RecordingFile:
    """JSON lines in `path`; a full file becomes `path`.1, the one before it `path`.2, and so on.

    What cannot be written is said once and fails no cycle.

    Args:
        path: where.
        header: of a new file, by the number of its part.
        most_bytes: of one file; one cycle may exceed it.
        keep: files besides the one that is written.

    """

    def __init__(
        self, path: Path, header: Callable[[int], Header], most_bytes: int, keep: int
    ) -> None:
        self._path = path
        self._header = header
        self._most_bytes = most_bytes
        self._keep = keep
        self._part = 0
        self._bytes = 0
        self._is_open = False
        self._is_well = True
        self._system: System | None = None
        self._log = structlog.get_logger("controlloop")

    def prepare(self) -> None:
        """Begin a file if one is due: before the cycle, whose parts learn from it."""
        if self._is_open and self._bytes < self._most_bytes:
            return
        try:
            self._begin()
        except OSError as error:
            self._fail(error)

    def add(self, report: CycleReport, since: float, system: System | None) -> None:
        """Write one cycle; the system only where it is another one than before."""
        if not self._is_open:
            return
        changed = system if system != self._system else None
        try:
            self._append(cycle_line(recorded_of(report, since, changed)))
        except (OSError, ValueError) as error:
            self._fail(error)
            return
        self._system = system
        if not self._is_well:
            self._log.info("recording-goes-on", file=str(self._path))
        self._is_well = True

    def _fail(self, error: Exception) -> None:
        if self._is_well:
            self._log.error("recording-not-written", file=str(self._path), error=str(error))
        self._is_well = False
        # What is half written ends there: the next cycle begins a file of its own.
        self._is_open = False

    def _begin(self) -> None:
        """A new file; those of before move up, the oldest goes, once the new one can be written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        data = (header_line(self._header(self._part + 1)) + "\n").encode()
        fresh = self._path.with_name(f".{self._path.name}.new")
        fresh.write_bytes(data)
        aged = [self._aged(at) for at in range(self._keep + 1)]
        for young, old in reversed(list(pairwise(aged))):
            if young.exists():
                young.replace(old)
        fresh.replace(self._path)
        self._system, self._bytes, self._is_open = None, len(data), True
        self._part += 1

    def _aged(self, age: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{age}") if age else self._path

    def _append(self, line: str) -> None:
        data = (line + "\n").encode()
        with self._path.open("ab") as file:
            file.write(data)
        self._bytes += len(data)


class RecordingCycle(Cycle):
    """A cycle that is written down.

    Args:
        parts: the plug-ins.
        clock: measures the stages.
        drain_time_s: see `Cycle`.
        file: takes each cycle.

    """

    def __init__(
        self, parts: Parts, clock: Clock, drain_time_s: float, file: RecordingFile
    ) -> None:
        self._watched = _WatchedSource(parts.source)
        super().__init__(replace(parts, source=self._watched), clock, drain_time_s)
        self._file = file

    def run_once(
        self,
        now: float,
        deadline: Deadline,
        since: float = 0.0,
        stop: Callable[[], bool] = lambda: False,
    ) -> CycleReport:
        """Run one cycle and write it down, whatever became of it."""
        self._file.prepare()
        report = super().run_once(now, deadline, since, stop)
        self._file.add(report, since, self._watched.loaded)
        return report


class _WatchedSource:
    """A source whose last answer is known."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.loaded: System | None = None

    def load(self) -> System:
        """The source's answer."""
        self.loaded = self._source.load()
        return self.loaded

    @property
    def problem(self) -> str | None:
        """The source's."""
        return self._source.problem
