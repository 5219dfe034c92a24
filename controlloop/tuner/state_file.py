"""State in a file, replaced whole: after a crash it is that before or after the last save."""

from __future__ import annotations

import os
from pathlib import Path

from controlloop.errors import StateStoreError


class FileStateStore:
    """The file at `path`; its folder is made when it is first written.

    Args:
        path: where.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")

    def load(self) -> bytes | None:
        """What was saved last; None before the first time.

        Raises:
            StateStoreError: the file cannot be read.

        """
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateStoreError(f"{self._path} cannot be read: {error.strerror}") from error

    def save(self, state: bytes) -> None:
        """Put `state` in the file; it is on the disk when this returns.

        Raises:
            StateStoreError: it cannot be written; the file is as it was.

        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._partial.open("wb") as file:
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            self._partial.replace(self._path)
        except OSError as error:
            raise StateStoreError(f"{self._path} cannot be written: {error.strerror}") from error

    def set_aside(self) -> str:
        """Move the file away, so that what it holds is not lost; says where it is now.

        Raises:
            StateStoreError: it cannot be moved.

        """
        aside = next(
            path
            for number in range(1, 1_000_000)
            if not (path := self._path.with_name(f"{self._path.name}.bad-{number}")).exists()
        )
        try:
            self._path.replace(aside)
        except OSError as error:
            raise StateStoreError(f"{self._path} cannot be moved: {error.strerror}") from error
        return str(aside)
