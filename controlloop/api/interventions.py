"""Who else sets what we set: people, and tools that put back what they know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Author:
    """Who set a field last, as the API server keeps it.

    `time` is seconds since the epoch; None where the entry tells of other fields too, or of the
    object's making. `ours`: it was this program.
    """

    manager: str
    time: float | None = None
    ours: bool = False


class InterventionKind(StrEnum):
    """What somebody else does to a server."""

    MANUAL = "manual"
    REVERTING = "reverting"


@dataclass(frozen=True, slots=True)
class Intervention:
    """What is left alone, whose it is, and until when (seconds since the epoch)."""

    kind: InterventionKind
    manager: str
    since: float
    until: float
    detail: str
