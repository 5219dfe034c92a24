"""State in memory: of a replay, which must not touch the daemon's files."""

from __future__ import annotations


class MemoryStore:
    """Implements `protocols.StateStore` without any file.

    Args:
        state: what is kept at the start; None is nothing.

    """

    def __init__(self, state: bytes | None = None) -> None:
        self._state = state

    def load(self) -> bytes | None:
        """What was saved last."""
        return self._state

    def save(self, state: bytes) -> None:
        """Replace it."""
        self._state = state

    def set_aside(self) -> str:
        """Forget it; there is nowhere to move it."""
        self._state = None
        return "nowhere: it is not kept"
