"""Rows that are done, in a file of JSON lines: what is in it is never run again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from controlloop.api.files import is_absent
from controlloop.backtest.executors import Executor, Work
from controlloop.backtest.jobs import Job, Row
from controlloop.errors import InputError, Problem


class Results:
    """Rows by job, kept in memory, and in a file where there is one.

    Args:
        path: appended to as each row comes; None keeps nothing.

    Raises:
        InputError: the file cannot be read, or holds something else.

    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._rows: dict[str, Row] = {}
        if path is not None and not is_absent(path):
            self._rows.update(_read(path))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, job: Job) -> bool:
        return job.key in self._rows or _pictured(job).key in self._rows

    def __getitem__(self, job: Job) -> Row:
        found = self._rows.get(job.key)
        return self._rows[_pictured(job).key] if found is None else found

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that are not done, each once, in their order.

        A run that is pictured serves where no picture is asked for.
        """
        wanted = dict.fromkeys(jobs)
        return [
            job
            for job in wanted
            if job not in self and (job.pictured or _pictured(job) not in wanted)
        ]

    def complete(self, work: Work, jobs: Sequence[Job], executor: Executor) -> Iterator[Job]:
        """Run what is missing; each job that ends is kept, then given back.

        Raises:
            InputError: the file cannot be written.

        """
        missing = self.missing(jobs)
        running = executor.run(work, missing)
        try:
            for job, row in running:
                self._keep(job, row)
                yield job
        finally:
            close = getattr(running, "close", None)
            if close is not None:
                close()

    def _keep(self, job: Job, row: Row) -> None:
        line = json.dumps({"job": json.loads(job.key), "row": row}, allow_nan=False)
        if self._path is not None:
            try:
                with self._path.open("a", encoding="utf-8") as stream:
                    stream.write(line + "\n")
            except OSError as error:
                rule = f"cannot be written: {error}"
                raise InputError([Problem("", rule)], str(self._path)) from error
        # As it will be read: equal whether it was run now or before.
        self._rows[job.key] = json.loads(line)["row"]


def _pictured(job: Job) -> Job:
    return replace(job, pictured=True)


def _read(path: Path) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem("", f"cannot be read: {error}")], str(path)) from error
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            entry: dict[str, Any] = json.loads(line)
            rows[json.dumps(entry["job"], sort_keys=True)] = entry["row"]
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not line.endswith("\n"):
                # Cut off in the middle of a write: that job runs again.
                path.write_text("".join(lines[:-1]), encoding="utf-8")
                break
            rule = "is no line of results of a sweep; name another file, or remove this one"
            raise InputError([Problem(f"line {number}", rule)], str(path)) from error
    return rows
