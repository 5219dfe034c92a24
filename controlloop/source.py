"""The static data of a folder: read once or each cycle; a bad file keeps the last good data."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from controlloop.api.convert import system_from_spec
from controlloop.api.files import OPTIMIZER_FILE, SERVER_FILE, is_folder, read_folder
from controlloop.api.system import DEFAULT_QUEUE_MODEL, System
from controlloop.errors import InputError

MOUNTED: Final = "..data"
"""Where the kubelet has the files of a mounted ConfigMap: all of one version."""


class FolderSource:
    """Accelerators, capacity, models, classes and options from a folder of JSON files.

    Args:
        folder: where the files are.
        dynamic: read them again on each `load`; else the first good data stays for good.
        queue_model: for performance data that names none.

    """

    def __init__(
        self, folder: Path, *, dynamic: bool, queue_model: str = DEFAULT_QUEUE_MODEL
    ) -> None:
        self._folder = folder
        self._queue_model = queue_model
        self._dynamic = dynamic
        self._good: System | None = None
        self._problem: str | None = None
        self._lock = threading.Lock()
        self._log = structlog.get_logger("controlloop")

    def load(self) -> System:
        """The data in force: what is on disk if it is good, else the last that was.

        Raises:
            InputError: what is on disk is bad, and nothing good came before it.

        """
        with self._lock:
            if self._good is not None and not self._dynamic:
                return self._good
            try:
                read = read_folder(self._at_one_time(), optional=(OPTIMIZER_FILE, SERVER_FILE))
            except InputError as error:
                return self._last_good(error)
            system = replace(system_from_spec(read), servers=())
            self._good = system.with_queue_model(self._queue_model)
            if self._problem is not None:
                self._log.info("data-good-again", folder=str(self._folder))
            self._problem = None
            return self._good

    @property
    def problem(self) -> str | None:
        """Why the data in force is not what is on disk; None when it is."""
        return self._problem

    def _at_one_time(self) -> Path:
        """The folder; of a mounted ConfigMap, which a link replaces whole, what it links to now."""
        mounted = self._folder / MOUNTED
        return mounted.resolve() if is_folder(mounted) else self._folder

    def _last_good(self, error: InputError) -> System:
        if self._problem != str(error):
            for problem in error.problems:
                then = "the last good data stays in force" if self._good else "no cycle can run"
                file = problem.source or error.source
                self._log.error("data-bad", file=file, problem=str(problem), then=then)
        self._problem = str(error)
        if self._good is None:
            raise error
        return self._good
