"""Clocks. Time is a parameter everywhere else: no stage of the cycle reads a clock itself."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from controlloop.errors import DeadlineError


class Clock(Protocol):
    """What the daemon asks for the time; a simulator has its own."""

    def now(self) -> float:
        """Wall-clock time in seconds since the epoch: stamps samples and reports."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps: measures durations, deadlines, leases."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of a clock that only goes forward, and on Linux also while the machine sleeps.

        A lease or a deadline that outlived a suspended machine would let it write on old facts.
        """
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to; both of its faces move together."""

    def __init__(self, start: float = 0.0) -> None:
        self._seconds = start

    def now(self) -> float:
        """Seconds since the epoch of this clock."""
        return self._seconds

    def monotonic(self) -> float:
        """The same seconds: nothing jumps here."""
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds` (>= 0)."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back: advance({seconds})")
        self._seconds += seconds


class Deadline:
    """What is left of a budget of seconds, on the monotonic clock.

    A thread cannot be killed: every call that can block takes its time-out from here.
    """

    def __init__(self, clock: Clock, budget_s: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + budget_s

    def remaining_s(self) -> float:
        """Seconds left, 0 once the time is up."""
        return max(0.0, self._end - self._clock.monotonic())

    def timeout_s(self, wanted_s: float, what: str) -> float:
        """The time-out of a call that would like `wanted_s`: no more than what is left.

        Raises:
            DeadlineError: nothing is left; `what` names the call that is not made.

        """
        left = self.remaining_s()
        if left <= 0:
            raise DeadlineError(f"the cycle's time is up: {what} is not done in this cycle")
        return min(wanted_s, left)


def timestamp(time: float) -> str:
    """Seconds since the epoch as Kubernetes writes times."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
