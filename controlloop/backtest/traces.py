"""What a process knows of the traces that it has read: each is read once for it, as it stands."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from controlloop.errors import Problem
from controlloop.simulator.workloads.trace import Trace, TraceError, TraceSummary

MOST_KNOWN: Final = 64


@dataclass(frozen=True, slots=True)
class KnownTrace:
    """A trace's summary, and the SHA-256 of its bytes, by which machines tell it from others."""

    summary: TraceSummary
    digest: str


def known_trace(path: str) -> KnownTrace:
    """What is in the file; it is read again only where it has changed.

    Raises:
        TraceError: every problem of the file.

    """
    try:
        now = Path(path).stat()
    except OSError as error:
        raise TraceError([Problem("", f"cannot be read: {error}")], path) from error
    return _read(path, now.st_size, now.st_mtime_ns)


@lru_cache(MOST_KNOWN)
def _read(path: str, _size: int, _changed_ns: int) -> KnownTrace:
    summary = Trace(Path(path)).summary()
    with Path(path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return KnownTrace(summary, digest)
