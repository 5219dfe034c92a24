"""A file that the state survives a restart in.

It is written whole before a change takes effect, and never in place: after a crash it holds
the state before or after the last change. What is not such a file is refused and left alone.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from controlloop.api.json_text import parse_json
from controlloop.api.reading import UnknownKeys, read
from controlloop.api.spec_types import Form, Name
from controlloop.api.specs import OptimizerSpec, SystemSpec
from controlloop.errors import ControlLoopError, InputError, Problem
from controlloop.rest.state import State
from controlloop.rest.tables import empty, table

KIND: Final = "controlloop optimizer state"
VERSION: Final = 1


class StateFileError(ControlLoopError):
    """The state file cannot be written, or another process has it."""


class StateDocument(Form):
    """What stands in the file."""

    kind: Literal["controlloop optimizer state"] = Field(description="What this file is.")
    version: Literal[1] = Field(description="Version of this form.")
    models: Annotated[tuple[Name, ...], Field(description="Names of all models, in order.")]
    system: SystemSpec = Field(description="All data; its flags of the optimizer do not count.")


class StateFile:
    """The file at `path`. It belongs to one process: `lock` it before anything else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._lock: int | None = None
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why the last write failed; "" if it did not."""
        return self._problem

    def lock(self) -> None:
        """Take the file for this process, until the process ends.

        Raises:
            StateFileError: another process has it, or its folder cannot be written to.

        """
        beside = self._path.with_name(f".{self._path.name}.lock")
        try:
            self._lock = os.open(beside, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateFileError(f"state file {self._path}: another server uses it") from None
        except OSError as error:
            raise StateFileError(f"state file {self._path}: {beside}: {error.strerror}") from error

    def load(self) -> State:
        """What the file holds; nothing where there is none yet.

        Raises:
            InputError: it cannot be read, or is not a whole state file of this version.

        """
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise self._refused(Problem("", f"cannot be read: {error.strerror}")) from error
        try:
            return _state(text)
        except InputError as error:
            raise self._refused(*error.problems) from None

    def save(self, state: State) -> None:
        """Put `state` in the file; it is on the disk when this returns.

        Raises:
            StateFileError: it cannot be written; the file is as it was.

        """
        document = StateDocument(
            kind=KIND,
            version=VERSION,
            models=tuple(state.models),
            system=state.system(OptimizerSpec()),
        )
        text = document.model_dump_json(by_alias=True, exclude_none=True)
        try:
            self._write(text.encode())
        except OSError as error:
            self._problem = f"the state file cannot be written: {error.strerror}"
            raise StateFileError(f"{self._problem}; nothing was changed") from error
        self._problem = ""

    def _write(self, text: bytes) -> None:
        with self._partial.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._partial.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _refused(self, *problems: Problem) -> InputError:
        what = f"is no state file (version {VERSION}) that is whole: move it away to start empty"
        return InputError((*problems, Problem("", what)), f"state file {self._path}")


def _state(text: bytes) -> State:
    document = parse_json(text)
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise InputError([Problem("kind", f"must be {json.dumps(KIND)}")])
    if document.get("version") != VERSION:
        given = json.dumps(document.get("version"), default=str)
        raise InputError([Problem("version", f"must be {VERSION}", given)])
    kept = read(StateDocument, document, unknown=UnknownKeys.REJECT)
    state = State.of(kept.system)
    unnamed = [name for name in state.models if name not in kept.models]
    if unnamed:
        raise InputError([Problem("models", f"must name {json.dumps(unnamed[0])}")])
    models = table((name, state.models.get(name, empty())) for name in kept.models)
    return State(state.accelerators, state.capacities, models, state.classes, state.servers)
