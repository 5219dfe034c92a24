"""The project's own errors; each is written for the person who reads it.

A message says what was wrong, where, with which value, and what happens now.
Errors of clients (Kubernetes, HTTP) are translated into these at the boundary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class ControlLoopError(Exception):
    """Base of every error that this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One bad value of an input: where it stands, which rule it breaks, what it is.

    `source` names the file, where several are read as one.
    """

    path: str
    rule: str
    value: str | None = None
    source: str = ""

    def __str__(self) -> str:
        shown = f"{self.path}: {self.rule}" if self.path else self.rule
        return shown if self.value is None else f"{shown}, got {self.value}"


class InputError(ControlLoopError):
    """Bad input. Carries every problem found, not just the first; nothing was applied."""

    def __init__(self, problems: Iterable[Problem], source: str = "") -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.source = source
        named = [(problem.source or source, str(problem)) for problem in self.problems]
        super().__init__("\n".join(f"{name}: {line}" if name else line for name, line in named))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Problem, ...], str]]:
        """How it is sent from one process to another."""
        return type(self), (self.problems, self.source)


class SettingsError(InputError):
    """Bad settings, from a file, the environment or the command line."""


class UnknownPluginError(ControlLoopError):
    """A plug-in was asked for by a name that nobody registered."""


def error_in_words(error: Exception, longest: int = 200) -> str:
    """One line for an exception of code that is not ours: its type, and the first of its words."""
    lines = str(error).strip().splitlines()
    text = lines[0][:longest] if lines else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class MetricsError(ControlLoopError):
    """The metric source could not answer: unreachable, too slow, or it reported an error."""


class ClusterError(ControlLoopError):
    """The Kubernetes API refused or could not answer a request."""


class ConflictError(ClusterError):
    """The object changed since it was read (HTTP 409)."""


class NotFoundError(ClusterError):
    """The object is gone (HTTP 404)."""


class ForbiddenError(ClusterError):
    """The account may not do this (HTTP 401 or 403)."""


class InvalidObjectError(ClusterError):
    """The API server holds the object to be wrong (HTTP 400 or 422)."""


class UnavailableError(ClusterError):
    """The API server is unreachable, overloaded or too slow; trying later may help."""


class DeadlineError(ControlLoopError):
    """The cycle's time ran out before this step could finish."""


class NotLeaderError(ControlLoopError):
    """A write was refused because this process does not hold the lease for long enough."""


class StateStoreError(ControlLoopError):
    """What was learned cannot be kept, or not be read back; the loop works on without."""


class StateTooLargeError(StateStoreError):
    """It is more than what keeps it can hold: less of it may fit."""
