"""What keeps the whole loop from working as it should: typed, counted, told as events.

What concerns one server stands in that server's holds and on its Deployment. What concerns all
of them is told once: in the log, in a metric, and as an event on the Lease, which is the one
object of the cluster that is the daemon's own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final, TypeVar

import structlog

from controlloop.api.report import CycleReport
from controlloop.errors import ControlLoopError, StateStoreError
from controlloop.protocols import StateStore
from controlloop.telemetry import Metrics

T = TypeVar("T")

MOST_WAITING: Final = 32
"""Events that wait for an API server to come back; older ones are in the log alone."""

WriteEvent = Callable[[str, str], None]
"""Writes an event of this reason and message; raises ControlLoopError."""


class Trouble(StrEnum):
    """What lasts until it is over."""

    CYCLE_FAILED = "cycle-failed"
    METRICS_LOST = "metrics-lost"
    DATA_BAD = "data-bad"
    STATE_NOT_KEPT = "state-not-kept"
    MAINTENANCE = "maintenance"


class Moment(StrEnum):
    """What happens and is done; the values are the events' reasons."""

    LEASE_TAKEN = "LeaseTaken"
    CLOCK_JUMPED = "ClockJumped"
    STATE_SET_ASIDE = "StateSetAside"


REASONS: Final[Mapping[Trouble, tuple[str, str]]] = {
    Trouble.CYCLE_FAILED: ("CycleFailed", "CyclesResumed"),
    Trouble.METRICS_LOST: ("MetricsLost", "MetricsBack"),
    Trouble.DATA_BAD: ("DataBad", "DataGoodAgain"),
    Trouble.STATE_NOT_KEPT: ("StateNotKept", "StateKeptAgain"),
    Trouble.MAINTENANCE: ("MaintenanceBegan", "MaintenanceEnded"),
}
"""The reasons of the events that tell of a trouble's beginning and of its end."""


class Announcer:
    """Tells of each trouble when it begins and when it ends, and of each moment once.

    Args:
        metrics: the daemon's metrics.
        write: writes an event on the Lease; None where there is none to write on.

    """

    def __init__(self, metrics: Metrics, write: WriteEvent | None = None) -> None:
        self._metrics = metrics
        self._write = write
        self._standing: frozenset[Trouble] = frozenset()
        self._waiting: deque[tuple[str, str]] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()
        self._log = structlog.get_logger("controlloop")
        for kind in Trouble:
            metrics.troubles.labels(str(kind)).set(0)
        for moment in Moment:
            metrics.moments.labels(str(moment)).inc(0)

    def happened(self, moment: Moment, detail: str) -> None:
        """Count a moment and tell it with the next events; for any thread."""
        self._metrics.moments.labels(str(moment)).inc()
        say = self._log.info if moment is Moment.LEASE_TAKEN else self._log.warning
        say("moment", kind=str(moment), detail=detail)
        self._say(str(moment), detail)

    def standing(self, troubles: Mapping[Trouble, str]) -> None:
        """What is wrong now, each with its detail; what is not named any more is over."""
        for kind in Trouble:
            began, ended = REASONS[kind]
            now, before = kind in troubles, kind in self._standing
            self._metrics.troubles.labels(str(kind)).set(now)
            if now and not before:
                self._log.warning("trouble-began", kind=str(kind), detail=troubles[kind])
                self._say(began, troubles[kind])
            elif before and not now:
                self._log.info("trouble-ended", kind=str(kind))
                self._say(ended, f"{kind} is over")
        self._standing = frozenset(troubles)

    def write_events(self, *, leads: bool) -> None:
        """Write what waits, in order, as long as that goes well; only the leader writes."""
        while leads and self._write is not None:
            with self._lock:
                if not self._waiting:
                    return
                reason, detail = self._waiting[0]
            try:
                self._write(reason, detail)
            except ControlLoopError as error:
                self._log.info("event-waits", reason=reason, error=str(error))
                return
            with self._lock:
                if self._waiting and self._waiting[0] == (reason, detail):
                    self._waiting.popleft()

    def _say(self, reason: str, detail: str) -> None:
        if self._write is not None:
            with self._lock:
                self._waiting.append((reason, detail))


class ToldStore:
    """A state store whose failures are known: `problem` until a save succeeds.

    Args:
        part: whose state it is.
        store: where it is kept.
        announcer: hears of what is set aside.

    """

    def __init__(self, part: str, store: StateStore, announcer: Announcer) -> None:
        self.problem: str | None = None
        self._part = part
        self._store = store
        self._announcer = announcer

    def load(self) -> bytes | None:
        """What was saved last; StateStoreError where it cannot be read."""
        return self._noted(self._store.load)

    def save(self, state: bytes) -> None:
        """Replace what is kept; StateStoreError where it cannot be."""
        self._noted(lambda: self._store.save(state))

    def set_aside(self) -> str:
        """Move what is kept out of the way; says where it is now."""
        where = self._noted(self._store.set_aside)
        detail = f"the {self._part}'s state was not usable, and is now in {where}"
        self._announcer.happened(Moment.STATE_SET_ASIDE, detail)
        return where

    def _noted(self, work: Callable[[], T]) -> T:
        try:
            answer = work()
        except StateStoreError as error:
            self.problem = f"the {self._part}'s state: {error}"
            raise
        self.problem = None
        return answer


def troubles_of(
    report: CycleReport | None, data_problem: str | None, stores: Iterable[ToldStore]
) -> dict[Trouble, str]:
    """What is wrong after a cycle, or on a standby, which has no report."""
    return dict(_found(report, data_problem, stores))


def _found(
    report: CycleReport | None, data_problem: str | None, stores: Iterable[ToldStore]
) -> Iterator[tuple[Trouble, str]]:
    if report is not None and report.failure is not None:
        failed = report.failure
        yield (
            Trouble.CYCLE_FAILED,
            f"in its {failed.stage} stage, {failed.error}: {failed.message}; nothing is changed",
        )
    if report is not None and report.observation is not None:
        lost = report.observation.metrics_problem
        if lost is not None:
            yield Trouble.METRICS_LOST, f"{lost}; nothing is taken away"
    if report is not None and report.maintenance:
        yield Trouble.MAINTENANCE, f"{report.maintenance}; nothing is written to the fleet"
    if data_problem is not None:
        yield Trouble.DATA_BAD, f"{data_problem}; the last good data stays in force"
    kept = [one.problem for one in stores if one.problem is not None]
    if kept:
        yield Trouble.STATE_NOT_KEPT, "; ".join(kept)
